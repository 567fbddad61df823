//! Sizes that several parts of a heat map use, in units of the viewBox.

/// The space around the picture.
pub(super) const MARGIN: f64 = 10.0;
/// The font size of the labels of the axes and of the colour bar.
pub(super) const LABEL: f64 = 13.0;
/// The font size of tick labels.
pub(super) const TICK: f64 = 12.0;

/// The width of a rotated label beside the plot or the colour bar, with its gap.
pub(super) fn rotated_label_width(label: &str) -> f64 {
    if label.is_empty() { 0.0 } else { LABEL + 7.0 }
}
