//! Texts in columns.

use console::{Alignment, measure_text_width, pad_str};

/// The width of the terminal in columns; 80 without a terminal.
pub fn terminal_width() -> usize {
    usize::from(console::Term::stdout().size().1)
}

/// Lays texts out in columns under their names, within `width` if that allows columns of at least 12.
pub fn columns(names: &[String], texts: &[String], width: usize) -> String {
    const GAP: &str = "  ";
    const MIN_WIDTH: usize = 12;
    let column = ((width + GAP.len()) / names.len().max(1)).saturating_sub(GAP.len()).max(MIN_WIDTH);
    let mut columns: Vec<Vec<String>> = Vec::new();
    for (name, text) in names.iter().zip(texts) {
        columns.push([name.clone(), "-".repeat(column)].into_iter().chain(wrapped(text, column)).collect());
    }
    let mut out = String::new();
    for line in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
        let cells = columns.iter().map(|lines| lines.get(line).map_or("", String::as_str));
        let row = cells.map(|cell| pad_str(cell, column, Alignment::Left, None)).collect::<Vec<_>>().join(GAP);
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}

/// Lines of at most `width` columns. Control characters, which could move the cursor, become replacement characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let (mut current, mut used) = (String::new(), 0);
        for c in line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
            let wide = measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used + wide > width {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push(c);
            used += wide;
        }
        lines.push(current);
    }
    lines
}
