//! Decoding: from the stored values of a variable to the values of its column.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, PrimitiveArray, StringArray, StringBuilder};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::array::dtype::ElementType;
use crate::array::slab::{Slab, SlabData};
use crate::array::{Attributes, Variable};
use crate::cf::missing::{Limits, MissingRule, pack};
use crate::cf::number::{Number, reinterpreted, with_number};
use crate::cf::packing::{Packing, column};
use crate::cf::time::TimeUnits;
use crate::error::{Error, Result, Within};

pub use crate::cf::options::DecodeOptions;

/// How the stored values of a variable become the values of its column: plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decoding {
    /// The type of the stored elements.
    pub(super) element: ElementType,
    /// The same after `_Unsigned`.
    pub(super) number: ElementType,
    pub(super) missing: MissingRule,
    pub(super) values: Values,
}

/// What is made of the values that are not missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Values {
    /// The stored values.
    Stored,
    /// Text, in which this one text is missing.
    Text { fill: Option<String> },
    /// Unpacked numbers.
    Packed(Packing),
    /// Dates.
    Time {
        units: TimeUnits,
        packing: Option<Packing>,
    },
}

impl Decoding {
    /// How `variable` is decoded.
    ///
    /// # Errors
    /// `Unsupported` when an attribute that changes the values cannot be understood: time units, calendar, packing.
    pub fn new(variable: &Variable, options: &DecodeOptions) -> Result<Self> {
        let element = variable.layout.element;
        Self::from_attributes(element, &variable.attributes, options)
            .within(|| format!("variable {}", variable.path))
    }

    /// The decoding of values that have been computed: NaN and the least 64-bit integer are missing.
    pub(crate) fn computed(element: ElementType) -> Self {
        Self {
            element,
            number: element,
            missing: MissingRule::computed(element),
            values: Values::Stored,
        }
    }

    pub(super) fn from_attributes(
        element: ElementType,
        attributes: &Attributes,
        options: &DecodeOptions,
    ) -> Result<Self> {
        let stored = Self {
            element,
            number: element,
            missing: MissingRule::default(),
            values: Values::Stored,
        };
        if !options.decode || element == ElementType::Bool {
            return Ok(stored);
        }
        if !element.is_numeric() {
            return Ok(Self {
                values: Values::Text {
                    fill: text_fill(element, attributes),
                },
                ..stored
            });
        }
        let number = reinterpreted(element, attributes);
        let packing = Packing::new(number, attributes)?;
        let time = attributes
            .text("units")
            .filter(|units| TimeUnits::is_time(units))
            .map(|units| TimeUnits::parse(units, calendar(attributes)?))
            .transpose()?;
        Ok(Self {
            element,
            number,
            missing: MissingRule::new(number, attributes, options, time.is_some())?,
            values: match (time, packing) {
                (Some(units), packing) => Values::Time { units, packing },
                (None, Some(packing)) => Values::Packed(packing),
                (None, None) => Values::Stored,
            },
        })
    }

