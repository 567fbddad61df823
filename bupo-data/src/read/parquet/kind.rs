//! The types of values.

use parquet::{
    basic::{ConvertedType, LogicalType, Type as Physical},
    schema::types::Type,
};

/// The type of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Bytes without a logical type, which may be text: older writers do not annotate it.
    Bytes,
    Bool,
    Integer {
        bits: i8,
        signed: bool,
    },
    Float16,
    Float,
    Double,
    Decimal {
        /// How many of the last digits come after the point.
        scale: i32,
    },
    /// Every value is null.
    Null,
    /// A type that is neither text, number nor boolean.
    Other(&'static str),
}

impl Kind {
    /// The type of the values of a leaf field.
    pub(super) fn new(field: &Type) -> Self {
        match field.get_basic_info().logical_type_ref() {
            Some(logical) => Self::of_logical(logical, field),
            None => Self::of_converted(field),
        }
    }

    /// Whether the values may be texts.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Bytes)
    }

    /// Whether the values are texts, numbers or booleans.
    pub(super) fn is_scalar(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// The name of the type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Bytes => "binary",
            Self::Bool => "bool",
            Self::Integer { bits: 8, signed: true } => "int8",
            Self::Integer { bits: 16, signed: true } => "int16",
            Self::Integer { bits: 64, signed: true } => "int64",
            Self::Integer { signed: true, .. } => "int32",
            Self::Integer { bits: 8, signed: false } => "uint8",
            Self::Integer { bits: 16, signed: false } => "uint16",
            Self::Integer { bits: 64, signed: false } => "uint64",
            Self::Integer { signed: false, .. } => "uint32",
            Self::Float16 => "float16",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal { .. } => "decimal",
            Self::Null => "null",
            Self::Other(name) => name,
        }
    }

    fn of_logical(logical: &LogicalType, field: &Type) -> Self {
        match logical {
            LogicalType::String | LogicalType::Enum | LogicalType::Json => Self::Text,
            LogicalType::Integer(integer) => Self::Integer { bits: integer.bit_width, signed: integer.is_signed },
            LogicalType::Decimal(_) => Self::Decimal { scale: field.get_scale() },
            LogicalType::Float16 => Self::Float16,
            LogicalType::Unknown => Self::Null,
            LogicalType::Date => Self::Other("date"),
            LogicalType::Time(_) => Self::Other("time"),
            LogicalType::Timestamp(_) => Self::Other("timestamp"),
            LogicalType::Bson => Self::Other("bson"),
            LogicalType::Uuid => Self::Other("uuid"),
            LogicalType::Geometry(_) => Self::Other("geometry"),
            LogicalType::Geography(_) => Self::Other("geography"),
            _ => Self::Other("a newer type"),
        }
    }

    fn of_converted(field: &Type) -> Self {
        let integer = |bits, signed| Self::Integer { bits, signed };
        match field.get_basic_info().converted_type() {
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Self::Text,
            ConvertedType::DECIMAL => Self::Decimal { scale: field.get_scale() },
            ConvertedType::INT_8 => integer(8, true),
            ConvertedType::INT_16 => integer(16, true),
            ConvertedType::INT_32 => integer(32, true),
            ConvertedType::INT_64 => integer(64, true),
            ConvertedType::UINT_8 => integer(8, false),
            ConvertedType::UINT_16 => integer(16, false),
            ConvertedType::UINT_32 => integer(32, false),
            ConvertedType::UINT_64 => integer(64, false),
            ConvertedType::DATE => Self::Other("date"),
            ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => Self::Other("time"),
            ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS => Self::Other("timestamp"),
            ConvertedType::BSON => Self::Other("bson"),
            ConvertedType::INTERVAL => Self::Other("interval"),
            ConvertedType::NONE | ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => {
                match field.get_physical_type() {
                    Physical::BOOLEAN => Self::Bool,
                    Physical::INT32 => integer(32, true),
                    Physical::INT64 => integer(64, true),
                    Physical::FLOAT => Self::Float,
                    Physical::DOUBLE => Self::Double,
                    Physical::BYTE_ARRAY => Self::Bytes,
                    // Twelve bytes, which hold nothing else.
                    Physical::INT96 => Self::Other("timestamp"),
                    Physical::FIXED_LEN_BYTE_ARRAY => Self::Other("binary"),
                }
            }
        }
    }
}
