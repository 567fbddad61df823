//! The input of a line chart.

use serde::Serialize;

use crate::axis;

/// Series over a common x axis, usually layers (from 1) or training steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// The title above the plot; may be empty.
    pub title: String,
    /// The label of the x axis.
    pub x_label: String,
    /// The label of the y axis: the quantity and its unit.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Shaded ranges of x. Adjacent ranges share an end, such as 6.5 between layers 6 and 7.
    pub shades: Vec<Shade>,
    /// Vertical lines.
    pub marks: Vec<Mark>,
    /// The scale of the y axis.
    pub y_scale: YScale,
    /// Whether the y axis includes 0 and a line is drawn there. On a log scale nothing is drawn.
    pub zero_line: bool,
    /// The ends of the y axis, for charts side by side. `None`: chosen from the values.
    pub y_range: Option<(f64, f64)>,
    /// The ends of the x axis before its margins, for charts side by side. `None`: chosen from the values.
    pub x_range: Option<(f64, f64)>,
    /// A shaded range of y, such as a tolerance around 0.
    pub band: Option<(f64, f64)>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The points, in increasing x. A point with a non-finite coordinate leaves a gap.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// The horizontal coordinate.
    pub x: f64,
    /// The vertical coordinate.
    pub y: f64,
    /// The ends of the 95 % interval of y: drawn as a translucent band, or as whiskers on a point without neighbours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

/// A shaded range of x, such as a stage of layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shade {
    /// The left end.
    pub from: f64,
    /// The right end.
    pub to: f64,
    /// The text at the top of the plot.
    pub label: String,
}

/// A vertical dashed line, such as a change of training phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// The x coordinate.
    pub x: f64,
    /// The text above the line.
    pub label: String,
}

/// The scale of the y axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum YScale {
    /// Equal distances are equal differences.
    #[default]
    Linear,
    /// Equal distances are equal ratios. A point with y ≤ 0 leaves a gap; a zero is marked at the bottom.
    Log,
}

impl LineChart {
    /// Whether zeros are marked at the bottom, because a log scale has no place for them.
    pub fn marks_zeros(&self) -> bool {
        self.series.iter().flat_map(|series| &series.points).any(|point| point.is_marked_zero(self.y_scale))
    }
}

impl YScale {
    pub(crate) fn is_log(self) -> bool {
        self == Self::Log
    }
}

impl Point {
    /// Whether both coordinates are in the range that can be drawn.
    pub(crate) fn is_drawable(&self, scale: YScale) -> bool {
        axis::drawable(self.x, false).is_some() && axis::drawable(self.y, scale.is_log()).is_some()
    }

    /// Whether the point is a zero on a log scale, which is marked at the bottom.
    pub(crate) fn is_marked_zero(&self, scale: YScale) -> bool {
        scale.is_log() && self.y == 0.0 && axis::drawable(self.x, false).is_some()
    }

    /// The interval as (lower end, upper end), if both can be drawn.
    pub(crate) fn drawable_interval(&self) -> Option<(f64, f64)> {
        let (one, other) = self.interval?;
        let (one, other) = (axis::drawable(one, false)?, axis::drawable(other, false)?);
        Some((one.min(other), one.max(other)))
    }
}
