//! Tests of encoding: helpers, and that everything that decoding gives reads back.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::buffer::Buffer;
use arrow::datatypes::{ArrowNativeType, DataType};

use super::*;
use crate::array::AttributeValue;
use crate::array::number::nearest_f32;
use crate::array::slab::{Slab, SlabData};
use ElementType::{Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8};

pub(super) const OPTIONS: DecodeOptions = DecodeOptions {
    decode: true,
    nan_as_null: true,
    default_fill: false,
};

pub(super) const NETCDF: DecodeOptions = DecodeOptions {
    default_fill: true,
    ..OPTIONS
};

pub(super) const NAN_IS_A_NUMBER: DecodeOptions = DecodeOptions {
    nan_as_null: false,
    ..OPTIONS
};

pub(super) type Given<'a> = &'a [(&'a str, AttributeValue)];

#[test]
fn every_number_that_decoding_gives_is_stored_again() {
    let all: Vec<i16> = (i16::MIN..=i16::MAX).collect();
    let packing = |scale, offset, element| {
        vec![
            ("scale_factor", float(element, scale)),
            ("add_offset", float(element, offset)),
        ]
    };
    let (tenth, kelvin) = (f64::from(0.1f32), f64::from(273.15f32));
    for given in [
        vec![],
        vec![
            ("_FillValue", integer(Int16, -9999)),
            ("missing_value", integers(Int16, &[1, 2, 3])),
        ],
        vec![
            ("valid_range", integers(Int16, &[-5, 900])),
            ("_FillValue", integer(Int16, 7)),
        ],
        vec![
            ("_Unsigned", text("true")),
            ("_FillValue", integer(Int16, -1)),
        ],
        packing(0.01, 273.15, Float64),
        packing(-0.01, 273.15, Float64),
        packing(tenth, kelvin, Float32),
        packing(-tenth, kelvin, Float32),
        packing(1e-5, 1e4, Float32),
        packing(1.0, -0.1, Float64),
        vec![
            ("scale_factor", float(Float32, f64::from(0.003f32))),
            ("_FillValue", integer(Int16, 0)),
        ],
        vec![("scale_factor", text("0.25")), ("_Unsigned", text("true"))],
    ] {
        for options in [&OPTIONS, &NETCDF, &NAN_IS_A_NUMBER] {
            reads_back(Int16, &given, options, &all);
        }
    }
    let bytes: Vec<u8> = (0..=255).collect();
    for element in [Int8, UInt8] {
        for given in [
            vec![],
            packing(0.1, 5.0, Float64),
            vec![("_Unsigned", text("true"))],
        ] {
            reads_back(element, &given, &OPTIONS, &bytes);
        }
    }
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    reads_back(Float16, &[], &OPTIONS, &halves);
    reads_back(
        Float16,
        &[("_FillValue", float(Float64, 0.1))],
        &OPTIONS,
        &halves,
    );
}

#[test]
fn every_float_and_long_integer_that_decoding_gives_is_stored_again() {
    let packing = |element, scale, offset| {
        vec![
            ("scale_factor", float(element, scale)),
            ("add_offset", float(element, offset)),
        ]
    };
    let mut singles: Vec<f32> = random(20_000)
        .map(|bits| f32::from_bits((bits >> 32) as u32))
        .collect();
    singles.extend([
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        1e-45,
    ]);
    let mut doubles: Vec<f64> = random(20_000).map(f64::from_bits).collect();
    doubles.extend([0.0, -0.0, f64::INFINITY, f64::NAN, f64::MAX]);
    for given in [
        vec![],
        vec![("_FillValue", float(Float32, -999.0))],
        vec![("valid_max", float(Float64, 0.1))],
    ] {
        for options in [&OPTIONS, &NETCDF, &NAN_IS_A_NUMBER] {
            reads_back(Float32, &given, options, &singles);
            reads_back(Float64, &given, options, &doubles);
        }
    }
    // Packed floating-point numbers: of usual sizes, the others are lost in the summand.
    let usual: Vec<f64> = random(20_000)
        .map(|bits| f64::from((bits >> 33) as u32) / 1e7)
        .collect();
    let narrow: Vec<f32> = usual.iter().map(|value| nearest_f32(*value)).collect();
    for given in [
        packing(Float64, 0.1, 0.0),
        packing(Float32, f64::from(0.01f32), 0.0),
        packing(Float64, 0.01, 3.0),
    ] {
        reads_back(Float64, &given, &OPTIONS, &usual);
        reads_back(Float32, &given, &OPTIONS, &narrow);
    }
    let longs: Vec<i64> = random(20_000)
        .map(u64::cast_signed)
        .chain([i64::MIN, i64::MAX])
        .collect();
    reads_back(Int64, &[], &NETCDF, &longs);
    reads_back(Int64, &[("_Unsigned", text("true"))], &OPTIONS, &longs);
    let integers: Vec<i32> = longs.iter().map(|value| (*value >> 32) as i32).collect();
    reads_back(
        Int32,
        &[("_FillValue", integer(Int32, 0))],
        &OPTIONS,
        &integers,
    );
    reads_back(
        Int32,
        &packing(Float32, f64::from(0.01f32), 1.0),
        &OPTIONS,
        &integers,
    );
}

#[test]
fn every_time_that_decoding_gives_is_stored_again() {
    for calendar in [
        "standard",
        "proleptic_gregorian",
        "julian",
        "noleap",
        "all_leap",
        "360_day",
    ] {
        for unit in [
            "weeks",
            "days",
            "hours",
            "minutes",
            "seconds",
            "milliseconds",
            "microseconds",
            "nanoseconds",
        ] {
            let given = [
                ("units", text(&format!("{unit} since 1850-01-01 06:30"))),
                ("calendar", text(calendar)),
                ("_FillValue", integer(Int32, -1)),
            ];
            let counts: Vec<i32> = random(300)
                .map(|bits| (bits >> 48) as i32 - 9_000)
                .collect();
            let fractions: Vec<f64> = counts.iter().map(|count| f64::from(*count) / 7.0).collect();
            let narrow: Vec<f32> = fractions.iter().map(|count| nearest_f32(*count)).collect();
            reads_back_singly(Int32, &given, &counts);
            reads_back_singly(Float64, &given, &fractions);
            reads_back_singly(Float32, &given, &narrow);
            let packed = [&given[..], &[("scale_factor", float(Float64, 0.25))]].concat();
            reads_back_singly(Int32, &packed, &counts);
            reads_back_singly(Float64, &packed, &fractions);
        }
    }
}

#[test]
fn an_encoding_travels_and_names_its_variable() {
    let given = [("scale_factor", float(Float64, 0.1))];
    let mut encoding = encoding(Int16, &given, &OPTIONS);
    encoding.variable = Some("group/tas".into());
    let json = serde_json::to_string(&encoding).unwrap();
    let encoding: Encoding = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&encoding).unwrap(), json);
    assert_refused(
        &encoding,
        &doubles(&[1e9]),
        "variable group/tas: value 1000000000.0",
    );
    assert!(
        encoding
            .fill()
            .unwrap_err()
            .to_string()
            .starts_with("variable group/tas: ")
    );
    assert_eq!(
        (encoding.element(), encoding.data_type()),
        (Int16, DataType::Float64)
    );
}