    /// The type of decoded values.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match &self.values {
            Values::Stored => self.number.arrow_type(),
            Values::Text { .. } => DataType::Utf8,
            Values::Packed(packing) => packing.data_type(),
            Values::Time { units, .. } => units.data_type(),
        }
    }

    /// The type of the stored elements.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Whether a decoded value can be NULL.
    #[must_use]
    pub fn nullable(&self) -> bool {
        match &self.values {
            Values::Text { fill } => fill.is_some(),
            Values::Stored | Values::Packed(_) | Values::Time { .. } => !self.missing.is_empty(),
        }
    }

    /// The axis of time, if the values are dates.
    #[must_use]
    pub fn time_units(&self) -> Option<&TimeUnits> {
        match &self.values {
            Values::Time { units, .. } => Some(units),
            Values::Stored | Values::Text { .. } | Values::Packed(_) => None,
        }
    }

    /// The type of the stored numbers if decoding keeps their order: numbers that are not dates. Half precision is
    /// left out, because nothing computes in it.
    #[must_use]
    pub fn number(&self) -> Option<ElementType> {
        match &self.values {
            Values::Text { .. } | Values::Time { .. } => None,
            Values::Stored | Values::Packed(_) => {
                let computes = self.number != ElementType::Float16 && self.number.is_numeric();
                computes.then_some(self.number)
            }
        }
    }

    /// Whether stored numbers are integers.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        let floats = [ElementType::Float32, ElementType::Float64];
        self.number()
            .is_some_and(|number| !floats.contains(&number))
    }

    /// Factor and summand that make values of stored numbers, if there are any.
    #[must_use]
    pub fn packing(&self) -> Option<(f64, f64)> {
        match &self.values {
            Values::Packed(packing) => Some(packing.factors()),
            Values::Stored | Values::Text { .. } | Values::Time { .. } => None,
        }
    }

    /// Whether greater stored numbers are smaller values.
    #[must_use]
    pub fn is_descending(&self) -> bool {
        self.packing().is_some_and(|(scale, _)| scale < 0.0)
    }

    /// Whether elements that are stored for this decoding mean the same to another one.
    #[must_use]
    pub fn means_the_same(&self, other: &Self) -> bool {
        let values = match (&self.values, &other.values) {
            // How precisely numbers are unpacked is nothing that is stored.
            (Values::Packed(one), Values::Packed(other)) => one.factors() == other.factors(),
            (one, other) => one == other,
        };
        self.element == other.element
            && self.number == other.number
            && self.missing == other.missing
            && values
    }

    /// The same without missing values.
    #[must_use]
    pub fn unmasked(&self) -> Self {
        Self {
            missing: MissingRule::default(),
            ..self.clone()
        }
    }

    /// Which stored numbers are missing.
    pub(crate) fn limits<T: Number>(&self) -> Limits<T> {
        self.missing.limits()
    }

    /// The decoded values of `slab`; numbers that need no change are not copied.
    ///
    /// # Errors
    /// `Unsupported` for a time that no timestamp can hold, `Corrupt` for text that is none, `Invalid` if the slab is
    /// not one of this variable.
    pub fn apply(&self, slab: Slab) -> Result<ArrayRef> {
        if slab.element != self.element {
            return Err(Error::Invalid(format!(
                "a slab of type {} cannot be decoded as {}",
                slab.element.name(),
                self.element.name()
            )));
        }
        let Slab { cells, data, .. } = slab;
        let fixed = match data {
            SlabData::Text(texts) => return self.mask_text(texts),
            SlabData::Fixed(buffer) => buffer,
        };
        let needed = self.element.size().and_then(|size| size.checked_mul(cells));
        if needed.is_none_or(|needed| fixed.len() < needed) {
            return Err(Error::Invalid(format!(
                "a slab of {cells} cells of type {} has only {} bytes",
                self.element.name(),
                fixed.len()
            )));
        }
        if self.element == ElementType::Float16 {
            return self.numbers(widen(&typed(fixed, cells)));
        }
        with_number!(
            self.number,
            T => self.numbers(typed::<T>(fixed, cells)),
            else self.not_numbers(&fixed, cells)
        )
    }

    fn numbers<T: Number>(&self, values: ScalarBuffer<T>) -> Result<ArrayRef> {
        let nulls = self.missing.validity(&values);
        match &self.values {
            Values::Stored | Values::Text { .. } => {
                column(PrimitiveArray::<T::Arrow>::try_new(values, nulls))
            }
            Values::Packed(packing) => packing.unpack(&values, nulls),
            Values::Time { units, packing } => {
                let is_valid = |at| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at));
                units.column(values.iter().enumerate().map(|(at, value)| {
                    is_valid(at).then(|| match packing {
                        None => value.to_count(),
                        Some(packing) => packing.count(value.to_f64()),
                    })
                }))
            }
        }
    }

    fn not_numbers(&self, buffer: &Buffer, cells: usize) -> Result<ArrayRef> {
        let size = self.element.size().unwrap_or_default();
        let bytes = buffer.get(..size * cells).unwrap_or_default();
        if self.element == ElementType::Bool {
            return Ok(Arc::new(BooleanArray::new(
                pack(bytes, |byte| byte != 0),
                None,
            )));
        }
        // Latin-1 needs up to two bytes for one in UTF-8.
        if i32::try_from(bytes.len().saturating_mul(2)).is_err() {
            return Err(Error::Exhausted(format!(
                "{} bytes of text are too many for one batch",
                bytes.len()
            )));
        }
        let mut texts = StringBuilder::with_capacity(cells, bytes.len());
        for cell in 0..cells {
            let text = bytes
                .get(cell * size..(cell + 1) * size)
                .unwrap_or_default();
            if matches!(self.element, ElementType::Utf32(_)) {
                texts.append_value(from_utf32(text)?);
            } else {
                append_bytes(&mut texts, text);
            }
        }
        self.mask_text(texts.finish())
    }

    fn mask_text(&self, texts: StringArray) -> Result<ArrayRef> {
        let Values::Text { fill: Some(fill) } = &self.values else {
            return Ok(Arc::new(texts));
        };
        let valid: NullBuffer = texts
            .iter()
            .map(|text| text.is_some_and(|text| text != fill))
            .collect::<Vec<bool>>()
            .into();
        if valid.null_count() == 0 {
            return Ok(Arc::new(texts));
        }
        let (offsets, values, _) = texts.into_parts();
        column(StringArray::try_new(offsets, values, Some(valid)))
    }
}

