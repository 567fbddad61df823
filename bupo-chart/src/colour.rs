//! Colours of a heat map's cells.
//!
//! Both scales are straight lines in OKLab, a space in which equal steps look equal: the sequential one from dark blue
//! to light yellow, the diverging one from blue over near-white to orange. Lightness alone orders the sequential scale,
//! and blue against yellow or orange is told apart with every common colour blindness.

use crate::ColourScale;

/// How many colours a scale has. Odd, so that a diverging scale has one for zero.
pub(crate) const LEVELS: usize = 63;

const DARK: Lab = [0.27, -0.01, -0.09];
const LIGHT: Lab = [0.93, -0.01, 0.15];
const BLUE: Lab = [0.47, -0.05, -0.14];
const WHITE: Lab = [0.97, 0.0, 0.0];
const ORANGE: Lab = [0.55, 0.10, 0.12];

/// Lightness, green to red, blue to yellow.
type Lab = [f64; 3];

/// The level of a value between the ends of a range; values outside get the end's.
pub(crate) fn level(value: f64, (lo, hi): (f64, f64)) -> usize {
    // A float that is out of the integer's range becomes its nearest value.
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
    fn a_sequential_scale_grows_lighter() {
        let green = |level| u8::from_str_radix(&of_level(level, ColourScale::Sequential)[3..5], 16).unwrap();
        assert!((1..LEVELS).all(|level| green(level) > green(level - 1)));
    }

    #[test]
    fn zero_is_white_where_the_scale_diverges() {
        assert_eq!(level(0.0, (-3.0, 3.0)), LEVELS / 2);
        assert_eq!(of_level(LEVELS / 2, ColourScale::Diverging), "#f5f5f5");
    }

    #[test]
    fn values_outside_get_the_colour_of_the_end() {
        let range = (0.0, 1.0);
        assert_eq!([-9.0, 0.0, 0.5, 1.0, 9.0].map(|value| level(value, range)), [0, 0, 31, 62, 62]);
    }
}
