//! Axes: the range of values, the position of a value, and the ticks.

/// A linear or logarithmic map from the values `lo` to `hi` to the coordinates `start` to `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub log: bool,
    pub lo: f64,
    pub hi: f64,
    /// The coordinate of `lo`.
    pub start: f64,
    /// The coordinate of `hi`.
    pub end: f64,
}

/// A value with its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub value: f64,
    pub label: String,
}

/// Larger values are not drawn, so that differences and margins stay finite.
const LARGEST: f64 = 1e300;
/// Smaller values count as 0 on a linear axis and are not drawn on a log axis.
const SMALLEST: f64 = 1e-300;

/// The value, if it can be drawn.
pub(crate) fn drawable(value: f64, log: bool) -> Option<f64> {
    let inside = value.abs() <= LARGEST && (!log || value >= SMALLEST);
    // Differences of smaller numbers would be subnormal and imprecise.
    inside.then_some(if value.abs() < SMALLEST { 0.0 } else { value })
}

/// The least and the greatest of the drawable values.
pub(crate) fn extent(values: impl IntoIterator<Item = f64>, log: bool) -> Option<(f64, f64)> {
    values.into_iter().filter_map(|value| drawable(value, log)).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((lo, hi)) => Some((value.min(lo), value.max(hi))),
    })
}

/// A range wide enough to divide by: ends that are equal or almost equal are moved apart.
pub(crate) fn widen((lo, hi): (f64, f64), log: bool) -> (f64, f64) {
    if log {
        return if hi / lo > 1.0 + 1e-6 { (lo, hi) } else { (lo / 2.0, hi * 2.0) };
    }
    let size = lo.abs().max(hi.abs());
    match size {
        0.0 => (-1.0, 1.0),
        _ if hi - lo > size * 1e-9 => (lo, hi),
        _ => (lo - size * 0.1, hi + size * 0.1),
    }
}

/// Extends a range by `share` of its length at both ends, but not across zero.
pub(crate) fn pad((lo, hi): (f64, f64), log: bool, share: f64) -> (f64, f64) {
    if log {
        let room = ((hi.ln() - lo.ln()) * share).exp();
        // The range may be all that can be drawn; its ends must stay finite and positive.
        return ((lo / room).max(SMALLEST / 1e5), (hi * room).min(LARGEST * 1e5));
    }
    let room = (hi - lo) * share;
    let keep = |from: f64, to: f64| if from * to < 0.0 || from == 0.0 { 0.0 } else { to };
    (keep(lo, lo - room), keep(hi, hi + room))
}

impl Axis {
    /// The coordinate of a value. The distance outside the axis is limited to 5 times its length.
    pub fn at(&self, value: f64) -> f64 {
        let on = |value: f64| if self.log { value.max(0.0).ln() } else { value };
        let share = (on(value) - on(self.lo)) / (on(self.hi) - on(self.lo));
        self.start + share.clamp(-5.0, 6.0) * (self.end - self.start)
    }

    /// About `count` ticks, at round values.
    pub fn ticks(&self, count: usize) -> Vec<Tick> {
        if self.log { log_ticks(self.lo, self.hi, count) } else { ticks(self.lo, self.hi, count, 0.0) }
    }
}

/// At most `count + 1` ticks at multiples of 1, 2 or 5 times a power of ten, at least `min_step` apart.
pub(crate) fn ticks(lo: f64, hi: f64, count: usize, min_step: f64) -> Vec<Tick> {
    let rough = ((hi - lo) / count.max(1) as f64).max(min_step);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9)).unwrap_or(10.0);
    let step = factor * power;
    let rounding = (hi - lo) * 1e-6;
    let (first, last) = (((lo - rounding) / step).ceil(), ((hi + rounding) / step).floor());
    if !(step > 0.0 && last - first < 1e3) {
        return Vec::new();
    }
    let values = (0..=(last - first).max(-1.0) as i64).map(|i| (first + i as f64) * step);
    let scientific = needs_power(lo.abs().max(hi.abs()));
    values.map(|value| Tick { value, label: format_number(value, step, scientific) }).collect()
}

/// Ticks at powers of ten if that gives at least 3, else also at 2 and 5 times powers of ten if that does, else as on a
/// linear axis.
fn log_ticks(lo: f64, hi: f64, count: usize) -> Vec<Tick> {
    let (first, last) = (lo.log10().floor() as i32 - 1, hi.log10().ceil() as i32 + 1);
    let inside = |value: &f64| (lo * (1.0 - 1e-9)..=hi * (1.0 + 1e-9)).contains(value);
    let labelled = |values: Vec<f64>| {
        let scientific = values.iter().any(|value| needs_power(*value) || *value < 1e-3);
        values.into_iter().map(|value| Tick { value, label: format_number(value, value, scientific) }).collect()
    };
    let powers: Vec<f64> = (first..=last).map(|power| 10f64.powi(power)).filter(inside).collect();
    if powers.len() > 2 {
        let stride = powers.len().div_ceil(count.max(1));
        return labelled(powers.into_iter().step_by(stride).collect());
    }
    let between = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)));
    let between: Vec<f64> = between.filter(inside).collect();
    if between.len() > 2 { labelled(between) } else { ticks(lo, hi, count, 0.0) }
}

