//! Units of measurement: products and powers of base units.

mod parse;
mod table;

use super::number::{Exact, Fuel};

pub(super) use parse::parse;

/// What a quantity is measured in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// The powers of base units, none of them 0, in the order of their names.
    bases: Vec<(String, i64)>,
    /// How many products of the base units it is.
    pub(super) size: Exact,
}

impl Unit {
    fn one() -> Self {
        Self { bases: Vec::new(), size: 1.into() }
    }

    fn base(name: &str) -> Self {
        Self { bases: vec![(name.to_owned(), 1)], size: 1.into() }
    }

    /// Whether one can be converted into the other.
    pub(super) fn measures_as(&self, other: &Self) -> bool {
        self.bases == other.bases
    }

    /// Whether it is a unit of angles, or counts something that has no unit.
    pub(super) fn is_angle(&self) -> bool {
        matches!(self.bases.as_slice(), [(base, 1)] if base == "rad")
    }

    /// Whether it is a unit of temperature that is written with a degree sign.
    pub(super) fn is_temperature(&self) -> bool {
        matches!(self.bases.as_slice(), [(base, 1)] if base == "celsius" || base == "fahrenheit")
    }

    /// The scale of temperature with that letter, as in `20^\circ C`.
    pub(super) fn temperature(letter: &str) -> Option<Self> {
        match letter {
            "C" | "Celsius" | "celsius" => Some(Self::base("celsius")),
            "F" | "Fahrenheit" | "fahrenheit" => Some(Self::base("fahrenheit")),
            _ => None,
        }
    }

    fn times(&self, other: &Self, fuel: &Fuel) -> Option<Self> {
        let mut bases = self.bases.clone();
        for (name, power) in &other.bases {
            match bases.iter_mut().find(|(mine, _)| mine == name) {
                Some((_, mine)) => *mine += power,
                None => bases.push((name.clone(), *power)),
            }
        }
        bases.retain(|(_, power)| *power != 0);
        bases.sort_unstable();
        Some(Self { bases, size: self.size.mul(&other.size, fuel)? })
    }

    fn raised(&self, power: i64, fuel: &Fuel) -> Option<Self> {
        if power == 0 || power.abs() > MOST_POWER {
            return None;
        }
        let bases = self.bases.iter().map(|(name, mine)| (name.clone(), mine * power)).collect();
        Some(Self { bases, size: self.size.pow(power, fuel)? })
    }
}

const MOST_POWER: i64 = 9;

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
pub(super) fn currency(sign: char, fuel: &Fuel) -> Option<Unit> {
    if sign == '¢' {
        return parse_word("cent", fuel);
    }
    Some(Unit::base(match sign {
        '$' => "dollar",
        '€' => "euro",
        '£' => "sterling",
        '¥' => "yen",
        '₹' => "rupee",
        '₩' => "won",
        '₽' => "ruble",
        '₱' => "peso",
        '₺' => "lira",
        '₫' => "dong",
        '฿' => "baht",
        _ => return None,
    }))
}

/// The unit of a currency's code or name before a number, as in `\text{INR } 50`.
pub(super) fn currency_word(word: &str, fuel: &Fuel) -> Option<Unit> {
    let word = word.trim().trim_end_matches('.');
    (is_currency_code(word) || table::is_currency_name(word)).then(|| parse_word(word, fuel)).flatten()
}

/// Whether `word` is a code such as `USD`.
pub(super) fn is_currency_code(word: &str) -> bool {
    word.len() >= 2 && table::CURRENCY_CODES.contains(&word)
}

/// Whether `word` names a unit, in text or upright letters.
pub(super) fn is_known(word: &str) -> bool {
    table::PLAIN.contains(&word) || table::find(word).is_some()
}

pub(super) fn is_prefix(word: &str) -> bool {
    table::is_prefix(word)
}

/// Whether a run of italic letters after a number names a unit; two letters may be a product of variables.
pub(super) fn is_plainly_known(word: &str) -> bool {
    const SYMBOLS: [&str; 26] = [
        "km", "cm", "mm", "kg", "mg", "ml", "mL", "lb", "oz", "ft", "yd", "mi", "hr", "Hz", "kW", "MW", "kJ", "kN",
        "kV", "mV", "mA", "Pa", "dL", "nm", "yr", "in",
    ];
    (word.len() > 2 || SYMBOLS.contains(&word)) && is_known(word)
}

fn parse_word(word: &str, fuel: &Fuel) -> Option<Unit> {
    let Some(found) = table::find(word) else {
        let lowered = word.to_lowercase();
        let name = if lowered.len() > 3 { lowered.strip_suffix('s').unwrap_or(&lowered) } else { &lowered };
        // A letter alone is a name; in lower case it would be another.
        return Some(Unit::base(if word.len() == 1 { word } else { name }));
    };
    let mut bases: Vec<(String, i64)> = found.bases.iter().map(|(name, power)| ((*name).to_owned(), *power)).collect();
    bases.sort_unstable();
    let (above, below) = found.size;
    let size = Exact::ratio(above.into(), below.into(), fuel)?;
    let prefix = Exact::from(10).pow(found.power_of_ten, fuel)?;
    Some(Unit { bases, size: size.mul(&prefix, fuel)? })
}
