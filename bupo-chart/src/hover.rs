//! The data that a page's script needs to show values under the pointer.

use serde::Serialize;

use crate::line_chart::{Series, YScale};
use crate::rect::Rect;

/// The position of a chart's data in its picture; made by [`Chart::hover`](crate::Chart::hover).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hover {
    /// The width of the viewBox.
    pub width: f64,
    /// The height of the viewBox.
    pub height: f64,
    /// The rectangle in which the data are drawn.
    pub plot: Rect,
    /// The data drawn in it.
    #[serde(flatten)]
    pub data: HoverData,
}

/// The data of a chart as drawn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum HoverData {
    /// A line chart.
    Line {
        /// The values at the left and right edges of the plot.
        x: (f64, f64),
        /// The values at the bottom and top edges of the plot.
        y: (f64, f64),
        /// The scale of the y axis.
        y_scale: YScale,
        /// The series, with the points that are drawn. Series `i`, counted from 0, has the class `chart-s{i % 8}`.
        series: Vec<Series>,
    },
    /// A heat map. Row 0 is at the bottom.
    Heat {
        /// The number of rows, of equal height.
        rows: usize,
        /// The number of columns, of equal width.
        columns: usize,
    },
}
