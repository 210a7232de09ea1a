//! Missing values: which stored numbers of a variable stand for "no value".

use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use serde::{Deserialize, Serialize};

use crate::array::Attributes;
use crate::array::dtype::ElementType;
use crate::array::number::nearest_f16;
use crate::cf::number::{Number, Scalar, scalars, with_number};
use crate::cf::options::DecodeOptions;
use crate::error::{Error, Result};

/// More values than this in `missing_value` are refused: each of them costs a comparison a cell.
const MOST_VALUES: usize = 256;

/// The stored numbers that mean NULL; numbers are kept by their bits, so that the rule travels in any format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingRule {
    nan: bool,
    equal: Vec<u64>,
    /// What is outside of these two is missing.
    valid: Option<(u64, u64)>,
}

impl MissingRule {
    /// The rule for a variable whose numbers are of type `element` (after `_Unsigned`).
    pub(crate) fn new(
        element: ElementType,
        attributes: &Attributes,
        options: &DecodeOptions,
        is_time: bool,
    ) -> Result<Self> {
        let fill = scalars(attributes, "_FillValue");
        let mut equal: Vec<Scalar> = fill.iter().flatten().copied().collect();
        equal.extend(scalars(attributes, "missing_value").into_iter().flatten());
        if options.default_fill && fill.is_none() {
            equal.extend(default_fill(element));
        }
        if is_time && element == ElementType::Int64 {
            // The "not a time" of NumPy.
            equal.push(Scalar::Integer {
                value: i64::MIN.into(),
                size: None,
            });
        }
        if equal.len() > MOST_VALUES {
            return Err(Error::Unsupported(format!(
                "more than {MOST_VALUES} values are declared as missing"
            )));
        }
        if element == ElementType::Float16 {
            for scalar in &mut equal {
                *scalar = Scalar::Float(nearest_f16(scalar.to_f64()).to_f64());
            }
        }
        let (low, high) = valid_range(attributes);
        let nan = options.nan_as_null || is_time;
        Ok(with_number!(
            element,
            T => Limits::<T>::new(nan, &equal, low, high).to_bits(),
            else Self::default()
        ))
    }

    /// The rule of values that have been computed: NaN and the least 64-bit integer are missing.
    pub(crate) fn computed(element: ElementType) -> Self {
        let least = Number::to_bits(i64::MIN);
        Self {
            nan: element == ElementType::Float64,
            equal: if element == ElementType::Int64 {
                vec![least]
            } else {
                Vec::new()
            },
            valid: None,
        }
    }

    /// Whether no number is missing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The rule for numbers of type `T`.
    pub(crate) fn limits<T: Number>(&self) -> Limits<T> {
        Limits::from_bits(self)
    }

    /// Which of `values` are not missing; `None` if all.
    pub(crate) fn validity<T: Number>(&self, values: &[T]) -> Option<NullBuffer> {
        Limits::from_bits(self).validity(values)
    }
}

/// The inclusive bounds of valid packed values.
fn valid_range(attributes: &Attributes) -> (Option<Scalar>, Option<Scalar>) {
    if let Some([low, high]) = scalars(attributes, "valid_range").as_deref() {
        return (Some(*low), Some(*high));
    }
    let first = |name| scalars(attributes, name).and_then(|values| values.first().copied());
    (first("valid_min"), first("valid_max"))
}

/// What the netCDF library fills unwritten cells with when there is no `_FillValue`. Every value of a byte may be data.
fn default_fill(element: ElementType) -> Option<Scalar> {
    let value = match element {
        ElementType::Int16 => -32_767,
        ElementType::UInt16 => 65_535,
        ElementType::Int32 => -2_147_483_647,
        ElementType::UInt32 => 4_294_967_295,
        ElementType::Int64 => -9_223_372_036_854_775_806,
        ElementType::UInt64 => 18_446_744_073_709_551_614,
        ElementType::Float32 | ElementType::Float64 => {
            return Some(Scalar::Float(9.969_209_968_386_869e36));
        }
        ElementType::Bool
        | ElementType::Int8
        | ElementType::UInt8
        | ElementType::Float16
        | ElementType::Char
        | ElementType::Bytes(_)
        | ElementType::Utf32(_)
        | ElementType::Text => return None,
    };
    Some(Scalar::Integer { value, size: None })
}

