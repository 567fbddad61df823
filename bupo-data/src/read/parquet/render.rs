//! Stored values as texts.

use half::f16;
use num_bigint::BigInt;

use super::kind::Kind;
use crate::read::limits::MAX_VALUE;

/// The text of a value; `None` for NaN, which pandas stores for missing values. The error is what is wrong with the value.
pub(super) type Rendered = Result<Option<String>, String>;

/// The most digits of a decimal, and the most bytes of one: those of the widest type in use.
const MAX_DIGITS: i32 = 76;
const MAX_DECIMAL: usize = 32;

/// The largest double up to which every whole number has a double of its own.
const EXACT: f64 = (1_u64 << 53) as f64;

pub(super) fn int32(number: i32, kind: Kind) -> Rendered {
    match kind {
        Kind::Integer { signed: false, .. } => Ok(Some(number.cast_unsigned().to_string())),
        _ => int64(i64::from(number), kind),
    }
}

pub(super) fn int64(number: i64, kind: Kind) -> Rendered {
    match kind {
        Kind::Decimal { scale } => decimal(&BigInt::from(number), scale).map(Some),
        Kind::Integer { signed: false, .. } => Ok(Some(number.cast_unsigned().to_string())),
        _ => Ok(Some(number.to_string())),
    }
}

pub(super) fn float(number: f32) -> Option<String> {
    shortest(f64::from(number), || format!("{number:?}"))
}

pub(super) fn double(number: f64) -> Option<String> {
    shortest(number, || format!("{number:?}"))
}

/// The text of stored bytes: of a text, of the two's complement of a decimal, or of a half-precision number.
pub(super) fn bytes(bytes: &[u8], kind: Kind) -> Rendered {
    if bytes.len() > MAX_VALUE {
        return Err(format!("has {} bytes, and the limit is {MAX_VALUE}", bytes.len()));
    }
    match (kind, bytes) {
        (Kind::Decimal { .. }, _) if bytes.len() > MAX_DECIMAL => {
            Err(format!("is a decimal of more than {MAX_DECIMAL} bytes"))
        }
        (Kind::Decimal { scale }, _) => decimal(&BigInt::from_signed_bytes_be(bytes), scale).map(Some),
        (Kind::Float16, [low, high]) => Ok(float16(f16::from_le_bytes([*low, *high]))),
        _ => std::str::from_utf8(bytes).map(|text| Some(text.to_owned())).map_err(|_| "is not UTF-8".to_owned()),
    }
}

fn float16(number: f16) -> Option<String> {
    shortest(f64::from(number), || {
        // The fewest digits that read back as the same half-precision number.
        let texts = (0..6).map(|digits| format!("{:.digits$e}", number.to_f32()));
        let mut parsed = texts.filter_map(|text| text.parse::<f32>().ok());
        let found = parsed.find(|parsed| f16::from_f32(*parsed) == number);
        format!("{:?}", found.unwrap_or(number.to_f32()))
    })
}

/// Whole numbers without a point, as far as every whole number has a double of its own; others as `shortest` writes
/// them.
fn shortest(number: f64, shortest: impl FnOnce() -> String) -> Option<String> {
    match number {
        _ if number.is_nan() => None,
        _ if number.fract() == 0.0 && number.abs() <= EXACT => Some(format!("{number:.0}")),
        _ => Some(shortest()),
    }
}

/// A number of which the last `scale` digits come after the point.
fn decimal(number: &BigInt, scale: i32) -> Result<String, String> {
    let Some(scale) = usize::try_from(scale).ok().filter(|_| scale <= MAX_DIGITS) else {
        return Err(format!("is a decimal of {scale} places"));
    };
    let digits = format!("{:0>width$}", number.magnitude().to_string(), width = scale + 1);
    let (whole, places) = digits.split_at(digits.len() - scale);
    let sign = if number.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    Ok(if places.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{places}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value() {
        let double = |number| double(number).unwrap();
        assert_eq!(double(42.0), "42");
        assert_eq!(double(-0.5), "-0.5");
        assert_eq!(double(9_007_199_254_740_992.0), "9007199254740992");
        assert_eq!(double(1e300), "1e300");
        assert_eq!(double(f64::INFINITY), "inf");
        assert_eq!(float(0.1).unwrap(), "0.1");
        let signed = Kind::Integer { bits: 64, signed: true };
        assert_eq!(int64(i64::MIN, signed).unwrap().unwrap(), i64::MIN.to_string());
        let unsigned = Kind::Integer { bits: 64, signed: false };
        assert_eq!(int64(-1, unsigned).unwrap().unwrap(), u64::MAX.to_string());
        assert_eq!(int32(-1, unsigned).unwrap().unwrap(), u32::MAX.to_string());
    }

    #[test]
    fn half_precision_numbers_have_few_digits() {
        let half = |number: f32| bytes(&f16::from_f32(number).to_le_bytes(), Kind::Float16).unwrap();
        for (number, text) in [(0.1, "0.1"), (-2.0, "-2"), (2.72, "2.72"), (6e-8, "6e-8"), (65504.0, "65504")] {
            assert_eq!(half(number).unwrap(), text);
        }
        assert_eq!(half(f32::NAN), None);
    }

    #[test]
    fn nan_is_missing() {
        assert_eq!((double(f64::NAN), float(f32::NAN)), (None, None));
    }

    #[test]
    fn decimals_keep_their_digits() {
        let decimal = |number: i128, scale| decimal(&BigInt::from(number), scale);
        assert_eq!(decimal(-5, 2).unwrap(), "-0.05");
        assert_eq!(decimal(125, 1).unwrap(), "12.5");
        assert_eq!(decimal(7, 0).unwrap(), "7");
        assert_eq!(decimal(i128::MIN, 38).unwrap(), "-1.70141183460469231731687303715884105728");
        assert!(decimal(1, -1).is_err() && decimal(1, 77).is_err());
        let kind = Kind::Decimal { scale: 1 };
        assert_eq!(bytes(&[0xff, 0xfb], kind).unwrap().unwrap(), "-0.5");
        assert_eq!(bytes(&[0x01, 0x00], kind).unwrap().unwrap(), "25.6");
        assert_eq!(bytes(&[], kind).unwrap().unwrap(), "0.0");
        assert!(bytes(&[0; 33], kind).is_err());
    }
}
