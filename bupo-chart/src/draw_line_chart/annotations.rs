//! Shades and marks. Their labels stand in rows at the top of the plot, above all lines.

use crate::axis::{self, Axis};
use crate::canvas::{Canvas, Label};
use crate::line_chart::LineChart;
use crate::rect::Rect;
use crate::text;

/// Shades and marks with the positions of their labels.
pub(super) struct Annotations {
    shades: Vec<Annotation>,
    marks: Vec<Annotation>,
    /// The number of rows of labels of shades.
    shade_rows: usize,
    /// The number of rows of labels of marks, below those of shades.
    mark_rows: usize,
}

/// A shade, or a mark, whose ends are equal.
struct Annotation {
    /// The left end, in units of the viewBox.
    from: f64,
    /// The right end, in units of the viewBox.
    to: f64,
    /// `None` if the label is empty or does not fit.
    label: Option<PlacedLabel>,
}

struct PlacedLabel {
    text: String,
    row: usize,
    left: f64,
    right: f64,
}

const SIZE: f64 = 10.5;
const ROW: f64 = 13.0;
const MAX_ROWS: usize = 3;
/// The greatest width of a label, as a share of the plot.
const MAX_WIDTH: f64 = 0.45;
/// Slightly more than the space between the first or last value and the edge of the plot, as a share of the plot.
const EDGE: f64 = 0.022;

impl Annotations {
    pub fn new(chart: &LineChart, x: &Axis) -> Self {
        let is_number = |value: &f64| !value.is_nan();
        let inside = |value: f64| x.at(value).clamp(x.start, x.end);
        // A shade that ends at the first or last value extends to the edge of the plot.
        let edge = |at: f64| match (x.end - x.start) * EDGE {
            room if at - x.start < room => x.start,
            room if x.end - at < room => x.end,
            _ => at,
        };
        let mut shades = Vec::new();
        for shade in chart.shades.iter().filter(|shade| is_number(&shade.from) && is_number(&shade.to)) {
            let (from, to) = (shade.from.min(shade.to), shade.from.max(shade.to));
            let (from, to) = (edge(inside(from)), edge(inside(to)));
            let label = place(&shade.label, (from + to) / 2.0, x, &shades, false);
            shades.push(Annotation { from, to, label });
        }
        let mut marks = Vec::new();
        for mark in chart.marks.iter().filter(|mark| axis::drawable(mark.x, false).is_some()) {
            let at = inside(mark.x);
            let label = place(&mark.label, at, x, &marks, true);
            marks.push(Annotation { from: at, to: at, label });
        }
        Self { shade_rows: rows(&shades), mark_rows: rows(&marks), shades, marks }
    }

    /// The height of all labels at the top of the plot.
    pub fn height(&self) -> f64 {
        match self.shade_rows + self.mark_rows {
            0 => 0.0,
            rows => rows as f64 * ROW + 4.0,
        }
    }

    pub fn draw_shades(&self, canvas: &mut Canvas, plot: Rect) {
        for (i, Annotation { from, to, .. }) in self.shades.iter().enumerate() {
            let class = format!("class=\"chart-shade-{}\"", i % 3);
            canvas.rect(&class, Rect { x: *from, width: to - from, ..plot });
        }
    }

    /// Draws the lines of the marks, each from its label down.
    pub fn draw_marks(&self, canvas: &mut Canvas, plot: Rect) {
        for Annotation { from: x, label, .. } in &self.marks {
            let rows = label.as_ref().map_or(self.mark_rows, |label| label.row + 1) + self.shade_rows;
            canvas.line("chart-mark", (*x, plot.y + rows as f64 * ROW + 2.0), (*x, plot.bottom()));
        }
    }

    pub fn draw_labels(&self, canvas: &mut Canvas, plot: Rect) {
        for (annotations, rows_above) in [(&self.shades, 0), (&self.marks, self.shade_rows)] {
            for PlacedLabel { text, row, left, right } in annotations.iter().filter_map(|one| one.label.as_ref()) {
                let y = plot.y + (row + rows_above) as f64 * ROW + SIZE;
                canvas.text(&Label::middle(text, "chart-soft", ((left + right) / 2.0, y), SIZE));
            }
        }
    }
}

