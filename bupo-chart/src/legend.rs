//! The names of series, in columns below a plot.

use crate::canvas::{Anchor, Canvas, Label};
use crate::{style, text};

/// A legend, arranged in columns.
pub(crate) struct Legend {
    entries: Vec<Entry>,
    /// The width of each column.
    columns: Vec<f64>,
    /// The available width.
    width: f64,
}

struct Entry {
    name: String,
    /// The index of the series whose sample is drawn before the name; `None` for the count of unlisted names.
    series: Option<usize>,
}

const SIZE: f64 = 11.0;
const ROW: f64 = 16.0;
/// The width of the sample of a line and the gap after it.
const SAMPLE: f64 = 30.0;
/// Between columns.
const GAP: f64 = 14.0;
/// The greatest number of entries; further names are only counted.
const MAX_ENTRIES: usize = 40;
/// Up to this many long names have a row each; with more names, a name gets half the width.
const MAX_FULL_WIDTH_NAMES: usize = 6;

impl Legend {
    /// Shortens the names and arranges them in as many columns as fit into `width`.
    pub fn new(names: &[&str], width: f64) -> Self {
        let listed = if names.len() > MAX_ENTRIES { MAX_ENTRIES - 1 } else { names.len() };
        let room = if names.len() > MAX_FULL_WIDTH_NAMES { (width - GAP) / 2.0 } else { width } - SAMPLE;
        let entry =
            |(series, name): (usize, &&str)| Entry { name: text::shorten(name, SIZE, room), series: Some(series) };
        let mut entries: Vec<Entry> = names.iter().enumerate().take(listed).map(entry).collect();
        if listed < names.len() {
            entries.push(Entry { name: format!("and {} more", names.len() - listed), series: None });
        }
        let columns = columns(&entries, width);
        Self { entries, columns, width }
    }

    pub fn height(&self) -> f64 {
        self.rows() as f64 * ROW
    }

    /// Draws the legend, centred in the available width that begins at `left`.
    pub fn draw(&self, canvas: &mut Canvas, left: f64, top: f64) {
        let left = left + (self.width - total(&self.columns)).max(0.0) / 2.0;
        for (i, entry) in self.entries.iter().enumerate() {
            let (row, column) = (i / self.columns.len(), i % self.columns.len());
            let x = left + self.columns[..column].iter().map(|width| width + GAP).sum::<f64>();
            let y = top + (row as f64 + 0.5) * ROW;
            if let Some(series) = entry.series {
                sample(canvas, series, x, y);
            }
            let (class, anchor) = ("chart-text", Anchor::Start);
            let label = Label {
                text: &entry.name,
                class,
                x: x + SAMPLE,
                y: y + SIZE * 0.36,
                size: SIZE,
                anchor,
                rotated: false,
            };
            canvas.text(&label);
        }
    }

    fn rows(&self) -> usize {
        self.entries.len().div_ceil(self.columns.len().max(1))
    }
}

/// Draws a piece of a series' line with its marker.
fn sample(canvas: &mut Canvas, series: usize, x: f64, y: f64) {
    let class = style::class(series);
    canvas.raw(&format!("<g class=\"{class}\">"));
    canvas.path(&style::stroke(series), &format!("M{x:.2} {y:.2}h24"));
    canvas.path("class=\"chart-dot\"", &style::marker(series, x + 12.0, y));
    canvas.raw("</g>");
}

/// The widths of as many columns as fit, or of fewer if that needs no more rows.
fn columns(entries: &[Entry], width: f64) -> Vec<f64> {
    let widths = |count: usize| -> Vec<f64> {
        let column = |column| entries.iter().skip(column).step_by(count).map(Entry::width).fold(0.0, f64::max);
        (0..count).map(column).collect()
    };
    let fits = |count: &usize| *count == 1 || total(&widths(*count)) <= width;
    let most = (1..=entries.len()).rev().find(fits).unwrap_or(1);
    let balanced = entries.len().div_ceil(entries.len().div_ceil(most).max(1)).max(1);
    widths(if fits(&balanced) { balanced } else { most })
}

fn total(columns: &[f64]) -> f64 {
    columns.iter().sum::<f64>() + GAP * (columns.len() as f64 - 1.0)
}

impl Entry {
    fn width(&self) -> f64 {
        SAMPLE + text::measure(&self.name, SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_share_rows() {
        let widths = |names: &[&str]| Legend::new(names, 400.0).columns.len();
        assert_eq!(widths(&["a", "b", "c"]), 3);
        assert_eq!(widths(&["a much longer name than that one", "another long one that takes room"]), 1);
        assert_eq!(widths(&["middling name"; 4]), 2, "three columns would leave one name alone");
    }

    #[test]
    fn the_legend_is_no_wider_than_given() {
        let long = "W".repeat(200);
        for count in [0, 1, 5, 7, 24, 40, 41, 1000] {
            let legend = Legend::new(&vec![long.as_str(); count], 400.0);
            assert!(total(&legend.columns) <= 400.0, "{count}");
            assert!(legend.entries.len() <= MAX_ENTRIES && legend.height() <= 20.0 * ROW);
        }
    }

    #[test]
    fn unlisted_names_are_counted() {
        let legend = Legend::new(&["run"; 100], 400.0);
        assert_eq!(legend.entries.last().map(|entry| entry.name.as_str()), Some("and 61 more"));
    }
}
