//! Packed numbers: `scale_factor` and `add_offset`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use crate::array::dtype::ElementType;
use crate::array::number::nearest_f32;
use crate::array::{AttributeValue, Attributes};
use crate::cf::number::{Number, scalars};
use crate::cf::time::Count;
use crate::error::{Error, Result};

/// `stored * scale + offset`, computed in double precision and rounded once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Packing {
    scale: Option<f64>,
    offset: Option<f64>,
    precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Precision {
    Single,
    Double,
}

impl Packing {
    /// `None` if nothing is packed. The precision is that of xarray, which takes it from the attributes.
    pub(crate) fn new(number: ElementType, attributes: &Attributes) -> Result<Option<Self>> {
        let scale = packing_number(attributes, "scale_factor")?;
        let offset = packing_number(attributes, "add_offset")?;
        let precision = match (scale, offset) {
            (None, None) => return Ok(None),
            // Four bytes of integer do not fit into single precision.
            (Some((_, Some(Precision::Single))), Some((_, Some(Precision::Single))))
                if !matches!(number, ElementType::Int32 | ElementType::UInt32) =>
            {
                Precision::Single
            }
            (Some((_, Some(Precision::Single))), None) => Precision::Single,
            _ => Precision::Double,
        };
        let packing = Self {
            scale: scale.map(|(value, _)| value),
            offset: offset.map(|(value, _)| value),
            precision,
        };
        let same_type = match precision {
            Precision::Single => matches!(number, ElementType::Float16 | ElementType::Float32),
            Precision::Double => number == ElementType::Float64,
        };
        let changes = packing.scale.unwrap_or(1.0) != 1.0 || packing.offset.unwrap_or(0.0) != 0.0;
        Ok((changes || !same_type).then_some(packing))
    }

    /// The type of unpacked values.
    pub(crate) fn data_type(self) -> DataType {
        match self.precision {
            Precision::Single => DataType::Float32,
            Precision::Double => DataType::Float64,
        }
    }

    /// Factor and summand.
    pub(crate) fn factors(self) -> (f64, f64) {
        (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0))
    }

    /// Whether unpacked values are of single precision.
    pub(crate) fn is_single(self) -> bool {
        self.precision == Precision::Single
    }

    /// A column of the unpacked values.
    pub(crate) fn unpack<T: Number>(
        self,
        values: &[T],
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        match (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0)) {
            (scale, 0.0) => self.map(values, nulls, |value| value * scale),
            (1.0, offset) => self.map(values, nulls, |value| value + offset),
            (scale, offset) => self.map(values, nulls, |value| value * scale + offset),
        }
    }

    fn map<T: Number>(
        self,
        values: &[T],
        nulls: Option<NullBuffer>,
        unpack: impl Fn(f64) -> f64,
    ) -> Result<ArrayRef> {
        let unpacked = values.iter().map(|value| unpack(value.to_f64()));
        match self.precision {
            Precision::Single => {
                let values: Vec<f32> = unpacked.map(nearest_f32).collect();
                column(Float32Array::try_new(values.into(), nulls))
            }
            Precision::Double => {
                let values: Vec<f64> = unpacked.collect();
                column(Float64Array::try_new(values.into(), nulls))
            }
        }
    }

    /// One unpacked value, as a number of time units.
    pub(crate) fn count(self, value: f64) -> Count {
        let value = value * self.scale.unwrap_or(1.0) + self.offset.unwrap_or(0.0);
        Count::Float(value)
    }
}

/// The value of `scale_factor` or `add_offset`, and its precision if it is a floating-point number.
fn packing_number(attributes: &Attributes, name: &str) -> Result<Option<(f64, Option<Precision>)>> {
    let Some(attribute) = attributes.get(name) else {
        return Ok(None);
    };
    let precision = match attribute {
        AttributeValue::Floats { element, .. } if *element == ElementType::Float64 => {
            Some(Precision::Double)
        }
        AttributeValue::Floats { .. } => Some(Precision::Single),
        AttributeValue::Text(_)
        | AttributeValue::Texts(_)
        | AttributeValue::Integers { .. }
        | AttributeValue::Json(_) => None,
    };
    scalars(attributes, name)
        .and_then(|values| values.first().map(|value| value.to_f64()))
        .filter(|value| value.is_finite())
        .map(|value| Some((value, precision)))
        .ok_or_else(|| {
            Error::Unsupported(format!("{name} is \"{attribute}\", which is not a number"))
        })
}

/// A column of an array whose parts fit by construction.
pub(crate) fn column<A: Array + 'static>(array: Result<A, ArrowError>) -> Result<ArrayRef> {
    match array {
        Ok(array) => Ok(Arc::new(array)),
        Err(error) => Err(Error::Invalid(format!(
            "decoded values do not make a column: {error}"
        ))),
    }
}
