//! The names of the rows or columns of a heat map, thinned to those that fit.

use super::sizes::TICK;
use crate::canvas::{Anchor, Canvas, Label};
use crate::rect::Rect;
use crate::text;

/// The names along one side of the plot.
pub(super) struct AxisLabels {
    /// Each with the index of its row or column.
    names: Vec<(usize, String)>,
    /// The height of a row or the width of a column.
    cell: f64,
    size: f64,
    /// Whether column names are rotated to read upwards.
    rotated: bool,
}

/// The greatest length of a name.
const MAX_LENGTH: f64 = 104.0;
const MIN_SIZE: f64 = 10.0;

impl AxisLabels {
    pub fn rows(names: &[String], count: usize, height: f64) -> Self {
        let cell = height / count.max(1) as f64;
        let size = (cell * 0.95).clamp(MIN_SIZE, TICK);
        let stride = round_stride((size * 1.05 / cell).ceil());
        Self { names: thinned(names, count, stride, size), cell, size, rotated: false }
    }

    /// Horizontal names if all fit or all are numbers, otherwise rotated names.
    pub fn columns(names: &[String], count: usize, width: f64) -> Self {
        let cell = width / count.max(1) as f64;
        let all = thinned(names, count, 1, TICK);
        let widest = all.iter().map(|(_, name)| text::measure(name, TICK)).fold(0.0, f64::max) + 7.0;
        if widest <= cell || all.iter().all(|(_, name)| name.parse::<f64>().is_ok()) {
            let stride = round_stride((widest / cell).ceil());
            return Self { names: thinned(names, count, stride, TICK), cell, size: TICK, rotated: false };
        }
        let size = (cell * 0.95).clamp(MIN_SIZE, TICK);
        let stride = round_stride((size * 1.05 / cell).ceil());
        Self { names: thinned(names, count, stride, size), cell, size, rotated: true }
    }

    /// The length of the longest name.
    pub fn width(&self) -> f64 {
        self.names.iter().map(|(_, name)| text::measure(name, self.size)).fold(0.0, f64::max)
    }

    /// The height of column names below the plot.
    pub fn depth(&self) -> f64 {
        match self.rotated {
            _ if self.names.is_empty() => 0.0,
            true => self.width() + 3.0,
            false => self.size + 2.0,
        }
    }

    /// Draws row names to the left of the plot.
    pub fn draw_rows(&self, canvas: &mut Canvas, plot: Rect) {
        for (row, name) in &self.names {
            let y = plot.bottom() - (*row as f64 + 0.5) * self.cell + self.size * 0.36;
            let (class, x, size, anchor) = ("chart-soft", plot.x - 5.0, self.size, Anchor::End);
            canvas.text(&Label { text: name, class, x, y, size, anchor, rotated: false });
        }
    }

    /// Draws column names below the plot.
    pub fn draw_columns(&self, canvas: &mut Canvas, plot: Rect) {
        for (column, name) in &self.names {
            let x = plot.x + (*column as f64 + 0.5) * self.cell;
            let (class, size, below) = ("chart-soft", self.size, plot.bottom() + 5.0);
            canvas.text(&match self.rotated {
                true => {
                    Label { text: name, class, x: x + size * 0.36, y: below, size, anchor: Anchor::End, rotated: true }
                }
                false => Label::middle(name, class, (x, below + size - 2.0), size),
            });
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that is at least `min`.
fn round_stride(min: f64) -> usize {
    let min = if min.is_finite() { min.max(1.0) } else { 1.0 };
    let power = 10f64.powf(min.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= min).unwrap_or(10.0);
    (factor * power) as usize
}

/// Every `stride`th of the names, shortened. If the names are whole numbers, those kept are multiples of the distance
/// between them, such as 5, 10, 15.
fn thinned(names: &[String], count: usize, stride: usize, size: f64) -> Vec<(usize, String)> {
    let number = |i: usize| names.get(i)?.trim().parse::<i64>().ok();
    let step = number(0).zip(number(1)).and_then(|(first, second)| second.checked_sub(first));
    let distance = step.and_then(|step| step.checked_mul(stride as i64)).filter(|distance| *distance > 0);
    let is_multiple = |i: &usize| number(*i).zip(distance).is_some_and(|(number, distance)| number % distance == 0);
    let first = (0..stride.min(names.len())).find(is_multiple).unwrap_or(0);
    let kept = names.iter().enumerate().take(count).skip(first).step_by(stride.max(1));
    kept.map(|(i, name)| (i, text::shorten(name, size, MAX_LENGTH))).filter(|(_, name)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(from: i64, step: i64, count: i64) -> Vec<String> {
        (0..count).map(|i| (from + i * step).to_string()).collect()
    }

    #[test]
    fn numbers_are_thinned_to_multiples_of_their_distance() {
        let named = |names: &[String], stride| {
            thinned(names, names.len(), stride, 10.0).into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(&numbers(1, 1, 12), 5), "5 10");
        assert_eq!(named(&numbers(0, 10, 12), 5), "0 50 100");
        assert_eq!(named(&["a", "b", "c"].map(String::from), 2), "a c");
        assert_eq!(named(&numbers(i64::MAX - 1, 1, 2), 2), "92233720…775806");
        assert_eq!([1.0, 1.2, 3.0, 5.5, 11.0, f64::NAN].map(round_stride), [1, 2, 5, 10, 20, 1]);
    }

    #[test]
    fn column_names_are_rotated_when_they_do_not_fit() {
        assert!(!AxisLabels::columns(&["the", "cat"].map(String::from), 2, 800.0).rotated);
        let tokens = vec!["Ġtoken".to_owned(); 60];
        let axis = AxisLabels::columns(&tokens, 60, 800.0);
        assert!(axis.rotated && axis.names.len() == 60);
        let steps = AxisLabels::columns(&numbers(0, 1, 300), 300, 800.0);
        assert!(!steps.rotated && steps.names.len() == 15, "{}", steps.names.len());
    }
}