fn calendar(attributes: &Attributes) -> Result<Option<&str>> {
    match (attributes.get("calendar"), attributes.text("calendar")) {
        (Some(other), None) => Err(Error::Unsupported(format!(
            "calendar is \"{other}\", which is not a name"
        ))),
        (_, name) => Ok(name),
    }
}

fn text_fill(element: ElementType, attributes: &Attributes) -> Option<String> {
    let fill = attributes.text("_FillValue")?.trim_end_matches('\0');
    // In text of fixed length an empty fill value is the padding of every short word.
    (element == ElementType::Text || !fill.is_empty()).then(|| fill.to_owned())
}

/// Text padded with NUL: UTF-8, or Latin-1 if it is not.
fn append_bytes(texts: &mut StringBuilder, padded: &[u8]) {
    let end = padded
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let bytes = padded.get(..end).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => texts.append_value(text),
        Err(_) => texts.append_value(bytes.iter().copied().map(char::from).collect::<String>()),
    }
}

fn from_utf32(padded: &[u8]) -> Result<String> {
    let text: Option<String> = padded
        .chunks_exact(4)
        .map(|code| {
            let code = code.try_into().map(u32::from_ne_bytes).unwrap_or(u32::MAX);
            char::from_u32(code)
        })
        .collect();
    let mut text = text.ok_or_else(|| {
        Error::Corrupt("a UTF-32 text holds a number that is not a Unicode character".into())
    })?;
    text.truncate(text.trim_end_matches('\0').len());
    Ok(text)
}

/// The first `cells` numbers of a buffer that is long enough; copied only if it is not aligned.
fn typed<T: ArrowNativeType>(buffer: Buffer, cells: usize) -> ScalarBuffer<T> {
    let buffer = if buffer.as_ptr().align_offset(align_of::<T>()) == 0 {
        buffer
    } else {
        Buffer::from_slice_ref(buffer.as_slice())
    };
    ScalarBuffer::new(buffer, 0, cells)
}

