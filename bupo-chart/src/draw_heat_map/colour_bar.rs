//! The colour bar to the right of a heat map.

use super::grid::{Grid, draw_missing};
use super::sizes::{LABEL, TICK, rotated_label_width};
use crate::axis::{Axis, Tick};
use crate::canvas::{Anchor, Canvas, Label};
use crate::heat_map::HeatMap;
use crate::rect::Rect;
use crate::{colour, text};

/// The colour bar with its ticks, its label and the legend of missing cells.
pub(super) struct ColourBar {
    /// The right edge of the plot.
    pub left: f64,
    /// The lower edge of the bar, or of the legend of missing cells below it.
    pub bottom: f64,
    bar: Rect,
    /// The right edge of the label.
    right: f64,
    axis: Axis,
    ticks: Vec<Tick>,
}

/// Between the plot and the bar.
const GAP: f64 = 16.0;
const BAR_WIDTH: f64 = 16.0;
const MIN_BAR_HEIGHT: f64 = 90.0;
const MISSING: &str = "missing";

impl ColourBar {
    /// Places the bar beside a plot of this upper edge and height, so that everything ends at `right`.
    pub fn new(map: &HeatMap, grid: &Grid, top: f64, plot_height: f64, right: f64) -> Self {
        let (lo, hi) = grid.range;
        let legend_height = if grid.has_missing { TICK + 16.0 } else { 0.0 };
        let height = (plot_height - legend_height).max(MIN_BAR_HEIGHT);
        let axis = Axis { log: false, lo, hi, start: top + height, end: top };
        let ticks = axis.ticks((height / 35.0).clamp(2.0, 8.0) as usize);

        let widest_tick = ticks.iter().map(|tick| text::measure(&tick.label, TICK)).fold(0.0, f64::max);
        let legend_width = if grid.has_missing { text::measure(MISSING, TICK) } else { 0.0 };
        let text_width = (widest_tick + rotated_label_width(&map.value_label)).max(legend_width);
        let left = right - (GAP + BAR_WIDTH + 6.0 + text_width);
        let bar = Rect { x: left + GAP, y: top, width: BAR_WIDTH, height };
        Self { left, bottom: top + height + legend_height, bar, right, axis, ticks }
    }

    /// Draws the bar; `hatch` is the id of the pattern of missing cells, if there are any.
    pub fn draw(&self, canvas: &mut Canvas, map: &HeatMap, hatch: Option<&str>) {
        let bar = self.bar;
        canvas.raw(&format!("<g {}>", colour::group(map.scale)));
        // Each rectangle reaches down to the lower end of the bar, below those of lower levels, so that no gap shows
        // between two levels.
        for level in (0..colour::LEVELS).rev() {
            let height = bar.height * (level + 1) as f64 / colour::LEVELS as f64;
            let fill = format!("fill=\"{}\"", colour::of_level(level, map.scale));
            canvas.rect(&fill, Rect { y: bar.bottom() - height, height, ..bar });
        }
        canvas.raw("</g>");
        canvas.rect("class=\"chart-axis\"", bar);
        for tick in &self.ticks {
            let y = self.axis.at(tick.value);
            canvas.line("chart-axis", (bar.right(), y), (bar.right() + 3.0, y));
            canvas.text(&text_beside(&tick.label, bar.right() + 6.0, y));
        }
        let label = text::shorten(&map.value_label, LABEL, bar.height);
        let place = (self.right - 1.0, bar.centre().1);
        canvas.text(&Label { rotated: true, ..Label::middle(&label, "chart-text", place, LABEL) });
        if let Some(hatch) = hatch {
            let square = Rect { y: bar.bottom() + 12.0, height: BAR_WIDTH, ..bar };
            draw_missing(canvas, square, hatch);
            canvas.rect("class=\"chart-axis\"", square);
            canvas.text(&text_beside(MISSING, square.right() + 6.0, square.centre().1));
        }
    }
}

fn text_beside(text: &str, x: f64, middle: f64) -> Label<'_> {
    let (class, y, size, anchor) = ("chart-soft", middle + TICK * 0.36, TICK, Anchor::Start);
    Label { text, class, x, y, size, anchor, rotated: false }
}
