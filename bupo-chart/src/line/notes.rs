//! The labels of shades and marks, in rows at the top of a plot where no line reaches.

use super::LineChart;
use crate::axis::{self, Axis};
use crate::canvas::{Canvas, Label};
use crate::{Rect, text};

/// Shades and marks with the places of their labels.
pub(super) struct Notes {
    shades: Vec<Note>,
    marks: Vec<Note>,
    shade_rows: usize,
    mark_rows: usize,
}

/// From where to where, and the label if there was room for one.
struct Note {
    from: f64,
    to: f64,
    label: Option<Placed>,
}

struct Placed {
    text: String,
    row: usize,
    left: f64,
    right: f64,
}

const SIZE: f64 = 10.5;
const ROW: f64 = 13.0;
const MOST_ROWS: usize = 3;
/// No label is wider than this share of the plot.
const WIDEST: f64 = 0.45;
/// A little more than the margin of the x axis, as a share of the plot.
const EDGE: f64 = 0.022;

impl Notes {
    pub fn new(chart: &LineChart, x: &Axis) -> Self {
        let known = |value: &f64| !value.is_nan();
        let inside = |value: f64| x.at(value).clamp(x.start, x.end);
        // A shade up to the first or last value fills the margin beyond it.
        let edge = |at: f64| match (x.end - x.start) * EDGE {
            room if at - x.start < room => x.start,
            room if x.end - at < room => x.end,
            _ => at,
        };
        let mut shades = Vec::new();
        for shade in chart.shades.iter().filter(|shade| known(&shade.from) && known(&shade.to)) {
            let (from, to) = (shade.from.min(shade.to), shade.from.max(shade.to));
            let (from, to) = (edge(inside(from)), edge(inside(to)));
            let label = place(&shade.label, (from + to) / 2.0, x, &shades, false);
            shades.push(Note { from, to, label });
        }
        let mut marks = Vec::new();
        for mark in chart.marks.iter().filter(|mark| axis::drawable(mark.x, false).is_some()) {
            let at = inside(mark.x);
            let label = place(&mark.label, at, x, &marks, true);
            marks.push(Note { from: at, to: at, label });
        }
        Self { shade_rows: rows(&shades), mark_rows: rows(&marks), shades, marks }
    }

    /// The room they take at the top of the plot.
    pub fn height(&self) -> f64 {
        match self.shade_rows + self.mark_rows {
            0 => 0.0,
            rows => rows as f64 * ROW + 4.0,
        }
    }

    pub fn draw_shades(&self, canvas: &mut Canvas, plot: Rect) {
        for (i, Note { from, to, .. }) in self.shades.iter().enumerate() {
            let class = format!("class=\"chart-shade-{}\"", i % 3);
            canvas.rect(&class, Rect { x: *from, width: to - from, ..plot });
        }
    }

    /// The lines of the marks, each from its label down.
    pub fn draw_marks(&self, canvas: &mut Canvas, plot: Rect) {
        for Note { from: x, label, .. } in &self.marks {
            let rows = label.as_ref().map_or(self.mark_rows, |label| label.row + 1) + self.shade_rows;
            canvas.line("chart-mark", (*x, plot.y + rows as f64 * ROW + 2.0), (*x, plot.bottom()));
        }
    }

    pub fn draw_labels(&self, canvas: &mut Canvas, plot: Rect) {
        for (notes, above) in [(&self.shades, 0), (&self.marks, self.shade_rows)] {
            for Placed { text, row, left, right } in notes.iter().filter_map(|note| note.label.as_ref()) {
                let y = plot.y + (row + above) as f64 * ROW + SIZE;
                canvas.text(&Label::middle(text, "chart-soft", ((left + right) / 2.0, y), SIZE));
            }
        }
    }
}

fn rows(notes: &[Note]) -> usize {
    notes.iter().filter_map(|note| note.label.as_ref()).map(|label| label.row + 1).max().unwrap_or(0)
}

/// The label in the first row where it covers none of the labels before it nor, for marks, their lines.
fn place(label: &str, at: f64, x: &Axis, before: &[Note], lines: bool) -> Option<Placed> {
    let room = x.end - x.start;
    let text = text::shorten(label, SIZE, room * WIDEST);
    let width = text::measure(&text, SIZE) + 6.0;
    let left = (at - width / 2.0).clamp(x.start, (x.end - width).max(x.start));
    let right = left + width;
    let free = |row: &usize| {
        before.iter().filter_map(|note| Some((note.from, note.label.as_ref()?))).all(|(line, other)| {
            let apart = other.right <= left || right <= other.left;
            let under = lines && other.row < *row && (left..right).contains(&line);
            let over = lines && other.row > *row && (other.left..other.right).contains(&at);
            if other.row == *row { apart } else { !under && !over }
        })
    };
    let row = (0..MOST_ROWS).find(free).filter(|_| !text.is_empty())?;
    Some(Placed { text, row, left, right })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mark, Shade};

    fn notes(shades: &[(f64, f64, &str)], marks: &[(f64, &str)]) -> Notes {
        let shades = shades.iter().map(|&(from, to, label)| Shade { from, to, label: label.into() }).collect();
        let marks = marks.iter().map(|&(x, label)| Mark { x, label: label.into() }).collect();
        let x = Axis { log: false, lo: 0.0, hi: 36.0, start: 40.0, end: 430.0 };
        Notes::new(&LineChart { shades, marks, ..LineChart::default() }, &x)
    }

    #[test]
    fn labels_with_room_share_a_row() {
        let notes = notes(&[(0.0, 6.0, "explore"), (6.0, 30.0, "integrate"), (30.0, 36.0, "settle")], &[]);
        assert_eq!((notes.shade_rows, notes.mark_rows), (1, 0));
        assert_eq!(notes.height(), ROW + 4.0);
    }

    #[test]
    fn crowded_labels_never_overlap() {
        let marks: Vec<_> = (0..30).map(|i| (f64::from(i % 17), "phase change")).collect();
        let notes = notes(&[(0.0, 1.0, "a stage"), (1.0, 2.0, "another"), (2.0, 3.0, "a third")], &marks);
        assert!(notes.shade_rows > 1 && notes.mark_rows > 1);
        for (i, one) in notes.marks.iter().enumerate() {
            let Some(label) = &one.label else { continue };
            assert!(label.left >= 40.0 && label.right <= 430.0);
            for (j, other) in notes.marks.iter().enumerate().filter(|(j, _)| *j != i) {
                let Some(other_label) = &other.label else { continue };
                let apart = label.right <= other_label.left || other_label.right <= label.left;
                assert!(label.row != other_label.row || apart, "{i} and {j}");
                let crossed = other_label.row < label.row && (label.left..label.right).contains(&other.from);
                assert!(!crossed, "the line of {j} crosses {i}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_left_out_and_the_endless_ends_at_the_plot() {
        let notes = notes(&[(f64::NAN, 3.0, "no"), (30.0, f64::INFINITY, "yes")], &[(f64::INFINITY, "no")]);
        assert_eq!((notes.shades.len(), notes.marks.len()), (1, 0));
        assert_eq!(notes.shades[0].to, 430.0);
    }
}
