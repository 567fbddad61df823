//! A lens on the screen: policies by positions, and one token through the layers.

use std::ops::Range;

use bupo_analysis::visible;
use bupo_report::{LensCell, LensGrid};
use console::{Alignment, Style, measure_text_width, pad_str};

use crate::screen::terminal_width;

/// The widest token of a cell, in columns of the terminal.
const TOKEN: usize = 9;
/// The space between columns.
const GAP: usize = 2;
/// The least width of a column: a token of one character, its percentage, and the gap.
const NARROWEST: usize = 5 + GAP;

/// As many positions as can fit on the screen.
pub fn most_columns() -> usize {
    terminal_width() / NARROWEST
}

/// A table with a row per name and a column per position.
pub struct Columns<'a> {
    pub names: Vec<String>,
    /// The third line of a column's head, under the position's number and token; empty lines are left out.
    pub third: &'a dyn Fn(usize) -> String,
    /// The text of a row's cell in a column, and its style.
    pub cell: &'a dyn Fn(usize, usize) -> (String, Style),
}

/// Prints the most probable token of each policy at each position. `all` prints as many blocks as that takes; otherwise only the
/// last positions that fit.
pub fn print_grid(grid: &LensGrid, all: bool) {
    let width = |column: usize| {
        let tokens = grid.rows.iter().filter_map(|row| row.cells[column].top.first()).map(|token| token.text.as_str());
        tokens.map(|text| measure_text_width(&short(text))).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..grid.positions.len()).map(width).collect();
    let columns = Columns {
        names: grid.rows.iter().map(|row| row.site.to_string()).collect(),
        third: &|_| String::new(),
        cell: &|row, column| policy(&grid.rows[row].cells[column], widths[column]),
    };
    print_table(grid, &columns, all);
}

/// Prints a table. `all` as of [`print_grid`].
pub fn print_table(grid: &LensGrid, Columns { names, third, cell }: &Columns<'_>, all: bool) {
    let label = names.iter().map(String::len).max().unwrap_or(0) + GAP;
    let width = |column: usize| {
        let cells = (0..names.len()).map(|row| measure_text_width(&cell(row, column).0));
        let heads = [short(&grid.positions[column].text), third(column)].map(|text| measure_text_width(&text));
        cells.chain(heads).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..grid.positions.len()).map(width).collect();
    let blocks = blocks(&widths, terminal_width().saturating_sub(label), all);
    for columns in &blocks {
        outln!();
        let head = |cell: &dyn Fn(usize) -> String| {
            let cells = columns.clone().map(|column| padded(&cell(column), widths[column] + GAP));
            format!("{:label$}{}", "", cells.collect::<String>())
        };
        outln!("{}", head(&|column| grid.positions[column].number.to_string()).trim_end());
        let bold = Style::new().bold();
        outln!("{}", bold.apply_to(head(&|column| short(&grid.positions[column].text)).trim_end()));
        let third = head(third);
        if !third.trim().is_empty() {
            outln!("{}", third.trim_end());
        }
        for (row, name) in names.iter().enumerate() {
            let cells = columns.clone().map(|column| {
                let (text, style) = cell(row, column);
                style.apply_to(padded(&text, widths[column] + GAP)).to_string()
            });
            outln!("{name:label$}{}", cells.collect::<String>().trim_end());
        }
    }
    let first = blocks.first().map_or(1, |columns| grid.positions[columns.start].number);
    if !all && first > 1 {
        let left = first - 1;
        let range = if left == 1 { "1".to_string() } else { format!("1-{left}") };
        outln!("\nleft out for width: {range}; --position {range} or --html FILE.html shows them");
    }
}

/// Ranges of columns that fit into `room`: as many as all of them take, or the last one only.
fn blocks(widths: &[usize], room: usize, all: bool) -> Vec<Range<usize>> {
    // The gap after the last column may stick out.
    let used = |columns: Range<usize>| columns.map(|column| widths[column] + GAP).sum::<usize>() - GAP;
    let fits = |columns: &Range<usize>| columns.len() == 1 || used(columns.clone()) <= room;
    if !all {
        return (0..widths.len()).map(|start| start..widths.len()).find(fits).into_iter().collect();
    }
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for end in 1..=widths.len() {
        match blocks.last_mut().filter(|block| fits(&(block.start..end))) {
            Some(block) => block.end = end,
            None => blocks.push(end - 1..end),
        }
    }
    blocks
}

/// Prints the place of the followed token by policy, at each position.
pub fn print_followed(grid: &LensGrid, token: &str) {
    for (column, position) in grid.positions.iter().enumerate() {
        outln!("\n{token:?} after position {} {:?}", position.number, position.text);
        outln!("{:<9} {:>8} {:>10} {:>12}", "site", "rank", "logit", "probability");
        for row in &grid.rows {
            if let Some(place) = row.cells[column].followed {
                let line = format!(
                    "{:<9} {:>8} {:>10.3} {:>12}",
                    row.site.to_string(),
                    place.rank,
                    place.logit,
                    probability(place.prob)
                );
                outln!("{}", style(place.prob).apply_to(line));
            }
        }
    }
}

fn probability(value: f32) -> String {
    if value == 0.0 || value >= 1e-4 { format!("{value:.4}") } else { format!("{value:.1e}") }
}

/// The most probable token and its probability in percent.
fn policy(cell: &LensCell, width: usize) -> (String, Style) {
    let Some(token) = cell.top.first() else { return (String::new(), Style::new()) };
    (format!("{} {:>3.0}", padded(&short(&token.text), width), 100.0 * token.prob), style(token.prob))
}

/// Colours by probability, which are readable on light and dark terminals. Without colours, cells still have percentages.
fn style(prob: f32) -> Style {
    match prob {
        0.9.. => Style::new().green().bold(),
        0.5.. => Style::new().green(),
        0.1.. => Style::new().yellow(),
        _ => Style::new().dim(),
    }
}

fn padded(text: &str, width: usize) -> String {
    pad_str(text, width, Alignment::Left, None).into_owned()
}

/// A token's text with visible spaces, cut to the widest token. Control characters become replacement characters.
pub fn short(text: &str) -> String {
    let shown: String = visible(text).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if measure_text_width(&shown) <= TOKEN {
        return shown;
    }
    let (mut cut, mut used) = (String::new(), 0);
    for c in shown.chars() {
        used += measure_text_width(c.encode_utf8(&mut [0; 4]));
        if used >= TOKEN {
            break;
        }
        cut.push(c);
    }
    cut + "\u{2026}"
}
