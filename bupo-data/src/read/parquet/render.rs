//! Stored values as text.

use super::{
    footer::Meaning,
    schema::{Leaf, Physical},
    values::Value,
};

/// Whether the values of a column can be an answer.
pub(super) fn is_answer(leaf: &Leaf) -> bool {
    match (leaf.meaning, leaf.physical) {
        (Meaning::Null, _) => true,
        (Meaning::Other(_), _) | (_, Physical::Int96) => false,
        (Meaning::Decimal { .. }, _) => !matches!(leaf.physical, Physical::Bool | Physical::Float | Physical::Double),
        (_, Physical::Fixed(_)) => false,
        (_, Physical::Bytes) => leaf.is_text(),
        _ => true,
    }
}

/// The text of a value; nothing for a number that is none, which is how some writers store what is missing. The fault
/// says what is wrong with the value.
pub(super) fn render(value: Value<'_>, leaf: &Leaf) -> Result<Option<String>, String> {
    Ok(Some(match (value, leaf.meaning) {
        (Value::Int(number), Meaning::Decimal { scale }) => decimal(i128::from(number), scale)?,
        (Value::Bytes(bytes), Meaning::Decimal { scale }) => decimal(big_endian(bytes)?, scale)?,
        (Value::Int(number), Meaning::Integer { signed: false, .. }) => match leaf.physical {
            Physical::Int32 => (number as u32).to_string(),
            _ => number.cast_unsigned().to_string(),
        },
        (Value::Int(number), _) => number.to_string(),
        (Value::Bool(flag), _) => flag.to_string(),
        (Value::Float(number), _) if number.is_nan() => return Ok(None),
        (Value::Double(number), _) if number.is_nan() => return Ok(None),
        (Value::Float(number), _) => float(f64::from(number), format!("{number:?}")),
        (Value::Double(number), _) => float(number, format!("{number:?}")),
        (Value::Bytes(bytes), _) => std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?.to_owned(),
    }))
}

/// Whole numbers without a point, as far as every whole number has a double of its own; others in their shortest form.
fn float(number: f64, shortest: String) -> String {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if number.fract() == 0.0 && number.abs() <= EXACT { format!("{number:.0}") } else { shortest }
}

/// A number of which the last `scale` digits come after the point.
fn decimal(number: i128, scale: i64) -> Result<String, String> {
    // 38 digits are the most that 16 bytes hold.
    let Some(scale) = usize::try_from(scale).ok().filter(|scale| *scale <= 38) else {
        return Err(format!("is a decimal of {scale} places"));
    };
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, places) = digits.split_at(digits.len() - scale);
    let sign = if number < 0 { "-" } else { "" };
    Ok(if places.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{places}") })
}

fn big_endian(bytes: &[u8]) -> Result<i128, String> {
    let Some(first) = bytes.first() else { return Ok(0) };
    if bytes.len() > size_of::<i128>() {
        return Err("is a decimal of more than 16 bytes".to_owned());
    }
    let start = if first.cast_signed() < 0 { -1 } else { 0 };
    Ok(bytes.iter().fold(start, |number, byte| number << 8 | i128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value<'_>, meaning: Meaning, physical: Physical) -> Option<String> {
        render(value, &Leaf { index: 0, physical, meaning, max_definition: 0, max_repetition: 0 }).unwrap()
    }

    #[test]
    fn numbers_are_written_faithfully() {
        let double = |number| text(Value::Double(number), Meaning::Plain, Physical::Double).unwrap();
        assert_eq!(double(42.0), "42");
        assert_eq!(double(-0.5), "-0.5");
        assert_eq!(double(9_007_199_254_740_992.0), "9007199254740992");
        assert_eq!(double(1e300), "1e300");
        assert_eq!(double(f64::INFINITY), "inf");
        assert_eq!(text(Value::Float(0.1), Meaning::Plain, Physical::Float).unwrap(), "0.1");
        assert_eq!(text(Value::Int(i64::MIN), Meaning::Plain, Physical::Int64).unwrap(), i64::MIN.to_string());
        let unsigned = Meaning::Integer { bits: 64, signed: false };
        assert_eq!(text(Value::Int(-1), unsigned, Physical::Int64).unwrap(), u64::MAX.to_string());
        assert_eq!(text(Value::Int(-1), unsigned, Physical::Int32).unwrap(), u32::MAX.to_string());
        assert_eq!(text(Value::Bool(true), Meaning::Plain, Physical::Bool).unwrap(), "true");
    }

    #[test]
    fn what_is_not_a_number_is_missing() {
        assert_eq!(text(Value::Double(f64::NAN), Meaning::Plain, Physical::Double), None);
        assert_eq!(text(Value::Float(f32::NAN), Meaning::Plain, Physical::Float), None);
    }

    #[test]
    fn decimals_keep_their_places() {
        assert_eq!(decimal(-5, 2).unwrap(), "-0.05");
        assert_eq!(decimal(125, 1).unwrap(), "12.5");
        assert_eq!(decimal(7, 0).unwrap(), "7");
        assert_eq!(decimal(i128::MIN, 38).unwrap(), "-1.70141183460469231731687303715884105728");
        assert!(decimal(1, -1).is_err() && decimal(1, 39).is_err());
        assert_eq!(big_endian(&[0xff, 0xfb]).unwrap(), -5);
        assert_eq!(big_endian(&[0x01, 0x00]).unwrap(), 256);
        assert!(big_endian(&[0; 17]).is_err());
    }
}
