//! The encoding of text files, and the `NaN` and `Infinity` that Python writes into JSON.

use std::borrow::Cow;

use crate::error::DataError;

/// The byte order mark that some editors write before UTF-8.
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// The byte order marks of other encodings; that of UTF-32 begins like one of UTF-16.
const OTHER_BOMS: [(&[u8], &str); 4] = [
    (b"\xff\xfe\0\0", "UTF-32 (little endian)"),
    (b"\0\0\xfe\xff", "UTF-32 (big endian)"),
    (b"\xff\xfe", "UTF-16 (little endian)"),
    (b"\xfe\xff", "UTF-16 (big endian)"),
];

/// The beginning of a git-lfs pointer.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Checks the first bytes of a file: it must be neither text in another encoding nor a git-lfs pointer.
pub(super) fn check_start(start: &[u8], file: &str) -> Result<(), DataError> {
    let file = file.to_owned();
    if start.starts_with(LFS_POINTER) {
        return Err(DataError::LfsPointer { file });
    }
    match OTHER_BOMS.iter().find(|(bom, _)| start.starts_with(bom)) {
        Some((_, encoding)) => Err(DataError::Encoding { file, encoding }),
        None => Ok(()),
    }
}

/// The bytes after the byte order mark of UTF-8, if there is one.
pub(super) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(UTF8_BOM).unwrap_or(bytes)
}

/// The text of UTF-8 bytes. The error names the first invalid byte.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))
}

/// Valid JSON for JSON with `NaN`, `Infinity` or `-Infinity`: with `null`, or a number beyond the range of doubles. That
/// number has the length of `Infinity`, so that the columns in errors do not change.
pub(super) fn valid_json(text: &str) -> Cow<'_, str> {
    if !text.contains(NAN) && !text.contains(INFINITY) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find(['"', 'N', 'I']) {
        let (before, word) = rest.split_at(place);
        out.push_str(before);
        let (replacement, length) = match word {
            _ if word.starts_with(NAN) => ("null", NAN.len()),
            _ if word.starts_with(INFINITY) => (BEYOND_DOUBLES, INFINITY.len()),
            _ => {
                let length = if word.starts_with('"') { string_length(word) } else { 1 };
                (word.get(..length).unwrap_or(word), length)
            }
        };
        out.push_str(replacement);
        rest = word.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The text of a number in the result of [`valid_json`]: infinities are `inf` and `-inf`, as in a Parquet file.
pub(super) fn number(text: String) -> String {
    match text.strip_prefix('-').unwrap_or(&text) {
        BEYOND_DOUBLES => text.replace(BEYOND_DOUBLES, "inf"),
        _ => text,
    }
}

const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const BEYOND_DOUBLES: &str = "1e999999";

/// The length of the JSON string at the start of `text`; the whole length if the string is not terminated.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_infinity_become_valid_json() {
        for (text, expected) in [
            (r#"{"a": NaN, "b": [NaN,-Infinity]}"#, r#"{"a": null, "b": [null,-1e999999]}"#),
            (r#"{"a": Infinity}"#, r#"{"a": 1e999999}"#),
            (r#"{"NaN": "Infinity \" NaN", "I": N}"#, r#"{"NaN": "Infinity \" NaN", "I": N}"#),
            (r#"{"é": "π\\", "b": NaN}"#, r#"{"é": "π\\", "b": null}"#),
            (r#"{"a": "NaN"#, r#"{"a": "NaN"#),
        ] {
            assert_eq!(valid_json(text), expected);
        }
        let numbers = ["1e999999", "-1e999999", "1e5"].map(|text| number(text.to_owned()));
        assert_eq!(numbers, ["inf", "-inf", "1e5"]);
    }

    #[test]
    fn other_encodings_and_git_lfs_pointers_are_errors() {
        let error = |start: &[u8]| check_start(start, "f").unwrap_err().to_string();
        assert_eq!(error(b"\xff\xfe{\0"), "f is UTF-16 (little endian) text: save it as UTF-8");
        assert_eq!(error(b"\xfe\xff\0{"), "f is UTF-16 (big endian) text: save it as UTF-8");
        assert_eq!(error(b"\xff\xfe\0\0{\0\0\0"), "f is UTF-32 (little endian) text: save it as UTF-8");
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
        assert_eq!(error(pointer), "f is a git-lfs pointer, not the data: run `git lfs pull` in its repository");
        for start in [&b""[..], b"{", b"\xef\xbb\xbf{", b"PAR1"] {
            assert!(check_start(start, "f").is_ok());
        }
    }
}
