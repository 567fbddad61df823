//! The names of rows and columns: as many as have room.

use super::layout::TICK;
use crate::canvas::{Anchor, Canvas, Label};
use crate::{Rect, text};

/// The names along one side.
pub(super) struct Axis {
    /// With the number of its row or column.
    names: Vec<(usize, String)>,
    cell: f64,
    size: f64,
    /// Whether column names read upwards.
    turned: bool,
}

/// No name reaches further from the plot.
const LONGEST: f64 = 104.0;
const SMALLEST: f64 = 10.0;

impl Axis {
    pub fn rows(names: &[String], count: usize, height: f64) -> Self {
        let cell = height / count.max(1) as f64;
        let size = (cell * 0.95).clamp(SMALLEST, TICK);
        let stride = stride((size * 1.05 / cell).ceil());
        Self { names: kept(names, count, stride, size), cell, size, turned: false }
    }

    /// Level names where all fit or all are numbers, else turned ones.
    pub fn columns(names: &[String], count: usize, width: f64) -> Self {
        let cell = width / count.max(1) as f64;
        let shown = kept(names, count, 1, TICK);
        let widest = shown.iter().map(|(_, name)| text::measure(name, TICK)).fold(0.0, f64::max) + 7.0;
        if widest <= cell || shown.iter().all(|(_, name)| name.parse::<f64>().is_ok()) {
            let stride = stride((widest / cell).ceil());
            return Self { names: kept(names, count, stride, TICK), cell, size: TICK, turned: false };
        }
        let size = (cell * 0.95).clamp(SMALLEST, TICK);
        let stride = stride((size * 1.05 / cell).ceil());
        Self { names: kept(names, count, stride, size), cell, size, turned: true }
    }

    /// The length of the longest name.
    pub fn width(&self) -> f64 {
        self.names.iter().map(|(_, name)| text::measure(name, self.size)).fold(0.0, f64::max)
    }

    /// How far column names reach below the plot.
    pub fn depth(&self) -> f64 {
        match self.turned {
            _ if self.names.is_empty() => 0.0,
            true => self.width() + 3.0,
            false => self.size + 2.0,
        }
    }
}

pub(super) fn draw_rows(canvas: &mut Canvas, axis: &Axis, plot: Rect) {
    for (row, name) in &axis.names {
        let y = plot.bottom() - (*row as f64 + 0.5) * axis.cell + axis.size * 0.36;
        let (class, x, size, anchor) = ("chart-soft", plot.x - 5.0, axis.size, Anchor::End);
        canvas.text(&Label { text: name, class, x, y, size, anchor, turned: false });
    }
}

pub(super) fn draw_columns(canvas: &mut Canvas, axis: &Axis, plot: Rect) {
    for (column, name) in &axis.names {
        let x = plot.x + (*column as f64 + 0.5) * axis.cell;
        let (class, size, below) = ("chart-soft", axis.size, plot.bottom() + 5.0);
        canvas.text(&match axis.turned {
            true => Label { text: name, class, x: x + size * 0.36, y: below, size, anchor: Anchor::End, turned: true },
            false => Label::middle(name, class, (x, below + size - 2.0), size),
        });
    }
}

/// 1, 2 or 5 times a power of ten, and at least so many.
fn stride(least: f64) -> usize {
    let least = if least.is_finite() { least.max(1.0) } else { 1.0 };
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least).unwrap_or(10.0);
    (factor * power) as usize
}

/// Every so many of the names, shortened; of whole numbers those that the distance divides.
fn kept(names: &[String], count: usize, stride: usize, size: f64) -> Vec<(usize, String)> {
    let number = |i: usize| names.get(i)?.trim().parse::<i64>().ok();
    let between = number(0).zip(number(1)).and_then(|(first, second)| second.checked_sub(first));
    let distance = between.and_then(|between| between.checked_mul(stride as i64)).filter(|distance| *distance > 0);
    let round = |i: &usize| number(*i).zip(distance).is_some_and(|(number, distance)| number % distance == 0);
    let first = (0..stride.min(names.len())).find(round).unwrap_or(0);
    let chosen = names.iter().enumerate().take(count).skip(first).step_by(stride.max(1));
    chosen.map(|(i, name)| (i, text::shorten(name, size, LONGEST))).filter(|(_, name)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(from: i64, step: i64, count: i64) -> Vec<String> {
        (0..count).map(|i| (from + i * step).to_string()).collect()
    }

    #[test]
    fn numbers_are_thinned_to_round_ones() {
        let named = |names: &[String], stride| {
            kept(names, names.len(), stride, 10.0).into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(&numbers(1, 1, 12), 5), "5 10");
        assert_eq!(named(&numbers(0, 10, 12), 5), "0 50 100");
        assert_eq!(named(&["a", "b", "c"].map(String::from), 2), "a c");
        assert_eq!(named(&numbers(i64::MAX - 1, 1, 2), 2), "92233720…775806");
        assert_eq!([1.0, 1.2, 3.0, 5.5, 11.0, f64::NAN].map(stride), [1, 2, 5, 10, 20, 1]);
    }

    #[test]
    fn column_names_turn_when_they_do_not_fit() {
        assert!(!Axis::columns(&["the", "cat"].map(String::from), 2, 800.0).turned);
        let tokens = vec!["Ġtoken".to_owned(); 60];
        let axis = Axis::columns(&tokens, 60, 800.0);
        assert!(axis.turned && axis.names.len() == 60);
        let steps = Axis::columns(&numbers(0, 1, 300), 300, 800.0);
        assert!(!steps.turned && steps.names.len() == 15, "{}", steps.names.len());
    }
}