/// A [`MissingRule`] for one native type.
pub(crate) struct Limits<T> {
    /// Whether NaN is missing.
    pub(crate) nan: bool,
    /// Numbers that are missing.
    pub(crate) equal: Vec<T>,
    /// What is outside of these two is missing.
    pub(crate) valid: Option<(T, T)>,
}

impl<T: Number> Limits<T> {
    fn new(nan: bool, scalars: &[Scalar], low: Option<Scalar>, high: Option<Scalar>) -> Self {
        let everything = T::between(None, None);
        let valid = Some(T::between(low, high)).filter(|valid| *valid != everything);
        let mut rule = Self {
            // Only floating-point numbers can be NaN.
            nan: nan && T::equal_to(Scalar::Float(f64::NAN)).is_some(),
            equal: Vec::new(),
            valid,
        };
        for value in scalars.iter().filter_map(|scalar| T::equal_to(*scalar)) {
            if value.is_nan() {
                rule.nan = true;
            } else if !rule.is_missing(value) {
                rule.equal.push(value);
            }
        }
        rule
    }

    fn to_bits(&self) -> MissingRule {
        MissingRule {
            nan: self.nan,
            equal: self.equal.iter().map(|value| value.to_bits()).collect(),
            valid: self
                .valid
                .map(|(low, high)| (low.to_bits(), high.to_bits())),
        }
    }

    fn from_bits(rule: &MissingRule) -> Self {
        Self {
            nan: rule.nan,
            equal: rule.equal.iter().map(|bits| T::from_bits(*bits)).collect(),
            valid: rule
                .valid
                .map(|(low, high)| (T::from_bits(low), T::from_bits(high))),
        }
    }

    /// Whether `value` means NULL.
    pub(crate) fn is_missing(&self, value: T) -> bool {
        let outside = self
            .valid
            .is_some_and(|(low, high)| (value < low) | (value > high));
        (self.nan & value.is_nan()) | outside | self.equal.contains(&value)
    }

    /// The usual rules have loops of their own, without a branch a cell.
    fn validity(&self, values: &[T]) -> Option<NullBuffer> {
        match (self.nan, self.equal.as_slice(), self.valid) {
            (false, [], None) => None,
            (true, [], None) => scan(values, |v| v.is_nan()),
            (false, [fill], None) => scan(values, |v| v == *fill),
            // NaN is not within any range, so this is `nan | equal` too.
            (true, [fill], None) => scan(values, |v| v.is_nan() | (v == *fill)),
            (false, [], Some((low, high))) => scan(values, |v| (v < low) | (v > high)),
            (true, [], Some((low, high))) => scan(values, |v| v.is_nan() | (v < low) | (v > high)),
            (nan, [fill], Some((low, high))) => scan(values, |v| {
                (nan & v.is_nan()) | (v == *fill) | (v < low) | (v > high)
            }),
            (nan, [one, other], None) => {
                scan(values, |v| (nan & v.is_nan()) | (v == *one) | (v == *other))
            }
            _ => scan(values, |v| self.is_missing(v)),
        }
    }
}

/// Cells looked at before it is decided whether to go on.
const BLOCK: usize = 1024;

/// A validity bitmap, made only once a missing value is met.
fn scan<T: Copy>(values: &[T], is_missing: impl Fn(T) -> bool) -> Option<NullBuffer> {
    values
        .chunks(BLOCK)
        .any(|block| block.iter().fold(false, |any, v| any | is_missing(*v)))
        .then(|| NullBuffer::new(pack(values, |v| !is_missing(v))))
}

/// One bit a cell.
pub(crate) fn pack<T: Copy>(values: &[T], bit: impl Fn(T) -> bool) -> BooleanBuffer {
    let words: Vec<u64> = values
        .chunks(64)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |word, (at, v)| word | (u64::from(bit(*v)) << at))
        })
        .collect();
    BooleanBuffer::new(Buffer::from_vec(words), 0, values.len())
}