pub(super) fn integer(element: ElementType, value: i128) -> AttributeValue {
    integers(element, &[value])
}

pub(super) fn integers(element: ElementType, values: &[i128]) -> AttributeValue {
    let values = values.to_vec();
    AttributeValue::Integers { element, values }
}

pub(super) fn float(element: ElementType, value: f64) -> AttributeValue {
    let values = vec![value];
    AttributeValue::Floats { element, values }
}

pub(super) fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.into())
}

pub(super) fn attributes(given: Given<'_>) -> Attributes {
    Attributes(
        given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect(),
    )
}

pub(super) fn encoding(
    element: ElementType,
    given: Given<'_>,
    options: &DecodeOptions,
) -> Encoding {
    Encoding::new(element, &attributes(given), &[], options).unwrap()
}

pub(super) fn fill(
    element: ElementType,
    given: Given<'_>,
    options: &DecodeOptions,
) -> Result<Vec<u8>> {
    encoding(element, given, options).fill()
}

pub(super) fn encode(encoding: &Encoding, column: &ArrayRef) -> Result<Vec<u8>> {
    let mut out = vec![9; 3];
    encoding.encode(column, &mut out)?;
    assert_eq!(out[..3], [9; 3], "elements are appended");
    Ok(out.split_off(3))
}

pub(super) fn decode(encoding: &Encoding, bytes: Vec<u8>) -> ArrayRef {
    let element = encoding.element();
    let cells = bytes.len() / element.size().unwrap();
    let data = SlabData::Fixed(Buffer::from_vec(bytes));
    encoding
        .decoding
        .apply(Slab {
            element,
            cells,
            data,
        })
        .unwrap()
}

pub(super) fn stored<T: ArrowNativeType>(
    element: ElementType,
    given: Given<'_>,
    column: &ArrayRef,
) -> Vec<T> {
    cells(&encode(&encoding(element, given, &OPTIONS), column).unwrap())
}

pub(super) fn cells<T: ArrowNativeType>(bytes: &[u8]) -> Vec<T> {
    Buffer::from_slice_ref(bytes).typed_data().to_vec()
}

pub(super) fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

pub(super) fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

pub(super) fn assert_refused(encoding: &Encoding, column: &ArrayRef, why: &str) {
    let error = encode(encoding, column).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    assert!(error.to_string().contains(why), "{error}");
}

/// What the stored `values` decode to can be stored, and then decodes to the same.
fn reads_back<T: ArrowNativeType>(
    element: ElementType,
    given: Given<'_>,
    options: &DecodeOptions,
    values: &[T],
) {
    let encoding = encoding(element, given, options);
    let column = decode(&encoding, Buffer::from_slice_ref(values).to_vec());
    // Without a missing value of their own, ranges make NULL of what cannot be stored as NULL.
    let column = match encoding.fill() {
        Ok(_) => column,
        Err(_) => {
            arrow::compute::filter(&column, &arrow::compute::is_not_null(&column).unwrap()).unwrap()
        }
    };
    let again = decode(&encoding, encode(&encoding, &column).unwrap());
    assert_eq!(again.to_data(), column.to_data(), "{element:?} {given:?}");
}

/// The same for values of which some do not decode.
fn reads_back_singly<T: ArrowNativeType>(element: ElementType, given: Given<'_>, values: &[T]) {
    let encoding = encoding(element, given, &OPTIONS);
    let mut tried = 0;
    for value in values {
        let slab = Slab {
            element,
            cells: 1,
            data: SlabData::Fixed(Buffer::from_slice_ref([*value])),
        };
        let Ok(column) = encoding.decoding.apply(slab) else {
            continue;
        };
        let again = decode(&encoding, encode(&encoding, &column).unwrap());
        assert_eq!(again.to_data(), column.to_data(), "{value:?} {given:?}");
        tried += 1;
    }
    assert!(tried > values.len() / 2, "{given:?}");
}

/// Numbers without a pattern, the same in every run.
fn random(count: usize) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    })
    .take(count)
}
