//! Data types: from the names that Zarr gives them to element types.

use super::json::Json;
use crate::array::dtype::ElementType;
use crate::error::{Error, Result};

/// A data type of Zarr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataType {
    /// What one element is.
    pub(super) element: ElementType,
    /// Meaning of the integers of NumPy's `datetime64` and `timedelta64`.
    pub(super) time: Option<Time>,
}

/// The longest text of a fixed length, in bytes or code points: longer ones are signs of damage.
const LONGEST: u32 = 1 << 20;

/// What the integers of a time type count; the smallest one stands for "not a time".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// These units, since the beginning of 1970.
    Since(&'static str),
    /// These units.
    Span(&'static str),
}

/// Order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl DataType {
    /// Bytes that change places when the byte order does: those of one number; 1 where there is no order.
    pub(super) fn swap_unit(self) -> u32 {
        match self.element {
            ElementType::Bool
            | ElementType::Int8
            | ElementType::UInt8
            | ElementType::Char
            | ElementType::Bytes(_)
            | ElementType::Text => 1,
            ElementType::Int16 | ElementType::UInt16 | ElementType::Float16 => 2,
            ElementType::Int32
            | ElementType::UInt32
            | ElementType::Float32
            | ElementType::Utf32(_) => 4,
            ElementType::Int64 | ElementType::UInt64 | ElementType::Float64 => 8,
        }
    }

    /// The type of Zarr v2 with this name (NumPy's array protocol: `<f4`, `|S7`, `>M8[ns]`).
    ///
    /// `|O` says nothing about its elements, they are known by the first filter alone: it gives text, which the
    /// filter has to confirm.
    pub(super) fn v2(name: &str, rank: usize) -> Result<(Self, Endian)> {
        let mut rest = name.chars();
        let order = rest.next();
        let kind = rest.next();
        let size = rest.as_str();
        let endian = match order {
            Some('>') => Endian::Big,
            Some('<' | '|' | '=') => Endian::Little,
            _ => return Err(unknown(name)),
        };
        let element = match (kind, size) {
            (Some('b'), "1") => ElementType::Bool,
            (Some('i'), "1") => ElementType::Int8,
            (Some('i'), "2") => ElementType::Int16,
            (Some('i'), "4") => ElementType::Int32,
            (Some('i'), "8") => ElementType::Int64,
            (Some('u'), "1") => ElementType::UInt8,
            (Some('u'), "2") => ElementType::UInt16,
            (Some('u'), "4") => ElementType::UInt32,
            (Some('u'), "8") => ElementType::UInt64,
            (Some('f'), "2") => ElementType::Float16,
            (Some('f'), "4") => ElementType::Float32,
            (Some('f'), "8") => ElementType::Float64,
            (Some('S'), _) => bytes(length(name, size)?, rank),
            (Some('U'), _) => ElementType::Utf32(length(name, size)?),
            (Some('O'), "") => ElementType::Text,
            (Some(kind @ ('M' | 'm')), _) => return Ok((time_v2(name, kind, size)?, endian)),
            _ => return Err(unknown(name)),
        };
        Ok((Self::plain(element), endian))
    }

    /// The type of Zarr v3 that `data_type` names.
    pub(super) fn v3(name: &str, configuration: &Json, rank: usize) -> Result<Self> {
        let length = |unit: u64| {
            configuration
                .get("length_bytes")
                .count()
                .filter(|bytes| *bytes > 0 && bytes.is_multiple_of(unit))
                .and_then(|bytes| u32::try_from(bytes / unit).ok())
                .filter(|length| *length <= LONGEST)
                .ok_or_else(|| {
                    Error::Corrupt(format!("data type {name} has no valid length_bytes"))
                })
        };
        if let Some(element) = ElementType::number_called(name) {
            return Ok(Self::plain(element));
        }
        Ok(Self::plain(match name {
            "string" => ElementType::Text,
            "null_terminated_bytes" => bytes(length(1)?, rank),
            "fixed_length_utf32" => ElementType::Utf32(length(4)?),
            "numpy.datetime64" | "numpy.timedelta64" => {
                let unit = configuration.get("unit").text().unwrap_or("generic");
                let kind = if name == "numpy.datetime64" { 'M' } else { 'm' };
                return match configuration.get("scale_factor") {
                    Json::Null | Json::Integer(1) => Self::of_time(name, kind, unit),
                    factor => Err(Error::Unsupported(format!(
                        "data type {name} in steps of {factor} {unit} is not supported"
                    ))),
                };
            }
            _ => return Err(unknown(name)),
        }))
    }

    fn plain(element: ElementType) -> Self {
        Self {
            element,
            time: None,
        }
    }

    fn of_time(name: &str, kind: char, unit: &str) -> Result<Self> {
        let units = match unit {
            "D" => "days",
            "h" => "hours",
            "m" => "minutes",
            "s" => "seconds",
            "ms" => "milliseconds",
            "us" | "\u{b5}s" | "\u{3bc}s" => "microseconds",
            "ns" => "nanoseconds",
            // Months and years have no fixed length, the others no name in the conventions.
            _ => {
                return Err(Error::Unsupported(format!(
                    "data type {name} in units of {unit} is not supported"
                )));
            }
        };
        Ok(Self {
            element: ElementType::Int64,
            time: Some(if kind == 'M' {
                Time::Since(units)
            } else {
                Time::Span(units)
            }),
        })
    }
}

