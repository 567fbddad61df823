//! What a page's script needs to answer the pointer.

use serde::Serialize;

use crate::{Series, YScale};

/// Where a chart's data lie in its picture; made by [`Chart::hover`](crate::Chart::hover).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hover {
    /// The width of the viewBox.
    pub width: f64,
    /// The height of the viewBox.
    pub height: f64,
    /// The rectangle in which the data are drawn, in units of the viewBox.
    pub plot: Rect,
    /// What is drawn there.
    #[serde(flatten)]
    pub data: HoverData,
}

/// A rectangle in units of the viewBox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rect {
    /// The left edge.
    pub x: f64,
    /// The top edge.
    pub y: f64,
    /// From the left edge to the right one.
    pub width: f64,
    /// From the top edge to the bottom one.
    pub height: f64,
}

/// The data of a chart as its picture shows them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum HoverData {
    /// A line chart.
    Line {
        /// The values at the left and right edges of the plot.
        x: (f64, f64),
        /// The values at the bottom and top edges of the plot.
        y: (f64, f64),
        /// How values lie between bottom and top.
        y_scale: YScale,
        /// The series, with the points that are drawn. Number `i` has the class `chart-s{i % 8}`.
        series: Vec<Series>,
    },
    /// A heat map, whose row 0 is at the bottom.
    Heat {
        /// How many rows share the plot's height.
        rows: usize,
        /// How many columns share the plot's width.
        columns: usize,
    },
}

impl Rect {
    pub(crate) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(crate) fn centre(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.y + self.height
    }
}
