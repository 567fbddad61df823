//! Writing the elements of an SVG picture.

use std::fmt::{self, Write};

use minijinja::HtmlEscape;

use crate::rect::Rect;
use crate::text;

/// The elements written so far.
#[derive(Default)]
pub(crate) struct Canvas {
    out: String,
}

/// One line of text.
pub(crate) struct Label<'a> {
    pub text: &'a str,
    pub class: &'a str,
    pub x: f64,
    /// The baseline.
    pub y: f64,
    pub size: f64,
    pub anchor: Anchor,
    /// Whether it is rotated to read upwards.
    pub rotated: bool,
}

/// Which part of the text is at `x`.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A coordinate, written with at most two decimals.
pub(crate) struct Num(pub f64);

impl Canvas {
    pub fn into_string(self) -> String {
        self.out
    }

    /// Appends markup without escaping.
    pub fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    pub fn text(&mut self, label: &Label) {
        if label.text.is_empty() {
            return;
        }
        let Label { class, size, .. } = label;
        let (x, y) = (Num(label.x), Num(label.y));
        let anchor = match label.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let place = match label.rotated {
            true => format!("transform=\"translate({x} {y}) rotate(-90)\""),
            false => format!("x=\"{x}\" y=\"{y}\""),
        };
        let text = attribute(label.text);
        self.write(format_args!("<text class=\"{class}\" font-size=\"{size}\" {place}{anchor}>{text}</text>"));
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (x1, y1, x2, y2) = (Num(from.0), Num(from.1), Num(to.0), Num(to.1));
        self.write(format_args!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"));
    }

    /// A rectangle with attributes such as `class="..."` or `fill="..."`.
    pub fn rect(&mut self, attributes: &str, rect: Rect) {
        let (x, y, width, height) = (Num(rect.x), Num(rect.y), Num(rect.width.max(0.0)), Num(rect.height.max(0.0)));
        self.write(format_args!("<rect {attributes} x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"));
    }

    /// A path with attributes; nothing is written if `d` is empty.
    pub fn path(&mut self, attributes: &str, d: &str) {
        if !d.is_empty() {
            self.write(format_args!("<path {attributes} d=\"{d}\"/>"));
        }
    }

    fn write(&mut self, markup: fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(markup);
    }
}

impl<'a> Label<'a> {
    /// Horizontal text, centred at x, with the baseline at y.
    pub fn middle(text: &'a str, class: &'a str, (x, y): (f64, f64), size: f64) -> Self {
        Self { text, class, x, y, size, anchor: Anchor::Middle, rotated: false }
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 100.0).round() / 100.0;
        // Negative zero, which Rust writes as "-0", and non-finite values are written as "0".
        if rounded.is_finite() && rounded != 0.0 { write!(f, "{rounded}") } else { f.write_str("0") }
    }
}

/// Text cleaned and escaped for an attribute value or element content.
pub(crate) fn attribute(text: &str) -> String {
    HtmlEscape(&text::clean(text)).to_string()
}

/// The characters of a name that are safe in an id and in `url(#...)`, or `chart` if there are none.
pub(crate) fn identifier(name: &str) -> String {
    let id: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    if id.is_empty() { "chart".into() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        for (value, written) in
            [(1.0, "1"), (-0.001, "0"), (12.345_678, "12.35"), (-3.5, "-3.5"), (f64::NAN, "0"), (f64::INFINITY, "0")]
        {
            assert_eq!(Num(value).to_string(), written);
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(attribute("a<b>&\"c\u{0}\""), "a&lt;b&gt;&amp;&quot;c\u{fffd}&quot;");
        assert_eq!(identifier("a\"> b)#1"), "ab1");
        assert_eq!(identifier("答"), "chart");
    }
}
