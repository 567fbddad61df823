//! The positions of the parts of a line chart; draws its title, grid, axes and legend.

use super::annotations::Annotations;
use crate::axis::{self, Axis, Tick};
use crate::canvas::{Anchor, Canvas, Label};
use crate::legend::Legend;
use crate::line_chart::LineChart;
use crate::rect::Rect;
use crate::text;

/// The positions and the labels of a line chart.
pub(super) struct Layout<'a> {
    pub chart: &'a LineChart,
    pub width: f64,
    pub height: f64,
    /// The rectangle of the lines and of the labels of shades and marks above them.
    pub plot: Rect,
    /// The rectangle that the axes span.
    pub data: Rect,
    pub x: Axis,
    pub y: Axis,
    pub annotations: Annotations,
    /// Whether no point can be drawn.
    pub is_empty: bool,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    title: Vec<String>,
    legend: Option<Legend>,
}

const WIDTH: f64 = 440.0;
const DATA_HEIGHT: f64 = 200.0;
const MARGIN: f64 = 8.0;
/// The space to the right of the plot.
const RIGHT: f64 = 12.0;
const TITLE: f64 = 13.0;
const LABEL: f64 = 12.0;
const TICK: f64 = 11.0;
/// How much wider bold text is than the regular text that [`text::measure`] measures.
const BOLD: f64 = 1.13;

impl<'a> Layout<'a> {
    pub fn new(chart: &'a LineChart) -> Self {
        let log = chart.y_scale.is_log();
        let points = || chart.series.iter().flat_map(|s| &s.points).filter(|point| point.is_drawable(chart.y_scale));
        let (lo, hi) = y_span(chart);
        let mut y = Axis { log, lo, hi, start: 0.0, end: 0.0 };
        let y_ticks = y.ticks(7);
        let tick_width = y_ticks.iter().map(|tick| text::measure(&tick.label, TICK)).fold(0.0, f64::max);
        let left = MARGIN + if chart.y_label.is_empty() { 0.0 } else { LABEL + 8.0 } + tick_width + 6.0;
        let data_width = WIDTH - RIGHT - left;

        let (lo, hi) = x_span(chart);
        let x = Axis { log: false, lo, hi, start: left, end: left + data_width };
        let x_ticks = x_ticks(&x, points().map(|point| point.x));
        let title = text::wrap(&chart.title, TITLE * BOLD, WIDTH - 2.0 * MARGIN, 2);
        let top = MARGIN + title.len() as f64 * (TITLE + 4.0) + if title.is_empty() { 0.0 } else { 5.0 };
        let annotations = Annotations::new(chart, &x);
        let data = Rect { x: left, y: top + annotations.height(), width: data_width, height: DATA_HEIGHT };
        (y.start, y.end) = (data.bottom(), data.y);
        let legend = has_legend(chart).then(|| {
            let names: Vec<_> = chart.series.iter().map(|series| series.name.as_str()).collect();
            Legend::new(&names, WIDTH - 2.0 * MARGIN)
        });
        let mut layout = Self {
            chart,
            width: WIDTH,
            height: 0.0,
            plot: Rect { y: top, height: data.bottom() - top, ..data },
            data,
            x,
            y,
            annotations,
            is_empty: points().next().is_none() && !chart.marks_zeros(),
            x_ticks,
            y_ticks,
            title,
            legend,
        };
        let legend = layout.legend.as_ref().map_or(0.0, |legend| legend.height() + 6.0);
        layout.height = layout.below_labels() + legend + MARGIN - 2.0;
        layout
    }

    pub fn draw_title(&self, canvas: &mut Canvas) {
        for (i, line) in self.title.iter().enumerate() {
            let (x, y) = (self.width / 2.0, MARGIN + TITLE + i as f64 * (TITLE + 4.0) - 1.0);
            canvas.text(&Label::middle(line, "chart-title", (x, y), TITLE));
        }
    }

    /// Draws what the lines cover: the band, the grid and the line at zero.
    pub fn draw_grid(&self, canvas: &mut Canvas) {
        let data = self.data;
        if let Some((lo, hi)) = self.chart.band.filter(|(lo, hi)| !lo.is_nan() && !hi.is_nan()) {
            let at = |value| self.y.at(value).clamp(data.y, data.bottom());
            let (top, bottom) = (at(lo.max(hi)), at(lo.min(hi)));
            canvas.rect("class=\"chart-band\"", Rect { y: top, height: bottom - top, ..data });
        }
        for tick in &self.y_ticks {
            let y = self.y.at(tick.value);
            canvas.line("chart-grid", (data.x, y), (data.right(), y));
        }
        if self.chart.zero_line && !self.y.log && self.y.lo <= 0.0 && self.y.hi >= 0.0 {
            let y = self.y.at(0.0);
            canvas.line("chart-zero", (data.x, y), (data.right(), y));
        }
    }