/// Whether labels of values up to this size are written with a power of ten.
fn needs_power(largest: f64) -> bool {
    !(1e-3..1e6).contains(&largest)
}

/// A number with the decimals that distinguish ticks `step` apart.
fn format_number(value: f64, step: f64, scientific: bool) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let power_of = |value: f64| (value.abs().log10() + 1e-9).floor();
    if !scientific {
        let decimals = (-power_of(step)).clamp(0.0, 15.0) as usize;
        return format!("{value:.decimals$}").replace('-', "−");
    }
    let digits = (power_of(value) - power_of(step)).clamp(0.0, 15.0) as usize;
    let text = format!("{value:.digits$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    // The number of decimals of the mantissa varies along an axis anyway, so trailing zeros are removed.
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let mantissa = mantissa.replace('-', "−");
    match (mantissa.as_str(), power) {
        (_, "0") => mantissa,
        ("1", _) => format!("10{}", superscript(power)),
        ("−1", _) => format!("−10{}", superscript(power)),
        _ => format!("{mantissa}×10{}", superscript(power)),
    }
}

/// An exponent in superscript digits.
fn superscript(power: &str) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    power.chars().map(|c| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(lo: f64, hi: f64, count: usize, min_step: f64) -> String {
        ticks(lo, hi, count, min_step).into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
    }

    fn log_labels(lo: f64, hi: f64) -> String {
        log_ticks(lo, hi, 6).into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round() {
        for (lo, hi, count, expected) in [
            (0.0, 1.0, 5, "0 0.2 0.4 0.6 0.8 1.0"),
            (-0.13, 0.11, 5, "−0.10 −0.05 0 0.05 0.10"),
            (-3.0, 12.0, 4, "0 5 10"),
            (0.0, 40_000.0, 4, "0 10000 20000 30000 40000"),
            (0.0, 3e6, 4, "0 10⁶ 2×10⁶ 3×10⁶"),
            (0.0, 2.5e-5, 5, "0 5×10⁻⁶ 10⁻⁵ 1.5×10⁻⁵ 2×10⁻⁵ 2.5×10⁻⁵"),
            (-1e300, 1e300, 2, "−10³⁰⁰ 0 10³⁰⁰"),
            (99.99, 100.01, 4, "99.990 99.995 100.000 100.005 100.010"),
            (1.0, 1.0, 4, ""),
        ] {
            assert_eq!(labels(lo, hi, count, 0.0), expected, "{lo} to {hi}");
        }
        assert_eq!(labels(0.5, 3.5, 8, 1.0), "1 2 3");
        assert_eq!(labels(-1.1e-9, -0.9e-9, 8, 1.0), "", "0 is far outside");
    }

    #[test]
    fn log_ticks_are_powers_of_ten_if_there_are_at_least_three() {
        for (lo, hi, expected) in [
            (0.5, 2000.0, "1 10 100 1000"),
            (1e-7, 0.1, "10⁻⁷ 10⁻⁵ 10⁻³ 10⁻¹"),
            (3.0, 70.0, "5 10 20 50"),
            (0.002, 0.009, "0.002 0.004 0.006 0.008"),
            (41.0, 47.0, "41 42 43 44 45 46 47"),
        ] {
            assert_eq!(log_labels(lo, hi), expected, "{lo} to {hi}");
        }
    }

    #[test]
    fn ranges_are_widened_and_padded() {
        assert_eq!(widen((0.0, 0.0), false), (-1.0, 1.0));
        assert_eq!(widen((5.0, 5.0), false), (4.5, 5.5));
        assert_eq!(widen((2.0, 3.0), false), (2.0, 3.0));
        assert_eq!(widen((4.0, 4.0), true), (2.0, 8.0));
        assert_eq!(pad((0.0, 10.0), false, 0.1), (0.0, 11.0));
        assert_eq!(pad((0.5, 10.5), false, 0.1), (0.0, 11.5));
        assert_eq!(pad((-10.0, -0.5), false, 0.1).1, 0.0);
    }

    #[test]
    fn values_that_cannot_be_drawn_are_left_out() {
        assert_eq!(extent([f64::NAN, f64::INFINITY, 3.0, -1.0, f64::MAX], false), Some((-1.0, 3.0)));
        assert_eq!(extent([0.0, -1.0, 4.0, 1e-310], true), Some((4.0, 4.0)));
        assert_eq!(extent([f64::NAN], false), None);
    }

    #[test]
    fn coordinates_are_limited() {
        let axis = Axis { log: false, lo: 0.0, hi: 1.0, start: 200.0, end: 0.0 };
        assert_eq!((axis.at(0.25), axis.at(1e300), axis.at(-1e300)), (150.0, -1000.0, 1200.0));
        let axis = Axis { log: true, lo: 1.0, hi: 100.0, start: 0.0, end: 10.0 };
        assert!((axis.at(10.0) - 5.0).abs() < 1e-12);
    }
}
