//! The colours of a heat map.
//!
//! Both scales interpolate linearly in OKLab, a perceptually uniform colour space: the sequential scale from dark blue to
//! light yellow, the diverging scale from blue over near-white to orange. Lightness increases along the sequential scale,
//! and blue differs from yellow and orange under all common kinds of colour blindness.

use crate::heat_map::ColourScale;

/// The number of colours of a scale; odd, so that the diverging scale has a colour for zero.
pub(crate) const LEVELS: usize = 63;

const DARK: Lab = [0.27, -0.01, -0.09];
const LIGHT: Lab = [0.93, -0.01, 0.15];
const BLUE: Lab = [0.47, -0.05, -0.14];
const WHITE: Lab = [0.97, 0.0, 0.0];
const ORANGE: Lab = [0.55, 0.10, 0.12];

/// Lightness, green–red, blue–yellow.
type Lab = [f64; 3];

/// The level, from 0, of a value in a range; values outside have the level of the nearer end.
pub(crate) fn level(value: f64, (lo, hi): (f64, f64)) -> usize {
    // A cast from float to integer saturates.
    ((value - lo) / (hi - lo) * (LEVELS - 1) as f64).round().min((LEVELS - 1) as f64) as usize
}

/// The colour of a level as `#rrggbb`.
pub(crate) fn of_level(level: usize, scale: ColourScale) -> String {
    let share = level as f64 / (LEVELS - 1) as f64;
    let lab = match scale {
        ColourScale::Sequential => between(DARK, LIGHT, share),
        ColourScale::Diverging if share < 0.5 => between(BLUE, WHITE, share * 2.0),
        ColourScale::Diverging => between(WHITE, ORANGE, share * 2.0 - 1.0),
    };
    let [red, green, blue] = srgb(lab);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The attributes of a group of cells. On a dark page, zero is dark on the diverging scale, and the hues stay.
pub(crate) fn group(scale: ColourScale) -> &'static str {
    match scale {
        ColourScale::Sequential => "shape-rendering=\"crispEdges\"",
        ColourScale::Diverging => "class=\"chart-diverging\" shape-rendering=\"crispEdges\"",
    }
}

fn between(from: Lab, to: Lab, share: f64) -> Lab {
    std::array::from_fn(|i| from[i] + (to[i] - from[i]) * share)
}

/// OKLab to sRGB (Ottosson, 2020).
fn srgb([lightness, a, b]: Lab) -> [u8; 3] {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
    .map(|linear| {
        let shown = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
        (shown.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklab_has_the_published_white_and_primaries() {
        assert_eq!(srgb([1.0, 0.0, 0.0]), [255, 255, 255]);
        assert_eq!(srgb([0.0, 0.0, 0.0]), [0, 0, 0]);
        assert_eq!(srgb([0.627_96, 0.224_86, 0.125_85]), [255, 0, 0]);
        assert_eq!(srgb([0.452_01, -0.032_46, -0.311_53]), [0, 0, 255]);
    }

    #[test]
    fn every_level_has_its_own_colour() {
        for scale in [ColourScale::Sequential, ColourScale::Diverging] {
            let mut colours: Vec<_> = (0..LEVELS).map(|level| of_level(level, scale)).collect();
            colours.dedup();
            assert_eq!(colours.len(), LEVELS);
        }
    }

    #[test]
    fn the_sequential_scale_becomes_lighter() {
        let green = |level| u8::from_str_radix(&of_level(level, ColourScale::Sequential)[3..5], 16).unwrap();
        assert!((1..LEVELS).all(|level| green(level) > green(level - 1)));
    }

    #[test]
    fn zero_is_near_white_on_the_diverging_scale() {
        assert_eq!(level(0.0, (-3.0, 3.0)), LEVELS / 2);
        assert_eq!(of_level(LEVELS / 2, ColourScale::Diverging), "#f5f5f5");
    }

    #[test]
    fn values_outside_have_the_level_of_the_nearer_end() {
        let range = (0.0, 1.0);
        assert_eq!([-9.0, 0.0, 0.5, 1.0, 9.0].map(|value| level(value, range)), [0, 0, 31, 62, 62]);
    }
}