    pub fn draw_axes(&self, canvas: &mut Canvas) {
        let (chart, data) = (self.chart, self.data);
        let (left, bottom) = (data.x, data.bottom());
        canvas.path("class=\"chart-axis\"", &format!("M{left:.2} {:.2}V{bottom:.2}H{:.2}", self.plot.y, data.right()));
        for tick in &self.y_ticks {
            let y = self.y.at(tick.value);
            canvas.line("chart-axis", (left - 3.0, y), (left, y));
            let (class, anchor, rotated) = ("chart-soft", Anchor::End, false);
            canvas.text(&Label { text: &tick.label, class, x: left - 5.0, y: y + 4.0, size: TICK, anchor, rotated });
        }
        for tick in &self.x_ticks {
            let x = self.x.at(tick.value);
            canvas.line("chart-axis", (x, bottom), (x, bottom + 3.0));
            let x = x.min(self.width - 1.0 - text::measure(&tick.label, TICK) / 2.0);
            canvas.text(&Label::middle(&tick.label, "chart-soft", (x, bottom + 5.0 + TICK), TICK));
        }
        let x_label = text::shorten(&chart.x_label, LABEL, data.width);
        canvas.text(&Label::middle(&x_label, "chart-text", (data.centre().0, self.below_labels() - 3.0), LABEL));
        let y_label = text::shorten(&chart.y_label, LABEL, self.plot.height);
        let place = (MARGIN + LABEL - 3.0, self.plot.centre().1);
        canvas.text(&Label { rotated: true, ..Label::middle(&y_label, "chart-text", place, LABEL) });
    }

    pub fn draw_legend(&self, canvas: &mut Canvas) {
        if let Some(legend) = &self.legend {
            legend.draw(canvas, MARGIN, self.below_labels() + 5.0);
        }
    }

    /// The y coordinate below the tick labels and the label of the x axis.
    fn below_labels(&self) -> f64 {
        let label = if self.chart.x_label.is_empty() { 0.0 } else { LABEL + 5.0 };
        self.data.bottom() + TICK + 8.0 + label
    }
}

/// A single series has no legend if the title or the label of the y axis already names it.
fn has_legend(chart: &LineChart) -> bool {
    match chart.series.as_slice() {
        [] => false,
        [only] => !only.name.trim().is_empty() && only.name != chart.y_label && only.name != chart.title,
        _ => true,
    }
}

/// The ends of the y axis.
fn y_span(chart: &LineChart) -> (f64, f64) {
    let log = chart.y_scale.is_log();
    if let Some((one, other)) = chart.y_range
        && let (Some(one), Some(other)) = (axis::drawable(one, log), axis::drawable(other, log))
    {
        return axis::widen((one.min(other), one.max(other)), log);
    }
    let points = chart.series.iter().flat_map(|s| &s.points).filter(|point| point.is_drawable(chart.y_scale));
    let values = points.flat_map(|point| {
        let interval = point.drawable_interval();
        [Some(point.y), interval.map(|(lo, _)| lo), interval.map(|(_, hi)| hi)]
    });
    let band = chart.band.map(|(lo, hi)| [Some(lo), Some(hi)]).into_iter().flatten();
    let zero = (chart.zero_line && !log).then_some(0.0);
    let extent = axis::extent(values.chain(band).chain([zero]).flatten(), log);
    axis::pad(axis::widen(extent.unwrap_or(if log { (1.0, 10.0) } else { (0.0, 1.0) }), log), log, 0.05)
}

/// The ends of the x axis.
fn x_span(chart: &LineChart) -> (f64, f64) {
    let points = chart.series.iter().flat_map(|s| &s.points).filter(|point| point.is_drawable(chart.y_scale));
    let shades = chart.shades.iter().flat_map(|shade| [shade.from, shade.to]);
    let values = points.map(|point| point.x).chain(shades).chain(chart.marks.iter().map(|mark| mark.x));
    let given =
        chart.x_range.filter(|(lo, hi)| axis::drawable(*lo, false).is_some() && axis::drawable(*hi, false).is_some());
    let given = given.map(|(one, other)| (one.min(other), one.max(other)));
    let (lo, hi) = axis::widen(given.or_else(|| axis::extent(values, false)).unwrap_or((0.0, 1.0)), false);
    let room = (hi - lo) * 0.02;
    (lo - room, hi + room)
}

/// At most 9 ticks, as many as have space for their labels. If all x are whole numbers, so are the ticks, and the first x
/// has one too if there is space.
fn x_ticks(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Vec<Tick> {
    let whole = values.clone().all(|x| x.fract() == 0.0);
    let fit = |ticks: &[Tick]| {
        ticks.windows(2).all(|pair| {
            let room = (text::measure(&pair[0].label, TICK) + text::measure(&pair[1].label, TICK)) / 2.0 + 9.0;
            axis.at(pair[1].value) - axis.at(pair[0].value) >= room
        })
    };
    let first = axis::extent(values, false).map(|(first, _)| first).filter(|first| whole && first.abs() < 1e6);
    let ticks = |most| {
        let mut ticks = if whole { axis::ticks(axis.lo, axis.hi, most, 1.0) } else { axis.ticks(most) };
        // Layers begin at 1, but a shade that begins at 0.5 extends the axis below 1.
        ticks.retain(|tick| first.is_none_or(|first| tick.value >= first));
        ticks
    };
    let ticks = (1..=9).rev().map(ticks).find(|ticks| fit(ticks)).unwrap_or_default();
    match first.filter(|first| ticks.iter().all(|tick| tick.value > *first)) {
        Some(value) => {
            let label = format!("{value}").replace('-', "−");
            let with_first: Vec<_> = [Tick { value, label }].into_iter().chain(ticks.iter().cloned()).collect();
            if fit(&with_first) { with_first } else { ticks }
        }
        None => ticks,
    }
}
