//! Numbers as they are written: decimals, repeating decimals, digits in another base.

use super::number::{Exact, Fuel};

/// The value of a decimal number.
pub(super) fn decimal(text: &str, fuel: &Fuel) -> Option<Exact> {
    let (digits, power) = match text.split_once(['e', 'E']) {
        Some((digits, power)) => (digits, power.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    fuel.burn(((digits.len() / 16) as u64).saturating_pow(2))?;
    let value = Exact::integer(format!("{whole}{fraction}").parse().ok()?)?;
    let shift = power - i64::try_from(fraction.len()).ok()?;
    match shift {
        0 => Some(value),
        _ => value.mul(&Exact::from(10).pow(shift, fuel)?, fuel),
    }
}

/// `0.1\overline{6}`: the whole is `(digits with the period - digits) / (10^n - 1) 10^m`.
pub(super) fn repeating(text: &str, period: &str, fuel: &Fuel) -> Option<Exact> {
    if !text.contains('.') || period.is_empty() || period.len() > 500 {
        return None;
    }
    let start = decimal(text.trim_end_matches('.'), fuel)?;
    let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let cycle = Exact::from(10).pow(i64::try_from(period.len()).ok()?, fuel)?.add(&(-1).into(), fuel)?;
    let scale = Exact::from(10).pow(-i64::try_from(places).ok()?, fuel)?;
    let tail = decimal(period, fuel)?.mul(&cycle.recip()?, fuel)?.mul(&scale, fuel)?;
    start.add(&tail, fuel)
}

/// `204_5`: the digits in that base.
pub(super) fn in_base(text: &str, base: u32, fuel: &Fuel) -> Option<Exact> {
    if !(2..=36).contains(&base) || text.len() > 500 {
        return None;
    }
    let mut value = Exact::from(0);
    for digit in text.chars() {
        let digit = i64::from(digit.to_digit(base)?);
        value = value.mul(&i64::from(base).into(), fuel)?.add(&digit.into(), fuel)?;
    }
    Some(value)
}
