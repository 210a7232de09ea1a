//! Encoding: from the values of a column to the stored elements of a variable, the inverse of decoding.

mod cells;
mod columns;
#[cfg(test)]
mod number_tests;
mod stored;
#[cfg(test)]
mod tests;
mod texts;
#[cfg(test)]
mod time_tests;
mod times;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, ToByteSlice};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::array::dtype::ElementType;
use crate::array::{Attributes, Variable};
use crate::cf::decode::{DecodeOptions, Decoding, Values};
use crate::cf::encode::cells::{Cells, no_null};
use crate::cf::encode::columns::{Decimals, Pack, Plain, Same, Source};
use crate::cf::encode::stored::Stored;
use crate::cf::missing::Limits;
use crate::cf::number::{Number, scalars, with_number};
use crate::error::{Error, Result, Within};

/// How the values of a column become the stored elements of a variable: plain data.
///
/// What is stored reads back as the value that was given, or, where packing or a narrower floating-point type rounds,
/// as the nearest one that the variable can hold. A value for which that is not so is refused, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// The path of the variable, for messages.
    variable: Option<String>,
    decoding: Decoding,
    /// The element that is stored for NULL.
    null: Option<Vec<u8>>,
    nan: NanMeans,
}

/// What becomes of NaN in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum NanMeans {
    /// NULL.
    Null,
    /// A number like others; a variable of integers refuses it.
    Number,
}

/// Runs `$body` with `$native` standing for the native type of a numeric element type, half precision included, else
/// `$other`.
macro_rules! with_stored {
    ($element:expr, $native:ident => $body:expr, else $other:expr) => {
        if $element == ElementType::Float16 {
            type $native = f16;
            $body
        } else {
            with_number!($element, $native => $body, else $other)
        }
    };
}

impl Encoding {
    /// How values are stored as elements of type `element` by a variable with these attributes. `fill` is the value of
    /// cells that were never written, one element ([`Layout::fill`](crate::array::Layout::fill)).
    ///
    /// # Errors
    /// As [`Decoding::new`]: what cannot be decoded cannot be encoded.
    pub fn new(
        element: ElementType,
        attributes: &Attributes,
        fill: &[u8],
        options: &DecodeOptions,
    ) -> Result<Self> {
        let decoding = Decoding::from_attributes(element, attributes, options)?;
        let nan_is_null = options.decode && options.nan_as_null;
        Ok(Self {
            variable: None,
            null: null_element(&decoding, attributes, fill),
            nan: if nan_is_null && !declares_nan(element, attributes) {
                NanMeans::Null
            } else {
                NanMeans::Number
            },
            decoding,
        })
    }

    /// How values are stored by `variable`, which errors will name.
    ///
    /// # Errors
    /// As [`Encoding::new`].
    pub fn of_variable(variable: &Variable, options: &DecodeOptions) -> Result<Self> {
        let layout = variable.layout.as_ref();
        let encoding = Self::new(layout.element, &variable.attributes, &layout.fill, options)
            .within(|| format!("variable {}", variable.path))?;
        Ok(Self {
            variable: Some(variable.path.clone()),
            ..encoding
        })
    }

