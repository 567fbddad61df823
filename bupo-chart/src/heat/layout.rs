//! Where the parts of a heat map go.

use super::grid::Grid;
use super::labels::{self, Axis};
use super::{HeatMap, bar};
use crate::axis::{self, Tick};
use crate::canvas::{Canvas, Label};
use crate::{Rect, text};

pub(super) const MARGIN: f64 = 10.0;
pub(super) const LABEL: f64 = 13.0;
pub(super) const TICK: f64 = 12.0;

/// Where everything goes.
pub(super) struct Layout<'a> {
    pub width: f64,
    pub height: f64,
    pub plot: Rect,
    /// The colour bar.
    pub bar: Rect,
    pub bar_axis: axis::Axis,
    pub bar_ticks: Vec<Tick>,
    map: &'a HeatMap,
    rows: Axis,
    columns: Axis,
    title: Vec<String>,
}

const WIDTH: f64 = 960.0;
const TITLE: f64 = 15.0;
/// Bold letters are wider than those that are measured.
const BOLD: f64 = 1.13;
/// Where the rows are few, they share this.
const HEIGHT: f64 = 420.0;
/// Rows are at least this high, while all of them fit into the greatest height.
const LEAST_ROW: f64 = 8.0;
const GREATEST_ROW: f64 = 40.0;
const GREATEST_HEIGHT: f64 = 1000.0;

impl<'a> Layout<'a> {
    pub fn new(map: &'a HeatMap, grid: &Grid) -> Self {
        let rows = grid.rows.max(1) as f64;
        let plot_height = (HEIGHT / rows).clamp(LEAST_ROW, GREATEST_ROW).min(GREATEST_HEIGHT / rows) * rows;
        let title = text::wrap(&map.title, TITLE * BOLD, WIDTH - 2.0 * MARGIN, 2);
        let top = MARGIN + title.len() as f64 * (TITLE + 4.0) + if title.is_empty() { 0.0 } else { 7.0 };

        let (lo, hi) = grid.range;
        let bar_height = (plot_height - bar::note_height(grid.has_missing)).max(bar::LEAST);
        let bar_axis = axis::Axis { log: false, lo, hi, start: top + bar_height, end: top };
        let bar_ticks = bar_axis.ticks((bar_height / 35.0).clamp(2.0, 8.0) as usize);

        let row_labels = Axis::rows(&map.rows, grid.rows, plot_height);
        let left = MARGIN + side(&map.y_label) + row_labels.width() + 5.0;
        let right = WIDTH - MARGIN - bar::width(map, &bar_ticks, grid.has_missing);
        let plot = Rect { x: left, y: top, width: right - left, height: plot_height };
        let column_labels = Axis::columns(&map.columns, grid.columns, plot.width);

        let x_label = if map.x_label.is_empty() { 0.0 } else { LABEL + 6.0 };
        let below_plot = plot.bottom() + 5.0 + column_labels.depth() + x_label;
        let below_bar = top + bar_height + bar::note_height(grid.has_missing);
        let height = (below_plot.max(below_bar) + MARGIN).round();
        let bar = Rect { x: right + bar::GAP, y: top, width: bar::BAR, height: bar_height };
        Self {
            width: WIDTH,
            height,
            plot,
            bar,
            bar_axis,
            bar_ticks,
            map,
            rows: row_labels,
            columns: column_labels,
            title,
        }
    }

    pub fn draw_title(&self, canvas: &mut Canvas) {
        for (i, line) in self.title.iter().enumerate() {
            let y = MARGIN + TITLE + i as f64 * (TITLE + 4.0) - 1.0;
            canvas.text(&Label::middle(line, "chart-title", (self.width / 2.0, y), TITLE));
        }
    }

    pub fn draw_labels(&self, canvas: &mut Canvas) {
        labels::draw_rows(canvas, &self.rows, self.plot);
        labels::draw_columns(canvas, &self.columns, self.plot);
        let x_label = text::shorten(&self.map.x_label, LABEL, self.plot.width);
        let below = self.plot.bottom() + 5.0 + self.columns.depth() + LABEL + 3.0;
        canvas.text(&Label::middle(&x_label, "chart-text", (self.plot.centre().0, below), LABEL));
        let y_label = text::shorten(&self.map.y_label, LABEL, self.plot.height);
        let place = (MARGIN + LABEL - 3.0, self.plot.centre().1);
        canvas.text(&Label { turned: true, ..Label::middle(&y_label, "chart-text", place, LABEL) });
    }
}

/// The room for a turned label beside the plot.
pub(super) fn side(label: &str) -> f64 {
    if label.is_empty() { 0.0 } else { LABEL + 7.0 }
}