/// Single bytes along a dimension are the letters of words, as netCDF's `char` are.
fn bytes(length: u32, rank: usize) -> ElementType {
    if length == 1 && rank > 0 {
        ElementType::Char
    } else {
        ElementType::Bytes(length)
    }
}

fn time_v2(name: &str, kind: char, size: &str) -> Result<DataType> {
    let unit = size
        .strip_prefix('8')
        .ok_or_else(|| unknown(name))?
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or("generic");
    DataType::of_time(name, kind, unit)
}

fn length(name: &str, digits: &str) -> Result<u32> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(unknown(name));
    }
    match digits.parse() {
        Ok(0) => Err(Error::Unsupported(format!(
            "data type {name} has elements of 0 bytes, which is not supported"
        ))),
        Ok(length) if length <= LONGEST => Ok(length),
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    Error::Unsupported(format!("data type {name} is not supported"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_of_version_2() {
        let element = |name| DataType::v2(name, 1).map(|(dtype, endian)| (dtype.element, endian));
        assert_eq!(element(">i2").unwrap(), (ElementType::Int16, Endian::Big));
        assert_eq!(element("|b1").unwrap(), (ElementType::Bool, Endian::Little));
        assert_eq!(element("<U13").unwrap().0, ElementType::Utf32(13));
        assert_eq!(element("|S7").unwrap().0, ElementType::Bytes(7));
        assert_eq!(element("|S1").unwrap().0, ElementType::Char);
        assert_eq!(
            DataType::v2("|S1", 0).unwrap().0.element,
            ElementType::Bytes(1)
        );
        for name in [
            "",
            "<",
            "f4",
            "<f16",
            "<c8",
            "|V8",
            "|S0",
            "|S",
            "|S+7",
            "<é4",
            "|S99999999999",
        ] {
            assert!(element(name).is_err(), "{name}");
        }
    }

    #[test]
    fn times() {
        let time = |name| DataType::v2(name, 1).map(|(dtype, _)| dtype.time);
        assert_eq!(time("<M8[ns]").unwrap(), Some(Time::Since("nanoseconds")));
        assert_eq!(time(">m8[D]").unwrap(), Some(Time::Span("days")));
        for name in ["<M8", "<M8[M]", "<M8[10ns]", "<M4[ns]"] {
            assert!(time(name).is_err(), "{name}");
        }
    }
}
