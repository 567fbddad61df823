//! The errors of this crate.

/// Errors of drawing a chart.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The SVG of a chart could not be rendered as PNG.
    #[error("cannot render the chart `{title}` as PNG: {reason}; its SVG can still be written")]
    Render {
        /// The chart's title.
        title: String,
        /// The renderer's message.
        reason: String,
    },
}
