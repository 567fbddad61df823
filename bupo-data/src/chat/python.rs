//! Python's `json.dumps` and `strftime`: minijinja's `tojson` escapes for HTML and lays JSON out in another way, and
//! chrono refuses directives that Python copies.

use std::fmt::Write as _;
use std::io::{self, Write};

use chrono::NaiveDateTime;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// The longest JSON, in bytes.
const JSON_LIMIT: usize = 16 << 20;

/// The widest indent of JSON, in characters.
const INDENT_LIMIT: usize = 64;

/// The `tojson` filter: the JSON that Python's `json.dumps` writes.
pub(super) fn tojson(state: &State, value: &Value, indent: Option<Value>, args: Kwargs) -> Result<Value, Error> {
    let ensure_ascii = args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = args.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = args.get::<Option<Vec<String>>>("separators")?;
    let indent = indent.or(args.get::<Option<Value>>("indent")?);
    args.assert_all_used()?;
    let indent = indent.as_ref().map(indent_text).transpose()?.flatten();
    let (item, colon) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, colon]) => (item.as_str(), colon.as_str()),
        Some(_) => return Err(invalid("`separators` of tojson must be two strings")),
    };
    let mut json = serde_json::to_value(value).map_err(|error| invalid(&format!("cannot write JSON: {error}")))?;
    if sort_keys {
        json.sort_all_objects();
    }
    let mut out = Capped(Vec::new());
    let style = PythonStyle { item, colon, indent, ensure_ascii, depth: 0, has_value: false };
    json.serialize(&mut Serializer::with_formatter(&mut out, style))
        .map_err(|error| Error::new(ErrorKind::OutOfFuel, format!("cannot write JSON: {error}")))?;
    // Writing JSON takes several times as long as copying it.
    state.consume_fuel(out.0.len() as u64 / 16)?;
    String::from_utf8(out.0).map(Value::from).map_err(|error| invalid(&error.to_string()))
}

/// Python's `strftime` for a time without a time zone. An unknown directive is copied.
pub(super) fn strftime(time: NaiveDateTime, format: &str) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let unpadded = chars.next_if_eq(&'-').is_some();
        match chars.next() {
            Some('f') if !unpadded => out.push_str(&time.format("%6f").to_string()),
            // A time without a time zone has no name and no offset.
            Some('z' | 'Z') if !unpadded => {}
            Some(directive) if "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%".contains(directive) => {
                let dash = if unpadded { "-" } else { "" };
                // Formatting into a string fails only at a directive that chrono does not support.
                let start = out.len();
                if write!(out, "{}", time.format(&format!("%{dash}{directive}"))).is_err() {
                    out.truncate(start);
                }
            }
            directive => {
                out.push('%');
                out.extend(unpadded.then_some('-'));
                out.extend(directive);
            }
        }
    }
    out
}

fn indent_text(indent: &Value) -> Result<Option<String>, Error> {
    let text = match indent.kind() {
        ValueKind::None | ValueKind::Undefined => return Ok(None),
        ValueKind::String => indent.as_str().unwrap_or_default().to_owned(),
        _ => {
            let width = i64::try_from(indent.clone())?.max(0);
            " ".repeat(usize::try_from(width).unwrap_or(usize::MAX).min(INDENT_LIMIT + 1))
        }
    };
    if text.len() > INDENT_LIMIT {
        return Err(invalid("the indent of tojson is too wide"));
    }
    Ok(Some(text))
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_owned())
}

/// A buffer of at most [`JSON_LIMIT`] bytes.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > JSON_LIMIT {
            return Err(io::Error::other("it is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layout of `json.dumps`.
struct PythonStyle<'a> {
    item: &'a str,
    colon: &'a str,
    indent: Option<String>,
    ensure_ascii: bool,
    depth: usize,
    has_value: bool,
}

impl PythonStyle<'_> {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.new_line(out)?;
        }
        self.has_value = true;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.new_line(out)
    }

    fn new_line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(indent.as_bytes()))
    }
}

impl Formatter for PythonStyle<'_> {
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => out.write_all(text.as_bytes()),
            Some((digits, power)) => {
                let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
                write!(out, "{digits}e{sign}{power:0>2}")
            }
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return out.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if (' '..='~').contains(&c) {
                write!(out, "{c}")?;
            } else {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        let text = match escape {
            CharEscape::Quote => "\\\"",
            CharEscape::ReverseSolidus => "\\\\",
            CharEscape::Solidus => "/",
            CharEscape::Backspace => "\\b",
            CharEscape::FormFeed => "\\f",
            CharEscape::LineFeed => "\\n",
            CharEscape::CarriageReturn => "\\r",
            CharEscape::Tab => "\\t",
            CharEscape::AsciiControl(byte) => return write!(out, "\\u{byte:04x}"),
        };
        out.write_all(text.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.colon.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_python() {
        let time = chrono::NaiveDate::from_ymd_opt(2024, 7, 5).unwrap().and_hms_micro_opt(4, 3, 2, 1).unwrap();
        assert_eq!(
            strftime(time, "%d %b %Y|%-d %B|%H:%M:%S|%f|%A %j|%%"),
            "05 Jul 2024|5 July|04:03:02|000001|Friday 187|%"
        );
        assert_eq!(strftime(time, "[%Z%z] %Q %-Q 100%"), "[] %Q %-Q 100%");
        assert_eq!(
            strftime(time, "%c|%x|%X|%y|%I %p|%U %W %w %u|%G-%V"),
            "Fri Jul  5 04:03:02 2024|07/05/24|04:03:02|24|04 AM|26 27 5 5|2024-27"
        );
    }
}
