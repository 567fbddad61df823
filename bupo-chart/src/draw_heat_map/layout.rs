//! The positions of the parts of a heat map.

use super::axis_labels::AxisLabels;
use super::colour_bar::ColourBar;
use super::grid::Grid;
use super::sizes::{LABEL, MARGIN, rotated_label_width};
use crate::canvas::{Canvas, Label};
use crate::heat_map::HeatMap;
use crate::rect::Rect;
use crate::text;

/// The positions and the labels of a heat map.
pub(super) struct Layout<'a> {
    pub width: f64,
    pub height: f64,
    pub plot: Rect,
    pub colour_bar: ColourBar,
    map: &'a HeatMap,
    rows: AxisLabels,
    columns: AxisLabels,
    title: Vec<String>,
}

const WIDTH: f64 = 960.0;
/// The width of a map of few columns.
const NARROW_WIDTH: f64 = 480.0;
const TITLE: f64 = 15.0;
/// How much wider bold text is than the regular text that [`text::measure`] measures.
const BOLD: f64 = 1.13;
/// The height of the plot, divided by the rows, gives a row's height before the limits below.
const HEIGHT: f64 = 420.0;
/// Takes effect only as long as all rows fit into [`MAX_HEIGHT`].
const MIN_ROW: f64 = 8.0;
const MAX_ROW: f64 = 40.0;
const MAX_HEIGHT: f64 = 1000.0;

impl<'a> Layout<'a> {
    pub fn new(map: &'a HeatMap, grid: &Grid) -> Self {
        let width = if map.is_narrow() { NARROW_WIDTH } else { WIDTH };
        let rows = grid.rows.max(1) as f64;
        let plot_height = (HEIGHT / rows).clamp(MIN_ROW, MAX_ROW).min(MAX_HEIGHT / rows) * rows;
        let title = text::wrap(&map.title, TITLE * BOLD, width - 2.0 * MARGIN, 2);
        let top = MARGIN + title.len() as f64 * (TITLE + 4.0) + if title.is_empty() { 0.0 } else { 7.0 };

        let colour_bar = ColourBar::new(map, grid, top, plot_height, width - MARGIN);
        let rows = AxisLabels::rows(&map.rows, grid.rows, plot_height);
        let left = MARGIN + rotated_label_width(&map.y_label) + rows.width() + 5.0;
        let plot = Rect { x: left, y: top, width: colour_bar.left - left, height: plot_height };
        let columns = AxisLabels::columns(&map.columns, grid.columns, plot.width);

        let x_label = if map.x_label.is_empty() { 0.0 } else { LABEL + 6.0 };
        let below_plot = plot.bottom() + 5.0 + columns.depth() + x_label;
        let height = (below_plot.max(colour_bar.bottom) + MARGIN).round();
        Self { width, height, plot, colour_bar, map, rows, columns, title }
    }

    pub fn draw_title(&self, canvas: &mut Canvas) {
        for (i, line) in self.title.iter().enumerate() {
            let y = MARGIN + TITLE + i as f64 * (TITLE + 4.0) - 1.0;
            canvas.text(&Label::middle(line, "chart-title", (self.width / 2.0, y), TITLE));
        }
    }

    pub fn draw_labels(&self, canvas: &mut Canvas) {
        self.rows.draw_rows(canvas, self.plot);
        self.columns.draw_columns(canvas, self.plot);
        let x_label = text::shorten(&self.map.x_label, LABEL, self.plot.width);
        let below = self.plot.bottom() + 5.0 + self.columns.depth() + LABEL + 3.0;
        canvas.text(&Label::middle(&x_label, "chart-text", (self.plot.centre().0, below), LABEL));
        let y_label = text::shorten(&self.map.y_label, LABEL, self.plot.height);
        let place = (MARGIN + LABEL - 3.0, self.plot.centre().1);
        canvas.text(&Label { rotated: true, ..Label::middle(&y_label, "chart-text", place, LABEL) });
    }
}
