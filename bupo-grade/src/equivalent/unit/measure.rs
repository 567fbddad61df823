//! A unit as a product of powers of base units.

use super::table;
use crate::equivalent::number::{Exact, Fuel};

/// What a quantity is measured in.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::equivalent) struct Unit {
    /// The powers of base units, none of them 0, in the order of their names.
    pub(super) bases: Vec<(String, i64)>,
    /// How many products of the base units it is.
    pub(in crate::equivalent) size: Exact,
}

impl Unit {
    pub(super) fn one() -> Self {
        Self { bases: Vec::new(), size: 1.into() }
    }

    pub(super) fn base(name: &str) -> Self {
        Self { bases: vec![(name.to_owned(), 1)], size: 1.into() }
    }

    /// Whether one can be converted into the other.
    pub(in crate::equivalent) fn measures_as(&self, other: &Self) -> bool {
        self.bases == other.bases
    }

    /// Whether it is a unit of angles, or counts something that has no unit.
    pub(in crate::equivalent) fn is_angle(&self) -> bool {
        matches!(self.bases.as_slice(), [(base, 1)] if base == "rad")
    }

    /// Whether it is a unit of temperature that is written with a degree sign.
    pub(in crate::equivalent) fn is_temperature(&self) -> bool {
        matches!(self.bases.as_slice(), [(base, 1)] if base == "celsius" || base == "fahrenheit")
    }

    /// The scale of temperature with that letter, as in `20^\circ C`.
    pub(in crate::equivalent) fn temperature(letter: &str) -> Option<Self> {
        match letter {
            "C" | "Celsius" | "celsius" => Some(Self::base("celsius")),
            "F" | "Fahrenheit" | "fahrenheit" => Some(Self::base("fahrenheit")),
            _ => None,
        }
    }

    pub(super) fn times(&self, other: &Self, fuel: &Fuel) -> Option<Self> {
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

    pub(super) fn raised(&self, power: i64, fuel: &Fuel) -> Option<Self> {
        if power == 0 || power.abs() > MOST_POWER {
            return None;
        }
        let bases = self.bases.iter().map(|(name, mine)| (name.clone(), mine * power)).collect();
        Some(Self { bases, size: self.size.pow(power, fuel)? })
    }
}

const MOST_POWER: i64 = 9;

pub(super) fn parse_word(word: &str, fuel: &Fuel) -> Option<Unit> {
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
