//! What can go wrong with a picture.

/// Errors of the chart crate.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The SVG of a chart could not be read back to be rendered.
    #[error("cannot render the chart `{title}` as PNG: {reason}; its SVG can still be written")]
    Render {
        /// The chart's title.
        title: String,
        /// What the renderer said.
        reason: String,
    },
}
