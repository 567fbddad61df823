//! Line charts.

use serde::Serialize;

use crate::canvas::{Canvas, Label};
use crate::chart::Picture;
use crate::{HoverData, axis, text};
use frame::Frame;

mod curves;
mod frame;
mod notes;

/// Series over a shared number, usually layers from 1 or training steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// Above the plot; may be empty.
    pub title: String,
    /// What x is.
    pub x_label: String,
    /// What y is, with its unit.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Ranges of x with a background of their own. Neighbours share an end, such as 6.5 between layers 6 and 7.
    pub shades: Vec<Shade>,
    /// Values of x with a vertical line.
    pub marks: Vec<Mark>,
    /// How y is spaced.
    pub y_scale: YScale,
    /// Whether y = 0 is in the picture and has a line.
    pub zero_line: bool,
    /// The ends of the y axis, for charts side by side; otherwise as the values need.
    pub y_range: Option<(f64, f64)>,
    /// A range of y with a background of its own, such as a tolerance around 0.
    pub band: Option<(f64, f64)>,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// In the order of x. One that is not finite leaves a gap.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// The ends of the 95 % interval of y: a translucent band along the line, or whiskers on a point that is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

/// A range of x with a background, such as a stage of layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shade {
    /// The left end.
    pub from: f64,
    /// The right end.
    pub to: f64,
    /// At the top of the plot.
    pub label: String,
}

/// A vertical dashed line, such as a change of phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// Above the line.
    pub label: String,
}

/// How values are spaced along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum YScale {
    /// Equal differences.
    #[default]
    Linear,
    /// Equal ratios; what is not positive leaves a gap.
    Log,
}

pub(crate) fn draw(chart: &LineChart, id: &str) -> Picture {
    let frame = Frame::new(chart);
    let mut canvas = Canvas::default();
    frame.draw_title(&mut canvas);
    frame.notes.draw_shades(&mut canvas, frame.plot);
    frame.draw_grid(&mut canvas);
    frame.notes.draw_marks(&mut canvas, frame.plot);
    curves::draw(&mut canvas, &frame, &format!("{id}-plot"));
    frame.notes.draw_labels(&mut canvas, frame.plot);
    frame.draw_axes(&mut canvas);
    if frame.is_empty {
        canvas.text(&Label::middle("no data", "chart-soft", frame.data.centre(), 12.0));
    }
    frame.draw_legend(&mut canvas);
    Picture {
        width: frame.width,
        height: frame.height,
        body: canvas.into_string(),
        description: description(chart),
        plot: frame.data,
        data: HoverData::Line {
            x: (frame.x.lo, frame.x.hi),
            y: (frame.y.lo, frame.y.hi),
            y_scale: chart.y_scale,
            series: chart.series.iter().map(|series| drawn(series, chart.y_scale)).collect(),
        },
    }
}

impl YScale {
    fn is_log(self) -> bool {
        self == Self::Log
    }
}

impl Point {
    /// Whether the point has a place.
    fn is_drawable(&self, scale: YScale) -> bool {
        axis::drawable(self.x, false).is_some() && axis::drawable(self.y, scale.is_log()).is_some()
    }

    /// The interval from its lower to its upper end, when both are finite.
    fn drawable_interval(&self) -> Option<(f64, f64)> {
        let (one, other) = self.interval?;
        let (one, other) = (axis::drawable(one, false)?, axis::drawable(other, false)?);
        Some((one.min(other), one.max(other)))
    }
}

/// The series with the points and intervals that are in the picture.
fn drawn(series: &Series, scale: YScale) -> Series {
    let points = series.points.iter().filter(|point| point.is_drawable(scale));
    let points = points.map(|point| Point { interval: point.drawable_interval(), ..*point }).collect();
    Series { name: text::clean(&series.name), points }
}

fn description(chart: &LineChart) -> String {
    let names: Vec<_> = chart.series.iter().take(40).map(|series| series.name.as_str()).collect();
    format!("Line chart of {} over {}: {}", chart.y_label, chart.x_label, names.join(", "))
}
