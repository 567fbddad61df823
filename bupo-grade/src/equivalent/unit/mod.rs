//! Units of measurement: products and powers of base units.

mod measure;
mod parse;
mod table;

use super::number::Fuel;
use measure::parse_word;

pub(super) use measure::Unit;
pub(super) use parse::parse;

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
