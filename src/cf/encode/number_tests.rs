//! Tests of encoding numbers and texts: what reference libraries store, and what is refused.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Int8Array, Int16Array,
    Int64Array, NullArray, StringViewArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::Int32Type;

use super::*;
use crate::cf::encode::tests::{
    NAN_IS_A_NUMBER, NETCDF, OPTIONS, assert_refused, attributes, cells, decode, doubles, encode,
    encoding, fill, float, integer, integers, stored, text,
};
use ElementType::{Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8};

// Expected: stored values of netCDF4 1.7.5, which are those of xarray 2026.9.0.

#[test]
fn numbers_are_packed_in_double_precision_and_ties_go_to_even() {
    let kelvin = [
        ("scale_factor", float(Float64, 0.01)),
        ("add_offset", float(Float64, 273.15)),
    ];
    let values = doubles(&[273.155, 273.165, 0.5, 1.5, 2.5, -2.5, 300.0]);
    assert_eq!(
        stored::<i16>(Int16, &kelvin, &values),
        [0, 2, -27265, -27165, -27065, -27565, 2685]
    );
    let singles: ArrayRef = Arc::new(Float32Array::from(vec![273.16, 280.0]));
    assert_eq!(stored::<i16>(Int16, &kelvin, &singles), [1, 685]);
    let values = doubles(&[0.25, 0.75, 1.25, -0.25, -0.75, 10.1]);
    let half = [("scale_factor", float(Float64, 0.5))];
    assert_eq!(stored::<i16>(Int16, &half, &values), [0, 2, 2, 0, -2, 20]);
    let descending = [
        ("scale_factor", float(Float64, -0.5)),
        ("add_offset", float(Float64, 1.0)),
    ];
    assert_eq!(
        stored::<i16>(Int16, &descending, &values),
        [2, 0, 0, 2, 4, -18]
    );
    let single = [("scale_factor", float(Float32, f64::from(0.01f32)))];
    assert_eq!(
        stored::<i32>(Int32, &single, &doubles(&[0.1, -12345.678])),
        [10, -1_234_568]
    );
    let into_float = [
        ("scale_factor", float(Float64, 0.1)),
        ("add_offset", float(Float64, 5.0)),
    ];
    assert_eq!(
        stored::<f32>(Float32, &into_float, &doubles(&[0.1, 7.3, 100.0])),
        [-49.0, 23.0, 950.0]
    );
    // Integers of a column are numbers too.
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![1, -3]));
    assert_eq!(stored::<i16>(Int16, &half, &whole), [2, -6]);
}

#[test]
fn unsigned_integers_are_stored_by_their_bits() {
    let attributes = [
        ("_Unsigned", text("true")),
        ("_FillValue", integer(Int8, -1)),
    ];
    let values = doubles(&[0.0, 1.0, 127.0, 128.0, 254.0]);
    let expected = [0, 1, 127, -128, -2];
    assert_eq!(stored::<i8>(Int8, &attributes, &values), expected);
    let bytes: ArrayRef = Arc::new(UInt8Array::from(vec![0, 1, 127, 128, 254]));
    assert_eq!(stored::<i8>(Int8, &attributes, &bytes), expected);
    assert_eq!(fill(Int8, &attributes, &OPTIONS).unwrap(), [0xff]);
}

/// Expected: `numpy.float16` and `numpy.float32` of NumPy 2.4.6.
#[test]
fn narrower_floats_are_the_nearest_ones() {
    let values = doubles(&[0.1, 1e20, 3.402_823_5e38, 16_777_217.0, 1e-46, -0.0]);
    let bits: Vec<u32> = stored::<f32>(Float32, &[], &values)
        .into_iter()
        .map(f32::to_bits)
        .collect();
    assert_eq!(
        bits,
        [
            0x3dcc_cccd,
            0x60ad_78ec,
            0x7f7f_ffff,
            0x4b80_0000,
            0,
            0x8000_0000
        ]
    );
    let values = doubles(&[
        0.1,
        1.000_488_281_25,
        1.000_488_281_25 + 1e-12,
        65_519.99,
        1e-8,
        3e-8,
        -0.0,
        1.001_464_843_749_999_8,
    ]);
    assert_eq!(
        stored::<u16>(Float16, &[], &values),
        [0x2e66, 0x3c00, 0x3c01, 0x7bff, 0, 1, 0x8000, 0x3c01]
    );
    let infinite = [f32::INFINITY, f32::NEG_INFINITY];
    assert_eq!(
        stored::<f32>(Float32, &[], &doubles(&infinite.map(f64::from))),
        infinite
    );
}

