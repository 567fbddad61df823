//! The units that are known by name.
//!
//! An own table: libraries of units (`uom`) give types to quantities in code, and do not parse text.

/// A unit in terms of base units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// A fraction.
    pub(super) size: (i64, i64),
    /// That of the SI prefix.
    pub(super) power_of_ten: i64,
    pub(super) bases: &'static [(&'static str, i64)],
}

struct Entry {
    /// Written in this case only.
    symbols: &'static [&'static str],
    /// Written in any case, also with an `s` at the end.
    names: &'static [&'static str],
    prefixes: bool,
    size: (i64, i64),
    bases: &'static [(&'static str, i64)],
}

/// The unit of that name, with an SI prefix or without.
pub(super) fn find(word: &str) -> Option<Found> {
    let lowered = word.to_lowercase();
    let entry = ENTRIES.iter().find(|entry| entry.symbols.contains(&word)).or_else(|| named(&lowered));
    if let Some(entry) = entry {
        return Some(Found { size: entry.size, power_of_ten: 0, bases: entry.bases });
    }
    let prefixed = |entry: &Entry, power: i64| Found { size: entry.size, power_of_ten: power, bases: entry.bases };
    let by_symbol = PREFIXES.iter().find_map(|(symbol, _, power)| {
        let rest = word.strip_prefix(symbol)?;
        let entry = ENTRIES.iter().find(|entry| entry.prefixes && entry.symbols.contains(&rest))?;
        Some(prefixed(entry, *power))
    });
    by_symbol.or_else(|| {
        PREFIXES.iter().find_map(|(_, name, power)| {
            let rest = lowered.strip_prefix(name).filter(|_| !name.is_empty())?;
            Some(prefixed(named(rest).filter(|entry| entry.prefixes)?, *power))
        })
    })
}

fn named(lowered: &str) -> Option<&'static Entry> {
    let by = |name: &str| ENTRIES.iter().find(|entry| entry.names.contains(&name));
    by(lowered).or_else(|| by(lowered.strip_suffix('s')?))
}

/// Whether `word` is the symbol of an SI prefix.
pub(super) fn is_prefix(word: &str) -> bool {
    PREFIXES.iter().any(|(symbol, ..)| *symbol == word)
}

pub(super) fn is_currency_name(word: &str) -> bool {
    let lowered = word.to_lowercase();
    named(&lowered).is_some_and(|entry| matches!(entry.bases, [(base, 1)] if CURRENCIES.contains(base)))
}

const CURRENCIES: [&str; 7] = ["dollar", "euro", "sterling", "yen", "rupee", "yuan", "won"];

pub(super) const CURRENCY_CODES: [&str; 17] = [
    "USD", "EUR", "GBP", "INR", "JPY", "CNY", "RMB", "KRW", "CAD", "AUD", "CHF", "HKD", "SGD", "NZD", "MXN", "Rs",
    "US$",
];

/// Words that say no more than that a number is one.
pub(super) const PLAIN: [&str; 5] = ["unit", "units", "sq", "square", "cubic"];

const PREFIXES: [(&str, &str, i64); 15] = [
    ("T", "tera", 12),
    ("G", "giga", 9),
    ("M", "mega", 6),
    ("k", "kilo", 3),
    ("h", "hecto", 2),
    ("da", "deca", 1),
    ("d", "deci", -1),
    ("c", "centi", -2),
    ("m", "milli", -3),
    ("μ", "micro", -6),
    ("u", "", -6),
    ("n", "nano", -9),
    ("p", "pico", -12),
    ("f", "femto", -15),
    ("K", "", 3),
];

const fn si(
    symbols: &'static [&'static str],
    names: &'static [&'static str],
    bases: &'static [(&'static str, i64)],
) -> Entry {
    Entry { symbols, names, prefixes: true, size: (1, 1), bases }
}

const fn of(
    symbols: &'static [&'static str],
    names: &'static [&'static str],
    size: (i64, i64),
    bases: &'static [(&'static str, i64)],
) -> Entry {
    Entry { symbols, names, prefixes: false, size, bases }
}

const fn sized(entry: Entry, size: (i64, i64)) -> Entry {
    Entry { size, ..entry }
}

const LENGTH: &[(&str, i64)] = &[("m", 1)];
const AREA: &[(&str, i64)] = &[("m", 2)];
const VOLUME: &[(&str, i64)] = &[("m", 3)];
const TIME: &[(&str, i64)] = &[("s", 1)];
const MONTHS: &[(&str, i64)] = &[("month", 1)];
const MASS: &[(&str, i64)] = &[("g", 1)];
const SPEED: &[(&str, i64)] = &[("m", 1), ("s", -1)];
const ENERGY: &[(&str, i64)] = &[("g", 1), ("m", 2), ("s", -2)];
const PRESSURE: &[(&str, i64)] = &[("g", 1), ("m", -1), ("s", -2)];

