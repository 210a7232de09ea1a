//! Element types: what one stored element of a variable is.

use std::ops::RangeInclusive;

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

/// What one element is, as it stands in decoded chunk bytes.
///
/// Numbers are in native little-endian order after decoding: a pipeline whose stored order differs begins with
/// [`crate::codec::Codec::ByteSwap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ElementType {
    /// One byte, 0 is false, anything else true.
    Bool,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// Unsigned 8-bit integer.
    UInt8,
    /// Unsigned 16-bit integer.
    UInt16,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Unsigned 64-bit integer.
    UInt64,
    /// IEEE half precision.
    Float16,
    /// IEEE single precision.
    Float32,
    /// IEEE double precision.
    Float64,
    /// One byte of text: a netCDF `char`, or NumPy `S1` that stands for a part of a word.
    Char,
    /// Text of a fixed number of bytes, padded with NUL (NumPy `S<n>`, HDF5 fixed-length strings, joined chars).
    Bytes(u32),
    /// Text of a fixed number of UTF-32 code points, padded with NUL (NumPy `U<n>`).
    Utf32(u32),
    /// Text of any length. Decoded chunk bytes have the `vlen-utf8` layout: the number of elements as little-endian
    /// `u32`, then for each element its length in bytes as little-endian `u32` and the bytes.
    Text,
}

impl ElementType {
    /// Bytes of one element in a decoded chunk; `None` for [`ElementType::Text`], whose elements differ in length.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Int8 | Self::UInt8 | Self::Char => Some(1),
            Self::Int16 | Self::UInt16 | Self::Float16 => Some(2),
            Self::Int32 | Self::UInt32 | Self::Float32 => Some(4),
            Self::Int64 | Self::UInt64 | Self::Float64 => Some(8),
            Self::Bytes(n) => Some(n as usize),
            Self::Utf32(n) => Some(n as usize * 4),
            Self::Text => None,
        }
    }

    /// Whether elements are numbers that CF masking and packing apply to.
    #[must_use]
    pub fn is_numeric(self) -> bool {
        self.is_integer() || self.is_float()
    }

    /// Whether elements are integers.
    #[must_use]
    pub fn is_integer(self) -> bool {
        match self {
            Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64 => true,
            Self::Bool
            | Self::Float16
            | Self::Float32
            | Self::Float64
            | Self::Char
            | Self::Bytes(_)
            | Self::Utf32(_)
            | Self::Text => false,
        }
    }

    /// Whether elements are floating-point numbers.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// What the netCDF library fills elements with that nobody chose a fill value for, one element as in a decoded
    /// chunk; `None` where that is zero bytes.
    #[must_use]
    pub fn netcdf_fill(self) -> Option<Vec<u8>> {
        const FLOAT: f32 = 9.969_21e36;
        Some(match self {
            Self::Int8 => (-127i8).to_le_bytes().into(),
            Self::Int16 => (-32_767i16).to_le_bytes().into(),
            Self::Int32 => (-2_147_483_647i32).to_le_bytes().into(),
            Self::Int64 => (-9_223_372_036_854_775_806i64).to_le_bytes().into(),
            Self::UInt8 => u8::MAX.to_le_bytes().into(),
            Self::UInt16 => u16::MAX.to_le_bytes().into(),
            Self::UInt32 => u32::MAX.to_le_bytes().into(),
            Self::UInt64 => (u64::MAX - 1).to_le_bytes().into(),
            Self::Float32 => FLOAT.to_le_bytes().into(),
            Self::Float64 => f64::from(FLOAT).to_le_bytes().into(),
            Self::Bool
            | Self::Float16
            | Self::Char
            | Self::Bytes(_)
            | Self::Utf32(_)
            | Self::Text => return None,
        })
    }

    /// The Arrow type of the stored values, before any CF decoding.
    #[must_use]
    pub fn arrow_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            // Half precision has no arithmetic in the engine: widened exactly.
            Self::Float16 | Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Char | Self::Bytes(_) | Self::Utf32(_) | Self::Text => DataType::Utf8,
        }
    }

    /// The number, or truth value, that goes by a [`ElementType::name`].
    #[must_use]
    pub fn number_called(name: &str) -> Option<Self> {
        let numbers = [
            Self::Bool,
            Self::Int8,
            Self::Int16,
            Self::Int32,
            Self::Int64,
            Self::UInt8,
            Self::UInt16,
            Self::UInt32,
            Self::UInt64,
            Self::Float16,
            Self::Float32,
            Self::Float64,
        ];
        numbers.into_iter().find(|number| number.name() == name)
    }

    /// The least and the greatest of the integers that are elements of this type; `None` if they are no integers.
    #[must_use]
    pub fn integers(self) -> Option<RangeInclusive<i128>> {
        Some(match self {
            Self::Int8 => i8::MIN.into()..=i8::MAX.into(),
            Self::Int16 => i16::MIN.into()..=i16::MAX.into(),
            Self::Int32 => i32::MIN.into()..=i32::MAX.into(),
            Self::Int64 => i64::MIN.into()..=i64::MAX.into(),
            Self::UInt8 => 0..=u8::MAX.into(),
            Self::UInt16 => 0..=u16::MAX.into(),
            Self::UInt32 => 0..=u32::MAX.into(),
            Self::UInt64 => 0..=u64::MAX.into(),
            Self::Bool
            | Self::Float16
            | Self::Float32
            | Self::Float64
            | Self::Char
            | Self::Bytes(_)
            | Self::Utf32(_)
            | Self::Text => return None,
        })
    }

    /// The name by which files and people call it: `float32`, `int16`, `string` …
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::Int8 => "int8".into(),
            Self::Int16 => "int16".into(),
            Self::Int32 => "int32".into(),
            Self::Int64 => "int64".into(),
            Self::UInt8 => "uint8".into(),
            Self::UInt16 => "uint16".into(),
            Self::UInt32 => "uint32".into(),
            Self::UInt64 => "uint64".into(),
            Self::Float16 => "float16".into(),
            Self::Float32 => "float32".into(),
            Self::Float64 => "float64".into(),
            Self::Char => "char".into(),
            Self::Bytes(n) => format!("bytes{n}"),
            Self::Utf32(n) => format!("utf32x{n}"),
            Self::Text => "string".into(),
        }
    }
}