// Expected: stored values of xarray 2026.9.0.

#[test]
fn nan_and_null_become_the_fill_value() {
    let values = doubles(&[1.5, f64::NAN, 3.0]);
    let packed = [
        ("scale_factor", float(Float64, 0.5)),
        ("_FillValue", integer(Int16, -9999)),
    ];
    assert_eq!(stored::<i16>(Int16, &packed, &values), [3, -9999, 6]);
    let number = [("_FillValue", float(Float32, -999.0))];
    assert_eq!(stored::<f32>(Float32, &number, &values), [1.5, -999.0, 3.0]);
    let nulls: ArrayRef = Arc::new(Float32Array::from(vec![None, Some(2.0)]));
    assert_eq!(stored::<f32>(Float32, &number, &nulls), [-999.0, 2.0]);
    for attributes in [vec![], vec![("_FillValue", float(Float32, f64::NAN))]] {
        let found = stored::<f32>(Float32, &attributes, &values);
        assert!(found[1].is_nan(), "{found:?}");
        assert!(stored::<f32>(Float32, &attributes, &nulls)[0].is_nan());
    }
}

#[test]
fn nan_that_is_a_number_is_stored() {
    let values = doubles(&[f64::NAN]);
    let number = [("_FillValue", float(Float32, -999.0))];
    let encoding = encoding(Float32, &number, &NAN_IS_A_NUMBER);
    let found = cells::<f32>(&encode(&encoding, &values).unwrap());
    assert!(found[0].is_nan());
    // An attribute that says that NaN is missing is another way to store it.
    let both = [
        ("_FillValue", float(Float32, -999.0)),
        ("missing_value", float(Float32, f64::NAN)),
    ];
    assert!(stored::<f32>(Float32, &both, &values)[0].is_nan());
    let integers = Encoding::new(
        Int16,
        &attributes(&[("_FillValue", integer(Int16, -1))]),
        &[],
        &NAN_IS_A_NUMBER,
    );
    assert_refused(
        &integers.unwrap(),
        &values,
        "value NaN cannot be stored as int16: it is not a number",
    );
}

#[test]
fn the_missing_value_is_one_that_reads_back_as_null() {
    let bytes = |value: i16| value.to_ne_bytes().to_vec();
    let fill_value = ("_FillValue", integer(Int16, -9));
    let missing = ("missing_value", integer(Int16, -8));
    assert_eq!(
        fill(Int16, &[missing.clone(), fill_value], &OPTIONS).unwrap(),
        bytes(-9)
    );
    assert_eq!(
        fill(
            Int16,
            &[("_FillValue", float(Float64, 0.5)), missing],
            &OPTIONS
        )
        .unwrap(),
        bytes(-8)
    );
    // What the netCDF library leaves in unwritten cells.
    assert_eq!(fill(Int16, &[], &NETCDF).unwrap(), bytes(-32_767));
    let nan = fill(Float64, &[], &NETCDF).unwrap();
    assert!(f64::from_ne_bytes(nan.try_into().unwrap()).is_nan());
    let time = [("units", text("nanoseconds since 1970-01-01"))];
    assert_eq!(
        fill(Int64, &time, &OPTIONS).unwrap(),
        i64::MIN.to_ne_bytes()
    );
    // The value of unwritten cells serves where the valid range excludes it.
    let range = attributes(&[("valid_min", integer(Int16, 0))]);
    let unwritten = Encoding::new(Int16, &range, &(-5i16).to_ne_bytes(), &OPTIONS).unwrap();
    assert_eq!(unwritten.fill().unwrap(), bytes(-5));
    for (element, options) in [
        (Int16, &OPTIONS),
        (Float32, &NAN_IS_A_NUMBER),
        (Int8, &NETCDF),
    ] {
        let error = fill(element, &[], options).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)));
        assert_eq!(
            error.to_string(),
            "the variable has no missing value (no _FillValue or missing_value), so it cannot hold NULL"
        );
    }
    let stored = DecodeOptions {
        decode: false,
        ..OPTIONS
    };
    assert!(fill(Int16, &[("_FillValue", integer(Int16, 1))], &stored).is_err());
}

#[test]
fn null_is_refused_where_nothing_means_it() {
    for column in [
        Arc::new(Int16Array::from(vec![Some(1), None])) as ArrayRef,
        Arc::new(NullArray::new(2)),
        doubles(&[1.0, f64::NAN]),
    ] {
        assert_refused(&encoding(Int16, &[], &OPTIONS), &column, "cannot hold NULL");
    }
    let booleans: ArrayRef = Arc::new(BooleanArray::from(vec![None]));
    assert_refused(
        &encoding(ElementType::Bool, &[], &OPTIONS),
        &booleans,
        "cannot hold NULL",
    );
    let filled = [("_FillValue", integer(Int16, 7))];
    let nothing: ArrayRef = Arc::new(NullArray::new(2));
    assert_eq!(stored::<i16>(Int16, &filled, &nothing), [7, 7]);
}

