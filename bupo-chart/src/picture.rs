//! A chart after drawing.

use crate::hover::HoverData;
use crate::rect::Rect;

/// The SVG elements of a chart, without the `<svg>` element around them.
pub(crate) struct Picture {
    /// The width of the viewBox.
    pub width: f64,
    /// The height of the viewBox.
    pub height: f64,
    /// The SVG elements.
    pub body: String,
    /// The text of the `<desc>` element, for screen readers.
    pub description: String,
    /// The rectangle in which the data are drawn.
    pub plot: Rect,
    pub data: HoverData,
}
