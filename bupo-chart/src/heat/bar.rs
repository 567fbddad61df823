//! The colour bar beside a heat map.

use super::HeatMap;
use super::grid::draw_missing;
use super::layout::{LABEL, Layout, MARGIN, TICK, side};
use crate::axis::Tick;
use crate::canvas::{Anchor, Canvas, Label};
use crate::{Rect, colour, text};

/// Between the plot and the bar.
pub(super) const GAP: f64 = 16.0;
pub(super) const BAR: f64 = 16.0;
/// The bar is at least this high.
pub(super) const LEAST: f64 = 90.0;

const NOTE: &str = "missing";

/// The room for everything right of the plot.
pub(super) fn width(map: &HeatMap, ticks: &[Tick], has_missing: bool) -> f64 {
    let widest = ticks.iter().map(|tick| text::measure(&tick.label, TICK)).fold(0.0, f64::max);
    let note = if has_missing { text::measure(NOTE, TICK) } else { 0.0 };
    GAP + BAR + 6.0 + (widest + side(&map.value_label)).max(note)
}

/// The room for the note on missing cells below the bar.
pub(super) fn note_height(has_missing: bool) -> f64 {
    if has_missing { TICK + 16.0 } else { 0.0 }
}

/// Draws it; `hatch` is the pattern of missing cells when there are some.
pub(super) fn draw(canvas: &mut Canvas, map: &HeatMap, layout: &Layout, hatch: Option<&str>) {
    let bar = layout.bar;
    canvas.raw("<g shape-rendering=\"crispEdges\">");
    // Each colour reaches down to the end, under those of lesser values: no gap can show between two.
    for level in (0..colour::LEVELS).rev() {
        let height = bar.height * (level + 1) as f64 / colour::LEVELS as f64;
        let fill = format!("fill=\"{}\"", colour::of_level(level, map.scale));
        canvas.rect(&fill, Rect { y: bar.bottom() - height, height, ..bar });
    }
    canvas.raw("</g>");
    canvas.rect("class=\"chart-axis\"", bar);
    for tick in &layout.bar_ticks {
        let y = layout.bar_axis.at(tick.value);
        canvas.line("chart-axis", (bar.right(), y), (bar.right() + 3.0, y));
        canvas.text(&beside(&tick.label, bar.right() + 6.0, y));
    }
    let label = text::shorten(&map.value_label, LABEL, bar.height);
    let place = (layout.width - MARGIN - 1.0, bar.centre().1);
    canvas.text(&Label { turned: true, ..Label::middle(&label, "chart-text", place, LABEL) });
    if let Some(hatch) = hatch {
        let square = Rect { y: bar.bottom() + 12.0, height: BAR, ..bar };
        draw_missing(canvas, square, hatch);
        canvas.rect("class=\"chart-axis\"", square);
        canvas.text(&beside(NOTE, square.right() + 6.0, square.centre().1));
    }
}

fn beside(text: &str, x: f64, middle: f64) -> Label<'_> {
    let (class, y, size, anchor) = ("chart-soft", middle + TICK * 0.36, TICK, Anchor::Start);
    Label { text, class, x, y, size, anchor, turned: false }
}