#[test]
fn values_that_would_change_are_refused() {
    let packed = [
        ("scale_factor", float(Float64, 0.01)),
        ("add_offset", float(Float64, 100.0)),
    ];
    let longs = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    for (element, given, column, why) in [
        (
            Int16,
            packed.as_slice(),
            doubles(&[100.0, 1000.0]),
            "value 1000.0 cannot be stored as int16: with scale_factor 0.01 and add_offset 100.0 it is outside of -227.68 to 427.67",
        ),
        (
            Int16,
            packed.as_slice(),
            doubles(&[f64::INFINITY]),
            "value inf cannot be stored as int16",
        ),
        (
            Int16,
            &[],
            longs(&[1, 40_000]),
            "value 40000 cannot be stored as int16: it is outside of -32768 to 32767",
        ),
        (
            UInt8,
            &[],
            doubles(&[-1.0]),
            "value -1.0 cannot be stored as uint8: it is outside of 0 to 255",
        ),
        (
            Int32,
            &[],
            doubles(&[2.5]),
            "value 2.5 cannot be stored as int32: it is not a whole number",
        ),
        (
            Int64,
            &[],
            doubles(&[9_223_372_036_854_775_808.0]),
            "value 9.223372036854776e18 cannot be stored as int64: it is outside of",
        ),
        (
            Float32,
            &[],
            doubles(&[1.0, -1e39]),
            "value -1e39 cannot be stored as float32: it is outside of -3.4028235e38 to 3.4028235e38",
        ),
        (
            Float16,
            &[],
            doubles(&[65_520.0]),
            "value 65520.0 cannot be stored as float16",
        ),
        (
            Float32,
            &[],
            longs(&[16_777_216, 16_777_217]),
            "value 16777217 cannot be stored as float32: it would be rounded",
        ),
        (
            Float64,
            &[],
            longs(&[9_007_199_254_740_993]),
            "value 9007199254740993 cannot be stored as float64: it would be rounded",
        ),
        (
            Int16,
            &[],
            Arc::new(StringArray::from(vec!["1"])),
            "a column of type Utf8 cannot be stored as int16",
        ),
        (
            ElementType::Bool,
            &[],
            longs(&[1]),
            "a column of type Int64 cannot be stored as bool",
        ),
    ] {
        assert_refused(&encoding(element, given, &OPTIONS), &column, why);
    }
    assert_eq!(
        stored::<f32>(Float32, &[], &longs(&[16_777_216, 16_777_218])),
        [16_777_216.0, 16_777_218.0]
    );
    assert_eq!(
        stored::<f64>(Float64, &[], &longs(&[i64::MIN])),
        [-9_223_372_036_854_775_808.0]
    );
}

#[test]
fn values_that_would_read_back_as_null_are_refused() {
    let filled = [("_FillValue", integer(Int16, -9999))];
    let range = [("valid_range", integers(Int16, &[2, 30]))];
    let packed = [
        ("scale_factor", float(Float64, 0.5)),
        ("_FillValue", integer(Int16, 4)),
    ];
    for (element, given, column, why) in [
        (
            Int16,
            filled.as_slice(),
            doubles(&[1.0, -9999.0]),
            "value -9999.0 would read back as NULL: the stored -9999 is a missing value",
        ),
        (
            Int16,
            range.as_slice(),
            doubles(&[2.0, 31.0]),
            "value 31.0 would read back as NULL: the stored 31 is outside of the valid range 2 to 30",
        ),
        (
            Int16,
            packed.as_slice(),
            doubles(&[1.0, 2.1]),
            "value 2.1 would read back as NULL: the stored 4 is a missing value",
        ),
        (
            Float32,
            &[("missing_value", float(Float32, 0.0))],
            doubles(&[-0.0]),
            "value -0.0 would read back as NULL: the stored -0.0",
        ),
    ] {
        assert_refused(&encoding(element, given, &OPTIONS), &column, why);
    }
    let singles: ArrayRef = Arc::new(Float32Array::from(vec![9.969_21e36]));
    assert_refused(
        &encoding(Float32, &[], &NETCDF),
        &singles,
        "would read back as NULL",
    );
    // What stands where a column is NULL is nobody's value.
    let masked = Int16Array::new(vec![1, -9999].into(), Some(vec![true, false].into()));
    let masked: ArrayRef = Arc::new(masked);
    assert_eq!(stored::<i16>(Int16, &filled, &masked), [1, -9999]);
}