    /// The type of the stored elements.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.decoding.element
    }

    /// The type of columns that are stored as they are; others are converted to it, if that loses nothing.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        self.decoding.data_type()
    }

    /// The stored element that means NULL; for [`ElementType::Text`] its UTF-8 bytes.
    ///
    /// # Errors
    /// `Invalid` when the variable has no missing value.
    pub fn fill(&self) -> Result<Vec<u8>> {
        self.named(self.null.clone().ok_or_else(no_null))
    }

    /// Appends the elements of `column` to `out`, as they stand in decoded chunks.
    ///
    /// # Errors
    /// `Invalid`, naming the value, when a value would not read back: NULL without a missing value, what is out of
    /// range or would be rounded to another number, what means NULL, dates that the calendar does not have or the units
    /// cannot count, text that is too long. Also when the type of the column is none that the variable can hold, and
    /// for [`ElementType::Text`], see [`Encoding::texts`]. `out` then holds some of the elements.
    pub fn encode(&self, column: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
        self.named(self.encode_column(column, out))
    }

    /// The texts that a variable of [`ElementType::Text`] stores for `column`.
    ///
    /// # Errors
    /// As [`Encoding::encode`]; `Invalid` too if the elements are not of this type.
    pub fn texts(&self, column: &ArrayRef) -> Result<StringArray> {
        let texts = || match self.element() {
            ElementType::Text => {
                let column = plain(column)?;
                texts::stored(&column, self.text_fill(), self.null.as_deref())
            }
            other => Err(Error::Invalid(format!(
                "its elements are of type {}, not texts of any length",
                other.name()
            ))),
        };
        self.named(texts())
    }

    fn encode_column(&self, column: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
        let column = plain(column)?;
        if *column.data_type() == DataType::Null && self.element() != ElementType::Text {
            let null = match self.null.as_deref() {
                Some(null) => null,
                None if column.is_empty() => return Ok(()),
                None => return Err(no_null()),
            };
            out.extend(null.iter().copied().cycle().take(null.len() * column.len()));
            return Ok(());
        }
        match self.element() {
            ElementType::Bool => self.booleans(&column, out),
            ElementType::Text => Err(Error::Invalid(
                "texts of any length have no elements of fixed size".into(),
            )),
            ElementType::Char => {
                texts::padded(&column, 1, self.text_fill(), self.null.as_deref(), out)
            }
            ElementType::Bytes(length) => texts::padded(
                &column,
                length as usize,
                self.text_fill(),
                self.null.as_deref(),
                out,
            ),
            ElementType::Utf32(length) => texts::code_points(
                &column,
                length as usize,
                self.text_fill(),
                self.null.as_deref(),
                out,
            ),
            ElementType::Int8
            | ElementType::Int16
            | ElementType::Int32
            | ElementType::Int64
            | ElementType::UInt8
            | ElementType::UInt16
            | ElementType::UInt32
            | ElementType::UInt64
            | ElementType::Float16
            | ElementType::Float32
            | ElementType::Float64 => with_stored!(
                self.stored_type(),
                T => self.numbers::<T>(&column, out),
                else Ok(())
            ),
        }
    }

    fn numbers<T: Stored>(&self, column: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
        let null = self.null.as_deref().and_then(T::from_bytes);
        let cells = Cells::<T> {
            number: self.stored_type(),
            limits: self.decoding.limits(),
            null,
            // Storing NaN for NaN needs no look at it.
            nan_is_null: self.nan == NanMeans::Null
                && !null.is_some_and(|null| null.number().is_nan()),
        };
        let packing = match &self.decoding.values {
            Values::Time { units, packing } => {
                return times::encode(column, units, *packing, &cells, out);
            }
            Values::Packed(packing) => Some(*packing),
            Values::Stored | Values::Text { .. } => None,
        };
        if let (None, Some(same)) = (packing, column.as_primitive_opt::<T::Arrow>()) {
            if cells.is_verbatim() && same.null_count() == 0 {
                out.extend_from_slice(same.values().to_byte_slice());
                return Ok(());
            }
            return cells.encode(same.values(), same.nulls(), &Same, out);
        }
        let keep_decimals = T::INTEGER && packing.is_none();
        macro_rules! encode {
            ($array:expr) => {{
                let (values, nulls) = ($array.values(), $array.nulls());
                match packing {
                    None => cells.encode(values, nulls, &Plain::new(), out),
                    Some(packing) => cells.encode(values, nulls, &Pack::new(packing), out),
                }
            }};
        }
        match Source::new(column, keep_decimals, self.stored_type())? {
            Source::Single(array) => encode!(array),
            Source::Double(array) => encode!(array),
            Source::Signed(array) => encode!(array),
            Source::Unsigned(array) => encode!(array),
            Source::Decimal(array, scale) => {
                cells.encode(array.values(), array.nulls(), &Decimals::new(scale), out)
            }
        }
    }

    fn booleans(&self, column: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
        let Some(booleans) = column.as_boolean_opt() else {
            return Err(not_storable(column.data_type(), ElementType::Bool));
        };
        if booleans.null_count() > 0 {
            return Err(no_null());
        }
        out.extend(booleans.values().iter().map(u8::from));
        Ok(())
    }

    /// The type of the stored numbers; half precision stays what it is.
    fn stored_type(&self) -> ElementType {
        self.decoding.number
    }

    /// The text that means NULL.
    fn text_fill(&self) -> Option<&str> {
        match &self.decoding.values {
            Values::Text { fill } => fill.as_deref(),
            Values::Stored | Values::Packed(_) | Values::Time { .. } => None,
        }
    }

    /// Puts the name of the variable in front of an error.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        match &self.variable {
            Some(path) => result.within(|| format!("variable {path}")),
            None => result,
        }
    }
}

/// The column without dictionary or run-end encoding.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast_exactly(column, values),
        DataType::RunEndEncoded(_, values) => cast_exactly(column, values.data_type()),
        _ => Ok(ArrayRef::clone(column)),
    }
}

/// Arrow's conversion, in which nothing becomes NULL.
fn cast_exactly(column: &dyn Array, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, to, &options)
        .map_err(|error| Error::Invalid(format!("the column cannot be stored: {error}")))
}

fn not_storable(column: &DataType, element: ElementType) -> Error {
    Error::Invalid(format!(
        "a column of type {column} cannot be stored as {}",
        element.name()
    ))
}

/// The element that is stored for NULL: the first that attributes, type or file offer, and that decoding takes for NULL.
fn null_element(decoding: &Decoding, attributes: &Attributes, fill: &[u8]) -> Option<Vec<u8>> {
    match &decoding.values {
        Values::Text { fill } => return texts::fill(decoding.element, fill.as_deref()?),
        Values::Stored | Values::Packed(_) | Values::Time { .. } => {}
    }
    with_stored!(
        decoding.number,
        T => null_number::<T>(decoding, attributes, fill),
        else None
    )
}

fn null_number<T: Stored>(
    decoding: &Decoding,
    attributes: &Attributes,
    fill: &[u8],
) -> Option<Vec<u8>> {
    let limits: Limits<T::Number> = decoding.limits();
    let declared = |name| {
        let scalar = scalars(attributes, name)?.first().copied()?;
        let number = T::from_number(Number::equal_to(scalar)?).number();
        limits.is_missing(number).then_some(number)
    };
    let nan = || {
        let (nan, is_nan) = T::from_float(f64::NAN);
        (is_nan && limits.is_missing(nan.number())).then(|| nan.number())
    };
    let unwritten = || {
        let number = T::from_bytes(fill)?.number();
        limits.is_missing(number).then_some(number)
    };
    let number = declared("_FillValue")
        .or_else(|| declared("missing_value"))
        .or_else(nan)
        .or_else(unwritten)
        .or_else(|| limits.equal.first().copied())?;
    Some([T::from_number(number)].to_byte_slice().to_vec())
}

/// Whether an attribute says that NaN is missing, so that NaN is what is stored for it.
fn declares_nan(element: ElementType, attributes: &Attributes) -> bool {
    let is_nan = |name| {
        scalars(attributes, name)
            .unwrap_or_default()
            .iter()
            .any(|scalar| scalar.to_f64().is_nan())
    };
    element.is_float() && (is_nan("_FillValue") || is_nan("missing_value"))
}