fn rows(annotations: &[Annotation]) -> usize {
    annotations.iter().filter_map(|one| one.label.as_ref()).map(|label| label.row + 1).max().unwrap_or(0)
}

/// Places a label in the first row in which it overlaps no label in `before`. Where `lines` is set, the annotations are
/// marks: then no label crosses the line of another mark either.
fn place(label: &str, at: f64, x: &Axis, before: &[Annotation], lines: bool) -> Option<PlacedLabel> {
    let room = x.end - x.start;
    let text = text::shorten(label, SIZE, room * MAX_WIDTH);
    let width = text::measure(&text, SIZE) + 6.0;
    let left = (at - width / 2.0).clamp(x.start, (x.end - width).max(x.start));
    let right = left + width;
    let free = |row: &usize| {
        before.iter().filter_map(|one| Some((one.from, one.label.as_ref()?))).all(|(line, other)| {
            let apart = other.right <= left || right <= other.left;
            let under = lines && other.row < *row && (left..right).contains(&line);
            let over = lines && other.row > *row && (other.left..other.right).contains(&at);
            if other.row == *row { apart } else { !under && !over }
        })
    };
    let row = (0..MAX_ROWS).find(free).filter(|_| !text.is_empty())?;
    Some(PlacedLabel { text, row, left, right })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line_chart::{Mark, Shade};

    fn annotations(shades: &[(f64, f64, &str)], marks: &[(f64, &str)]) -> Annotations {
        let shades = shades.iter().map(|&(from, to, label)| Shade { from, to, label: label.into() }).collect();
        let marks = marks.iter().map(|&(x, label)| Mark { x, label: label.into() }).collect();
        let x = Axis { log: false, lo: 0.0, hi: 36.0, start: 40.0, end: 430.0 };
        Annotations::new(&LineChart { shades, marks, ..LineChart::default() }, &x)
    }

    #[test]
    fn labels_that_fit_share_a_row() {
        let annotations = annotations(&[(0.0, 6.0, "explore"), (6.0, 30.0, "integrate"), (30.0, 36.0, "settle")], &[]);
        assert_eq!((annotations.shade_rows, annotations.mark_rows), (1, 0));
        assert_eq!(annotations.height(), ROW + 4.0);
    }

    #[test]
    fn crowded_labels_do_not_overlap() {
        let marks: Vec<_> = (0..30).map(|i| (f64::from(i % 17), "phase change")).collect();
        let annotations = annotations(&[(0.0, 1.0, "a stage"), (1.0, 2.0, "another"), (2.0, 3.0, "a third")], &marks);
        assert!(annotations.shade_rows > 1 && annotations.mark_rows > 1);
        for (i, one) in annotations.marks.iter().enumerate() {
            let Some(label) = &one.label else { continue };
            assert!(label.left >= 40.0 && label.right <= 430.0);
            for (j, other) in annotations.marks.iter().enumerate().filter(|(j, _)| *j != i) {
                let Some(other_label) = &other.label else { continue };
                let apart = label.right <= other_label.left || other_label.right <= label.left;
                assert!(label.row != other_label.row || apart, "{i} and {j}");
                let crossed = other_label.row < label.row && (label.left..label.right).contains(&other.from);
                assert!(!crossed, "the line of {j} crosses {i}");
            }
        }
    }

    #[test]
    fn nan_is_left_out_and_infinity_ends_at_the_edge_of_the_plot() {
        let annotations = annotations(&[(f64::NAN, 3.0, "no"), (30.0, f64::INFINITY, "yes")], &[(f64::INFINITY, "no")]);
        assert_eq!((annotations.shades.len(), annotations.marks.len()), (1, 0));
        assert_eq!(annotations.shades[0].to, 430.0);
    }
}