const ENTRIES: &[Entry] = &[
    si(&["m"], &["meter", "metre"], LENGTH),
    si(&["g"], &["gram", "gramme"], MASS),
    si(&["s", "sec"], &["second", "sec"], TIME),
    si(&["A"], &["ampere", "amp"], &[("A", 1)]),
    si(&["K"], &["kelvin"], &[("K", 1)]),
    si(&["mol"], &["mole"], &[("mol", 1)]),
    si(&["cd"], &["candela"], &[("cd", 1)]),
    si(&["Hz"], &["hertz"], &[("s", -1)]),
    sized(si(&["N"], &["newton"], &[("g", 1), ("m", 1), ("s", -2)]), (1000, 1)),
    sized(si(&["J"], &["joule"], ENERGY), (1000, 1)),
    sized(si(&["W"], &["watt"], &[("g", 1), ("m", 2), ("s", -3)]), (1000, 1)),
    sized(si(&["Pa"], &["pascal"], PRESSURE), (1000, 1)),
    sized(si(&["V"], &["volt"], &[("g", 1), ("m", 2), ("s", -3), ("A", -1)]), (1000, 1)),
    sized(si(&["Ω"], &["ohm", "omega"], &[("g", 1), ("m", 2), ("s", -3), ("A", -2)]), (1000, 1)),
    sized(si(&["S"], &["siemens"], &[("g", -1), ("m", -2), ("s", 3), ("A", 2)]), (1, 1000)),
    si(&["C"], &["coulomb"], &[("A", 1), ("s", 1)]),
    sized(si(&["F"], &["farad"], &[("g", -1), ("m", -2), ("s", 4), ("A", 2)]), (1, 1000)),
    sized(si(&["T"], &["tesla"], &[("g", 1), ("s", -2), ("A", -1)]), (1000, 1)),
    sized(si(&["H"], &["henry"], &[("g", 1), ("m", 2), ("s", -2), ("A", -2)]), (1000, 1)),
    sized(si(&["Wb"], &["weber"], &[("g", 1), ("m", 2), ("s", -2), ("A", -1)]), (1000, 1)),
    sized(si(&["Wh"], &[], ENERGY), (3_600_000, 1)),
    sized(si(&["cal"], &["calorie"], ENERGY), (4184, 1)),
    si(&["eV"], &["electronvolt"], &[("eV", 1)]),
    sized(si(&["l", "L", "ℓ"], &["liter", "litre"], VOLUME), (1, 1000)),
    si(&["bit"], &["bit"], &[("bit", 1)]),
    sized(si(&["B"], &["byte"], &[("bit", 1)]), (8, 1)),
    si(&["rad"], &["radian"], &[("rad", 1)]),
    of(&["in"], &["inch", "inche"], (254, 10_000), LENGTH),
    of(&["ft"], &["foot", "feet"], (3048, 10_000), LENGTH),
    of(&["yd"], &["yard", "yd"], (9144, 10_000), LENGTH),
    of(&["mi"], &["mile"], (1_609_344, 1000), LENGTH),
    of(&[], &["micron"], (1, 1_000_000), LENGTH),
    of(&["Å"], &["angstrom"], (1, 10_000_000_000), LENGTH),
    of(&["min"], &["minute", "min"], (60, 1), TIME),
    of(&["h"], &["hour", "hr"], (3600, 1), TIME),
    of(&["d"], &["day"], (86_400, 1), TIME),
    of(&[], &["week", "wk"], (604_800, 1), TIME),
    of(&[], &["fortnight"], (1_209_600, 1), TIME),
    of(&[], &["month"], (1, 1), MONTHS),
    of(&[], &["year", "yr"], (12, 1), MONTHS),
    of(&[], &["decade"], (120, 1), MONTHS),
    of(&[], &["century", "centurie"], (1200, 1), MONTHS),
    of(&[], &["millennium", "millennia"], (12_000, 1), MONTHS),
    of(&["t"], &["tonne", "metric ton"], (1_000_000, 1), MASS),
    of(&["lb", "lbs"], &["pound"], (45_359_237, 100_000), MASS),
    of(&["oz"], &["ounce"], (45_359_237, 1_600_000), MASS),
    of(&[], &["ton"], (90_718_474, 100), MASS),
    of(&["cc"], &[], (1, 1_000_000), VOLUME),
    of(&["gal"], &["gallon"], (3_785_411_784, 1_000_000_000_000), VOLUME),
    of(&["qt"], &["quart"], (946_352_946, 1_000_000_000_000), VOLUME),
    of(&["pt"], &["pint"], (473_176_473, 1_000_000_000_000), VOLUME),
    of(&[], &["cup"], (2_365_882_365, 10_000_000_000_000), VOLUME),
    of(&["ac"], &["acre"], (40_468_564_224, 10_000_000), AREA),
    of(&["ha"], &["hectare"], (10_000, 1), AREA),
    of(&["mph"], &["mph"], (44_704, 100_000), SPEED),
    of(&["kph", "kmh", "kmph"], &[], (5, 18), SPEED),
    of(&["bar"], &["bar"], (100_000_000, 1), PRESSURE),
    of(&["atm"], &["atmosphere"], (101_325_000, 1), PRESSURE),
    of(&["rpm"], &["rpm"], (1, 60), &[("revolution", 1), ("s", -1)]),
    of(&["USD", "US$"], &["dollar", "buck"], (1, 1), &[("dollar", 1)]),
    of(&["¢"], &["cent"], (1, 100), &[("dollar", 1)]),
    of(&["EUR"], &["euro"], (1, 1), &[("euro", 1)]),
    of(&["GBP"], &[], (1, 1), &[("sterling", 1)]),
    of(&["INR", "Rs"], &["rupee"], (1, 1), &[("rupee", 1)]),
    of(&["JPY"], &["yen"], (1, 1), &[("yen", 1)]),
    of(&["CNY", "RMB"], &["yuan"], (1, 1), &[("yuan", 1)]),
    of(&["KRW"], &["won"], (1, 1), &[("won", 1)]),
];
