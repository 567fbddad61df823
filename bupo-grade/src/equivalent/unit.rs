//! Units of measurement: what they measure, and how much of it.

use super::number::{Exact, Fuel};

/// What a quantity is measured in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// What is measured; units of different kinds never agree.
    kind: String,
    /// How many of the kind's base unit it is.
    pub(super) size: Exact,
}

impl Unit {
    /// Whether one can be converted into the other.
    pub(super) fn measures_as(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// Kind, names, and the size as a fraction.
const UNITS: &[(&str, &[&str], (i64, i64))] = &[
    ("length", &["m", "meter", "meters", "metre", "metres"], (1, 1)),
    ("length", &["km", "kilometer", "kilometers", "kilometre", "kilometres"], (1000, 1)),
    ("length", &["cm", "centimeter", "centimeters", "centimetre", "centimetres"], (1, 100)),
    ("length", &["mm", "millimeter", "millimeters", "millimetre", "millimetres"], (1, 1000)),
    ("length", &["in", "inch", "inches"], (254, 10_000)),
    ("length", &["ft", "foot", "feet"], (3048, 10_000)),
    ("length", &["yd", "yard", "yards"], (9144, 10_000)),
    ("length", &["mi", "mile", "miles"], (1_609_344, 1000)),
    ("time", &["s", "sec", "secs", "second", "seconds"], (1, 1)),
    ("time", &["min", "mins", "minute", "minutes"], (60, 1)),
    ("time", &["h", "hr", "hrs", "hour", "hours"], (3600, 1)),
    ("time", &["day", "days"], (86_400, 1)),
    ("time", &["week", "weeks"], (604_800, 1)),
    ("month", &["month", "months"], (1, 1)),
    ("month", &["year", "years", "yr", "yrs"], (12, 1)),
    ("mass", &["g", "gram", "grams"], (1, 1)),
    ("mass", &["kg", "kilogram", "kilograms"], (1000, 1)),
    ("mass", &["mg", "milligram", "milligrams"], (1, 1000)),
    ("mass", &["lb", "lbs", "pound", "pounds"], (45_359_237, 100_000)),
    ("mass", &["oz", "ounce", "ounces"], (45_359_237, 1_600_000)),
    ("volume", &["l", "L", "liter", "liters", "litre", "litres"], (1, 1)),
    ("volume", &["ml", "mL", "milliliter", "milliliters", "millilitre", "millilitres"], (1, 1000)),
    ("volume", &["gal", "gallon", "gallons"], (3_785_411_784, 1_000_000_000)),
    ("volume", &["quart", "quarts"], (946_352_946, 1_000_000_000)),
    ("volume", &["cup", "cups"], (2_365_882_365, 10_000_000_000)),
    ("dollar", &["dollar", "dollars", "USD"], (1, 1)),
    ("dollar", &["cent", "cents"], (1, 100)),
    ("euro", &["euro", "euros", "EUR"], (1, 1)),
    ("angle", &["rad", "radian", "radians"], (1, 1)),
    ("length/time", &["mph"], (44_704, 100_000)),
    ("volt", &["V", "volt", "volts"], (1, 1)),
    ("ampere", &["A", "amp", "amps"], (1, 1)),
    ("newton", &["N", "newton", "newtons"], (1, 1)),
    ("joule", &["J", "joule", "joules"], (1, 1)),
    ("watt", &["W", "watt", "watts"], (1, 1)),
    ("hertz", &["Hz", "hertz"], (1, 1)),
    ("acre", &["acre", "acres"], (1, 1)),
];

/// Words that say more than what is counted.
const CLAUSES: [&str; 18] = [
    "or", "and", "more", "less", "fewer", "than", "at", "not", "least", "most", "mod", "if", "for", "when", "where",
    "plus", "minus", "times",
];

/// Words that say no more than that a number is one.
const PLAIN: [&str; 6] = ["unit", "units", "sq", "square", "cubic", "un"];

/// What a word multiplies the number before it by: `3 \text{ million}`.
pub(super) fn multiplier(word: &str) -> Option<i64> {
    Some(match word.to_lowercase().as_str() {
        "dozen" => 12,
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        _ => return None,
    })
}

/// The unit of a currency's sign.
pub(super) fn currency(sign: char) -> Option<Unit> {
    let kind = match sign {
        '$' => "dollar",
        '€' => "euro",
        '£' => "sterling",
        '¥' => "yen",
        _ => return None,
    };
    Some(Unit { kind: kind.to_owned(), size: 1.into() })
}

pub(super) fn is_known(word: &str) -> bool {
    PLAIN.contains(&word) || find(word).is_some()
}

/// The unit that `words` and a power written after them name; the inner `None` is a word without a meaning of its own.
pub(super) fn parse(words: &str, power: i64, fuel: &Fuel) -> Option<Option<Unit>> {
    if !(1..=4).contains(&power) {
        return None;
    }
    let lowered = words.trim().trim_end_matches('.').replace(" per ", "/").replace([',', '.'], " ");
    let mut parts = lowered.split('/');
    let above = product(parts.next()?, fuel)?;
    let below = match parts.next() {
        Some(part) => Some(product(part, fuel)?),
        None => None,
    };
    if parts.next().is_some() {
        return None;
    }
    let unit = match (above, below) {
        // `m/s^2`: the power belongs to the last one.
        (above, Some(Some(below))) => {
            let below = raised(below, power, fuel)?;
            let above = above.unwrap_or(Unit { kind: String::new(), size: 1.into() });
            let size = above.size.mul(&below.size.recip()?, fuel)?;
            Some(Unit { kind: format!("{}/{}", above.kind, below.kind), size })
        }
        (Some(above), _) => Some(raised(above, power, fuel)?),
        (None, _) => None,
    };
    Some(unit)
}

fn find(word: &str) -> Option<(&'static str, (i64, i64))> {
    let lowered = word.to_lowercase();
    // Case tells apart only the short names.
    let written = |name: &str| name == word || (name.len() > 2 && name == lowered);
    UNITS.iter().find(|(_, names, _)| names.iter().any(|name| written(name))).map(|(kind, _, size)| (*kind, *size))
}

fn product(words: &str, fuel: &Fuel) -> Option<Option<Unit>> {
    let (mut kind, mut size, mut power) = (String::new(), Exact::from(1), 1);
    for word in words.split_whitespace() {
        match word.to_lowercase().as_str() {
            "square" | "sq" | "squared" => power = 2,
            "cubic" | "cu" | "cubed" => power = 3,
            "unit" | "units" | "un" | "of" | "the" | "a" | "an" => {}
            lowered if CLAUSES.contains(&lowered) => return None,
            lowered => {
                let (name, ratio) = match find(word) {
                    Some((kind, (above, below))) => (kind, Exact::ratio(above.into(), below.into(), fuel)?),
                    None => (lowered.strip_suffix('s').unwrap_or(lowered), 1.into()),
                };
                if !kind.is_empty() {
                    kind.push(' ');
                }
                kind.push_str(name);
                size = size.mul(&ratio, fuel)?;
            }
        }
    }
    if kind.is_empty() {
        return Some(None);
    }
    raised(Unit { kind, size }, power, fuel).map(Some)
}

fn raised(unit: Unit, power: i64, fuel: &Fuel) -> Option<Unit> {
    match power {
        1 => Some(unit),
        _ => Some(Unit { kind: format!("{}^{power}", unit.kind), size: unit.size.pow(power, fuel)? }),
    }
}