fn widen(values: &[f16]) -> ScalarBuffer<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{
        Float32Type, Float64Type, Int16Type, TimestampMicrosecondType, UInt8Type,
    };

    use super::*;
    use crate::array::AttributeValue;

    const OPTIONS: DecodeOptions = DecodeOptions {
        decode: true,
        nan_as_null: true,
        default_fill: false,
    };

    fn integer(element: ElementType, values: &[i128]) -> AttributeValue {
        let values = values.to_vec();
        AttributeValue::Integers { element, values }
    }

    fn float(element: ElementType, value: f64) -> AttributeValue {
        let values = vec![value];
        AttributeValue::Floats { element, values }
    }

    fn text(text: &str) -> AttributeValue {
        AttributeValue::Text(text.into())
    }

    fn decoding(
        element: ElementType,
        attributes: &[(&str, AttributeValue)],
        options: &DecodeOptions,
    ) -> Result<Decoding> {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
        Decoding::from_attributes(element, &Attributes(attributes.collect()), options)
    }

    fn apply(decoding: &Decoding, buffer: Buffer) -> Result<ArrayRef> {
        let cells = buffer.len() / decoding.element.size().unwrap();
        decoding.apply(Slab {
            element: decoding.element,
            cells,
            data: SlabData::Fixed(buffer),
        })
    }

    fn decode<T: ArrowNativeType>(
        element: ElementType,
        attributes: &[(&str, AttributeValue)],
        values: &[T],
    ) -> ArrayRef {
        let decoding = decoding(element, attributes, &OPTIONS).unwrap();
        let json = serde_json::to_string(&decoding).unwrap();
        let decoding: Decoding = serde_json::from_str(&json).unwrap();
        let array = apply(&decoding, Buffer::from_slice_ref(values)).unwrap();
        assert_eq!(*array.data_type(), decoding.data_type());
        assert!(decoding.nullable() || array.null_count() == 0);
        array
    }

    use ElementType::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8};

    fn int16s(attributes: &[(&str, AttributeValue)], values: &[i16]) -> Vec<Option<i16>> {
        let array = decode(Int16, attributes, values);
        array.as_primitive::<Int16Type>().iter().collect()
    }

    fn floats(attributes: &[(&str, AttributeValue)], values: &[f32]) -> Vec<Option<f32>> {
        let array = decode(Float32, attributes, values);
        array.as_primitive::<Float32Type>().iter().collect()
    }

    #[test]
    fn numbers_without_attributes_are_the_same_buffer() {
        let buffer = Buffer::from_vec(vec![1.0f32, 2.0]);
        let decoding = decoding(Float32, &[], &OPTIONS).unwrap();
        let array = apply(&decoding, buffer.clone()).unwrap();
        let values = array.as_primitive::<Float32Type>().values();
        assert_eq!(values.inner().as_ptr(), buffer.as_ptr());
        assert!(array.nulls().is_none());
    }

    #[test]
    fn nan_is_missing_unless_it_is_a_value() {
        assert_eq!(floats(&[], &[1.0, f32::NAN]), [Some(1.0), None]);
        let keep = DecodeOptions {
            nan_as_null: false,
            ..OPTIONS
        };
        for (attributes, nulls) in [
            (vec![], 0),
            (vec![("_FillValue", float(Float32, f64::NAN))], 1),
        ] {
            let decoding = decoding(Float32, &attributes, &keep).unwrap();
            let array = apply(&decoding, Buffer::from_vec(vec![1.0f32, f32::NAN])).unwrap();
            assert_eq!(
                (array.null_count(), decoding.nullable()),
                (nulls, nulls == 1)
            );
        }
    }

    #[test]
    fn missing_values_are_compared_in_the_stored_type() {
        // The double nearest to a single-precision fill value is that value.
        assert_eq!(
            floats(&[("_FillValue", float(Float64, 0.1))], &[0.1, 1.0]),
            [None, Some(1.0)]
        );
        assert_eq!(
            floats(&[("missing_value", text("1e20"))], &[1e20, 1.0]),
            [None, Some(1.0)]
        );
        for nothing in [f64::NAN, 1e37, 0.5] {
            let decoding = decoding(Int16, &[("_FillValue", float(Float32, nothing))], &OPTIONS);
            assert!(!decoding.unwrap().nullable());
        }
        let many = [
            ("_FillValue", integer(Int16, &[5])),
            ("missing_value", integer(Int16, &[6, 7, 8])),
        ];
        assert_eq!(
            int16s(&many, &[4, 5, 6, 7, 8, 9]),
            [Some(4), None, None, None, None, Some(9)]
        );
    }

    #[test]
    fn what_is_outside_of_the_valid_range_is_missing() {
        let range = [
            ("valid_range", integer(Int16, &[2, 30])),
            ("_FillValue", integer(Int16, &[3])),
        ];
        assert_eq!(
            int16s(&range, &[1, 2, 3, 30, 31]),
            [None, Some(2), None, Some(30), None]
        );
        let least = [("valid_min", float(Float64, 1.5))];
        assert_eq!(int16s(&least, &[1, 2]), [None, Some(2)]);
        let nothing = [("valid_max", integer(Int32, &[-40_000]))];
        assert_eq!(int16s(&nothing, &[i16::MIN, 0]), [None, None]);
        // In double precision 0.1f32 is more than 0.1, as NumPy compares.
        let most = [("valid_max", float(Float64, 0.1))];
        assert_eq!(floats(&most, &[0.1, 0.099]), [None, Some(0.099)]);
        // Packed values are compared, not unpacked ones.
        let packed = [
            ("valid_max", integer(Int16, &[10])),
            ("scale_factor", float(Float64, 100.0)),
        ];
        let array = decode(Int16, &packed, &[10i16, 11]);
        assert_eq!(
            array
                .as_primitive::<Float64Type>()
                .iter()
                .collect::<Vec<_>>(),
            [Some(1000.0), None]
        );
    }

    #[test]
    fn unsigned_integers_are_reinterpreted_first() {
        let attributes = [
            ("_Unsigned", text("true")),
            ("_FillValue", integer(Int8, &[-1])),
        ];
        let array = decode(Int8, &attributes, &[-2i8, -1, 0]);
        assert_eq!(
            array.as_primitive::<UInt8Type>().iter().collect::<Vec<_>>(),
            [Some(254), None, Some(0)]
        );
    }

    #[test]
    fn default_fill_values_are_missing_in_netcdf_files() {
        let netcdf = DecodeOptions {
            default_fill: true,
            ..OPTIONS
        };
        let nulls = |element, attributes: &[(&str, AttributeValue)], buffer| {
            let decoding = decoding(element, attributes, &netcdf).unwrap();
            apply(&decoding, buffer).unwrap().null_count()
        };
        let filled = Buffer::from_vec(vec![9.969_21e36f32, 1.0]);
        assert_eq!(nulls(Float32, &[], filled.clone()), 1);
        assert_eq!(
            nulls(Float32, &[("_FillValue", float(Float32, 5.0))], filled),
            0
        );
        assert_eq!(nulls(Int16, &[], Buffer::from_vec(vec![-32_767i16])), 1);
        assert_eq!(nulls(UInt8, &[], Buffer::from_vec(vec![255u8])), 0);
    }

    /// Expected: `xarray.decode_cf(…).dtype` of xarray.
    #[test]
    fn unpacked_types_are_those_of_xarray() {
        let type_of = |element, scale: Option<ElementType>, offset: Option<ElementType>| {
            let attribute = |name, of: Option<ElementType>| of.map(|of| (name, float(of, 0.5)));
            let attributes: Vec<_> = [
                attribute("scale_factor", scale),
                attribute("add_offset", offset),
            ]
            .into_iter()
            .flatten()
            .collect();
            decoding(element, &attributes, &OPTIONS)
                .unwrap()
                .data_type()
        };
        let (single, double) = (Some(Float32), Some(Float64));
        for (element, scale, offset, expected) in [
            (Int16, single, None, DataType::Float32),
            (Int16, double, None, DataType::Float64),
            (Int16, single, single, DataType::Float32),
            (Int32, single, single, DataType::Float64),
            (Int16, single, double, DataType::Float64),
            (Int16, None, single, DataType::Float64),
            (Float64, double, None, DataType::Float64),
            (Float64, single, single, DataType::Float32),
            (Int64, single, None, DataType::Float32),
            (Float32, single, None, DataType::Float32),
        ] {
            assert_eq!(
                type_of(element, scale, offset),
                expected,
                "{element:?} {scale:?} {offset:?}"
            );
        }
    }

    #[test]
    fn packing_is_computed_in_double_precision() {
        let attributes = [
            ("scale_factor", float(Float32, f64::from(-0.01f32))),
            ("add_offset", float(Float32, f64::from(273.15f32))),
            ("_FillValue", integer(Int16, &[-9999])),
        ];
        let array = decode(Int16, &attributes, &[-9999i16, 1234]);
        #[expect(clippy::cast_possible_truncation, reason = "the rounding under test")]
        let expected = (1234.0 * f64::from(-0.01f32) + f64::from(273.15f32)) as f32;
        assert_eq!(
            array
                .as_primitive::<Float32Type>()
                .iter()
                .collect::<Vec<_>>(),
            [None, Some(expected)]
        );
        let as_text = [("scale_factor", text(" 0.5 "))];
        let array = decode(Float64, &as_text, &[3.0f64]);
        assert_eq!(array.as_primitive::<Float64Type>().values().as_ref(), [1.5]);
        let error = decoding(Int16, &[("add_offset", text("c"))], &OPTIONS).unwrap_err();
        assert!(error.to_string().contains("add_offset"), "{error}");
    }

    #[test]
    fn times_are_decoded_after_masking() {
        let attributes = [
            ("units", text("hours since 1970-01-01")),
            ("_FillValue", float(Float64, -999.0)),
        ];
        let array = decode(Float64, &attributes, &[1.0, -999.0, f64::NAN]);
        let times: Vec<_> = array
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect();
        assert_eq!(times, [Some(3_600_000_000), None, None]);
        let array = decode(
            Int64,
            &[("units", text("days since 1970-01-01"))],
            &[i64::MIN, 0],
        );
        let times: Vec<_> = array
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect();
        assert_eq!(times, [None, Some(0)]);
        let days = [
            ("units", text("days since 2000-01-01")),
            ("calendar", text("360_day")),
        ];
        let array = decode(Int32, &days, &[59i32]);
        assert_eq!(array.as_string::<i32>().value(0), "2000-02-30T00:00:00");
    }

    #[test]
    fn stored_values_are_untouched_when_nothing_is_decoded() {
        let stored = DecodeOptions {
            decode: false,
            ..OPTIONS
        };
        let attributes = [
            ("units", text("months since 2000-01-01")),
            ("scale_factor", text("?")),
        ];
        let decoding = decoding(Int16, &attributes, &stored).unwrap();
        assert_eq!(
            (decoding.data_type(), decoding.nullable()),
            (DataType::Int16, false)
        );
    }

    #[test]
    fn text_loses_its_padding_only() {
        let decoding = decoding(ElementType::Bytes(4), &[], &OPTIONS).unwrap();
        let array = apply(
            &decoding,
            Buffer::from_slice_ref(b"ab  a\0\0\0\xe9t\xe9\0\0\0\0\0"),
        )
        .unwrap();
        let texts: Vec<_> = array.as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["ab  ", "a", "été", ""]);
        let array = decode(
            ElementType::Utf32(2),
            &[],
            &['é' as u32, 0, 'b' as u32, 'c' as u32],
        );
        let texts: Vec<_> = array.as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["é", "bc"]);
        let error = {
            let decoding = Decoding {
                element: ElementType::Utf32(1),
                ..decoding
            };
            apply(&decoding, Buffer::from_slice_ref([0xd800u32])).unwrap_err()
        };
        assert!(matches!(error, Error::Corrupt(_)));
    }

    #[test]
    fn the_fill_text_is_missing() {
        let attributes = [("_FillValue", text("-"))];
        let decoding = decoding(ElementType::Text, &attributes, &OPTIONS).unwrap();
        let data = SlabData::Text(StringArray::from(vec!["a", "-", "--"]));
        let array = decoding
            .apply(Slab {
                element: ElementType::Text,
                cells: 3,
                data,
            })
            .unwrap();
        assert_eq!(
            array.as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("a"), None, Some("--")]
        );
    }

    #[test]
    fn half_precision_is_widened_and_booleans_are_packed() {
        let half = [("_FillValue", float(Float64, 0.1))];
        let values = [f16::from_f64(0.1).to_bits(), f16::from_f64(0.5).to_bits()];
        let array = decode(ElementType::Float16, &half, &values);
        assert_eq!(
            array
                .as_primitive::<Float32Type>()
                .iter()
                .collect::<Vec<_>>(),
            [None, Some(0.5)]
        );
        let array = decode(ElementType::Bool, &[], &[0u8, 1, 2]);
        assert_eq!(
            array.as_boolean().iter().flatten().collect::<Vec<_>>(),
            [false, true, true]
        );
    }

    #[test]
    fn slabs_that_do_not_fit_are_refused() {
        let decoding = decoding(Float32, &[], &OPTIONS).unwrap();
        let slab = |element, cells| Slab {
            element,
            cells,
            data: SlabData::Fixed(Buffer::from_vec(vec![0u8; 8])),
        };
        assert!(decoding.apply(slab(Float32, 3)).is_err());
        assert!(decoding.apply(slab(Float64, 1)).is_err());
        assert!(decoding.apply(slab(Float32, 2)).is_ok());
    }

    #[test]
    fn a_buffer_that_is_not_aligned_is_copied() {
        let decoding = decoding(Float64, &[], &OPTIONS).unwrap();
        let mut bytes = vec![0u8; 1];
        bytes.extend(1.5f64.to_ne_bytes());
        let array = apply(&decoding, Buffer::from_vec(bytes).slice(1)).unwrap();
        assert_eq!(array.as_primitive::<Float64Type>().values().as_ref(), [1.5]);
    }
}
