//! The names of series, in columns below a plot.

use crate::canvas::{Anchor, Canvas, Label};
use crate::{style, text};

/// A legend that knows its size.
pub(crate) struct Legend {
    entries: Vec<Entry>,
    columns: Vec<f64>,
    width: f64,
}

struct Entry {
    name: String,
    /// Which series' sample stands before the name; none before the note on those left out.
    series: Option<usize>,
}

const SIZE: f64 = 11.0;
const ROW: f64 = 16.0;
const SAMPLE: f64 = 30.0;
const GAP: f64 = 14.0;
/// More names than this are counted instead of listed.
const MOST: usize = 40;
/// So many names may each have a row of their own when they are long; more share rows.
const FEW: usize = 6;

impl Legend {
    /// The names, shortened and in as many columns as fit.
    pub fn new(names: &[&str], width: f64) -> Self {
        let listed = if names.len() > MOST { MOST - 1 } else { names.len() };
        let room = if names.len() > FEW { (width - GAP) / 2.0 } else { width } - SAMPLE;
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

    /// Draws it centred, its upper left corner at a place.
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
                turned: false,
            };
            canvas.text(&label);
        }
    }

    fn rows(&self) -> usize {
        self.entries.len().div_ceil(self.columns.len().max(1))
    }
}

/// A piece of a series' line with its marker.
fn sample(canvas: &mut Canvas, series: usize, x: f64, y: f64) {
    let class = style::class(series);
    canvas.raw(&format!("<g class=\"{class}\">"));
    canvas.path(&style::stroke(series), &format!("M{x:.2} {y:.2}h24"));
    canvas.path("class=\"chart-dot\"", &style::marker(series, x + 12.0, y));
    canvas.raw("</g>");
}

/// The widths of the most columns that fit, or of fewer where the rows stay as many.
fn columns(entries: &[Entry], width: f64) -> Vec<f64> {
    let of = |count: usize| -> Vec<f64> {
        let column = |column| entries.iter().skip(column).step_by(count).map(Entry::width).fold(0.0, f64::max);
        (0..count).map(column).collect()
    };
    let fits = |count: &usize| *count == 1 || total(&of(*count)) <= width;
    let most = (1..=entries.len()).rev().find(fits).unwrap_or(1);
    let balanced = entries.len().div_ceil(entries.len().div_ceil(most).max(1)).max(1);
    of(if fits(&balanced) { balanced } else { most })
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
    fn names_share_rows_when_there_is_room() {
        let widths = |names: &[&str]| Legend::new(names, 400.0).columns.len();
        assert_eq!(widths(&["a", "b", "c"]), 3);
        assert_eq!(widths(&["a much longer name than that one", "another long one that takes room"]), 1);
        assert_eq!(widths(&["middling name"; 4]), 2, "three columns would leave one name alone");
    }

    #[test]
    fn it_is_no_wider_than_its_room() {
        let long = "W".repeat(200);
        for count in [0, 1, 5, 7, 24, 40, 41, 1000] {
            let legend = Legend::new(&vec![long.as_str(); count], 400.0);
            assert!(total(&legend.columns) <= 400.0, "{count}");
            assert!(legend.entries.len() <= MOST && legend.height() <= 20.0 * ROW);
        }
    }

    #[test]
    fn names_left_out_are_counted() {
        let legend = Legend::new(&["run"; 100], 400.0);
        assert_eq!(legend.entries.last().map(|entry| entry.name.as_str()), Some("and 61 more"));
    }
}