#[test]
fn columns_of_many_types_are_accepted() {
    let dictionary: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let words = encoding(ElementType::Bytes(2), &[], &OPTIONS);
    let bytes = encode(&words, &(Arc::new(dictionary) as ArrayRef)).unwrap();
    assert_eq!(bytes, b"a\0b\0a\0");
    let view: ArrayRef = Arc::new(StringViewArray::from(vec!["xy"]));
    assert_eq!(encode(&words, &view).unwrap(), b"xy");
    let decimal = |value, scale| {
        let array = Decimal128Array::from(vec![value]);
        Arc::new(array.with_precision_and_scale(20, scale).unwrap()) as ArrayRef
    };
    assert_eq!(stored::<i16>(Int16, &[], &decimal(1200, 2)), [12]);
    assert_eq!(stored::<f64>(Float64, &[], &decimal(12345, 2)), [123.45]);
    for (column, why) in [
        (
            decimal(1250, 2),
            "value 12.50 cannot be stored as int16: it is not a whole number",
        ),
        (
            decimal(4_000_000, 2),
            "value 40000.00 cannot be stored as int16: it is outside",
        ),
    ] {
        assert_refused(&encoding(Int16, &[], &OPTIONS), &column, why);
    }
    let huge: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(stored::<u64>(ElementType::UInt64, &[], &huge), [u64::MAX]);
    assert_refused(
        &encoding(Int64, &[], &OPTIONS),
        &huge,
        "18446744073709551615",
    );
    let bytes: ArrayRef = Arc::new(Int8Array::from(vec![-3]));
    assert_eq!(stored::<i32>(Int32, &[], &bytes), [-3]);
    let booleans: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    let found = encode(&encoding(ElementType::Bool, &[], &OPTIONS), &booleans);
    assert_eq!(found.unwrap(), [1, 0]);
}

#[test]
fn texts_are_padded_or_refused() {
    let words = |words: &[Option<&str>]| Arc::new(StringArray::from(words.to_vec())) as ArrayRef;
    let three = encoding(
        ElementType::Bytes(3),
        &[("_FillValue", text("-"))],
        &OPTIONS,
    );
    let column = words(&[Some("ab"), None, Some(""), Some("é")]);
    assert_eq!(
        encode(&three, &column).unwrap(),
        b"ab\0-\0\0\0\0\0\xc3\xa9\0"
    );
    assert_eq!(
        decode(&three, encode(&three, &column).unwrap()).as_ref(),
        column.as_ref()
    );
    let points = encoding(ElementType::Utf32(2), &[], &OPTIONS);
    let found = encode(&points, &words(&[Some("é")])).unwrap();
    assert_eq!(cells::<u32>(&found), ['é' as u32, 0]);
    let plain = encoding(ElementType::Char, &[], &OPTIONS);
    for (encoding, text, why) in [
        (
            &three,
            Some("abcd"),
            "text \"abcd\" has 4 bytes, and only 3 can be stored",
        ),
        (&three, Some("éé"), "has 4 bytes"),
        (&three, Some("-"), "text \"-\" would read back as NULL"),
        (&three, Some("a\0"), "ends with NUL"),
        (
            &points,
            Some("abc"),
            "text \"abc\" has 3 characters, and only 2",
        ),
        (&plain, Some("é"), "has 2 bytes, and only 1"),
        (&plain, None, "cannot hold NULL"),
    ] {
        assert_refused(encoding, &words(&[text]), why);
    }
    assert_refused(
        &three,
        &doubles(&[1.0]),
        "a column of type Float64 cannot be stored as bytes3",
    );
    let free = encoding(ElementType::Text, &[("_FillValue", text("none"))], &OPTIONS);
    let texts = free.texts(&words(&[Some("a\0"), None])).unwrap();
    assert_eq!(
        texts.iter().collect::<Vec<_>>(),
        [Some("a\0"), Some("none")]
    );
    assert!(free.texts(&words(&[Some("none")])).is_err());
    assert_refused(&free, &words(&[None]), "no elements of fixed size");
    assert_eq!(free.fill().unwrap(), b"none");
    let nothing: ArrayRef = Arc::new(NullArray::new(1));
    assert_refused(&free, &nothing, "no elements of fixed size");
    assert_eq!(free.texts(&nothing).unwrap().value(0), "none");
    assert!(three.texts(&column).is_err());
}
