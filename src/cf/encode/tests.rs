//! Tests of encoding: what reference libraries store, that everything reads back, and what is refused.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, NullArray, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray,
    UInt8Array, UInt64Array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{ArrowNativeType, DataType, Int32Type};

use super::*;
use crate::array::AttributeValue;
use crate::array::slab::{Slab, SlabData};
use ElementType::{Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8};

const OPTIONS: DecodeOptions = DecodeOptions {
    decode: true,
    nan_as_null: true,
    default_fill: false,
};

const NETCDF: DecodeOptions = DecodeOptions {
    default_fill: true,
    ..OPTIONS
};

const NAN_IS_A_NUMBER: DecodeOptions = DecodeOptions {
    nan_as_null: false,
    ..OPTIONS
};

type Given<'a> = &'a [(&'a str, AttributeValue)];

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
    let integers = super::Encoding::new(
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
    assert!(three.texts(&column).is_err());
}

// Expected: `cftime.date2num(date, units, calendar)` of cftime 1.6.6.

/// The dates of the decoding tests, and dates that need the nearest double.
const DATES: [(&str, &str, &str, f64); 27] = [
    ("standard", "days since 0001-01-01", "1582-10-03", 577_735.0),
    ("standard", "days since 0001-01-01", "1582-10-15", 577_737.0),
    ("", "days since 0001-01-01", "1582-10-04T06:00", 577_736.25),
    ("standard", "days since 0001-01-01", "-0001-12-31", -1.0),
    (
        "standard",
        "hours since 1970-01-01T00:00:00Z",
        "2213-07-05T13:55:00",
        2_134_549.916_666_666_5,
    ),
    (
        "Gregorian",
        "day since 1950-01-01 00:00:00",
        "2099-12-31T23:48:00",
        54_786.991_666_666_67,
    ),
    (
        "standard",
        "seconds since 2000-01-01 12:00:00",
        "2017-10-25T20:53:38.980285",
        562_236_818.980_285,
    ),
    (
        "standard",
        "days since 2000-01-01T00:00:00+05:30",
        "2000-01-01T18:30:00",
        1.0,
    ),
    (
        "standard",
        "days since 1990-01-01 -06:00",
        "1990-01-02T06:00:00Z",
        1.0,
    ),
    (
        "standard",
        "microseconds since 1970-01-01",
        "1969-12-31T23:59:59.999999",
        -1.0,
    ),
    (
        "standard",
        "milliseconds since 1970-01-01",
        "2000-02-29T00:00:00.123",
        951_782_400_123.0,
    ),
    (
        "standard",
        "minutes since 1970-01-01",
        "2000-02-29T00:01:30",
        15_863_041.5,
    ),
    (
        "julian",
        "days since 1850-01-01 00:00:00",
        "1904-10-04T12:00:00",
        20_000.5,
    ),
    (
        "noleap",
        "days since 0001-01-01 00:00:00",
        "2000-01-01",
        729_635.0,
    ),
    (
        "365_day",
        "days since 1850-1-1",
        "2002-01-31 06:00:00",
        55_510.25,
    ),
    (
        "proleptic_gregorian",
        "hours since 2015-04-15 00:00:00.000 UTC",
        "2015-04-15T12:00:00",
        12.0,
    ),
    (
        "proleptic_gregorian",
        "days since 0000-01-01",
        "-0001-12-31",
        -1.0,
    ),
    (
        "proleptic_gregorian",
        "days since 1500-01-01",
        "1582-10-10",
        30_232.0,
    ),
    ("360_day", "days since 1900-1-1", "1906-05-20", 2299.0),
    ("360_day", "months since 2000-01-01", "2000-02-16", 1.5),
    ("366_day", "days since 1900-1-1", "1906-04-13", 2299.0),
    ("all_leap", "days since 2001-01-01", "2001-02-29", 59.0),
    (
        "360_day",
        "seconds since 2000-02-30 23:59:59",
        "2000-03-01T00:00:00.250000",
        1.25,
    ),
    (
        "360_day",
        "hours since 2000-01-01",
        "2000-02-30T01:20:00",
        1417.333_333_333_333_3,
    ),
    (
        "all_leap",
        "days since 2001-01-01",
        "2001-02-29T08:00:00",
        59.333_333_333_333_336,
    ),
    (
        "julian",
        "hours since 1850-01-01",
        "1900-02-28T00:00:10",
        439_680.002_777_777_8,
    ),
    (
        "standard",
        "days since 1850-01-01",
        "2014-12-31T16:40:33.123457",
        60_264.694_827_817_79,
    ),
];

#[test]
fn dates_are_counted_as_cftime_does() {
    for (calendar, units, date, count) in DATES {
        let given = [("units", text(units)), ("calendar", text(calendar))];
        let column = texts(&[date]);
        assert_eq!(
            stored::<f64>(Float64, &given, &column),
            [count],
            "{date} {calendar}"
        );
        // The same from the type that decoding gives.
        let encoding = encoding(Float64, &given, &OPTIONS);
        let read = decode(&encoding, encode(&encoding, &column).unwrap());
        assert_eq!(
            cells::<f64>(&encode(&encoding, &read).unwrap()),
            [count],
            "{date}"
        );
        if count.fract() == 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number")]
            let whole = count as i64;
            assert_eq!(
                stored::<i64>(Int64, &given, &read),
                [whole],
                "{date} {calendar}"
            );
        }
    }
}

#[test]
fn timestamps_of_every_unit_and_dates_are_times() {
    let given = [
        ("units", text("hours since 1970-01-01")),
        ("_FillValue", integer(Int32, -1)),
    ];
    for column in [
        Arc::new(TimestampSecondArray::from(vec![Some(7200), None])) as ArrayRef,
        Arc::new(TimestampMicrosecondArray::from(vec![
            Some(7_200_000_000),
            None,
        ])),
        Arc::new(
            TimestampNanosecondArray::from(vec![Some(7_200_000_000_000), None])
                .with_timezone("UTC"),
        ),
        Arc::new(StringViewArray::from(vec![
            Some("1970-01-01T02:00:00"),
            None,
        ])),
    ] {
        assert_eq!(stored::<i32>(Int32, &given, &column), [2, -1]);
    }
    let days: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    assert_eq!(stored::<i32>(Int32, &given, &days), [24]);
    let nanoseconds = [("units", text("nanoseconds since 1970-01-01"))];
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(-3), None]));
    assert_eq!(
        stored::<i64>(Int64, &nanoseconds, &column),
        [-3000, i64::MIN]
    );
    let packed = [
        ("units", text("hours since 1970-01-01")),
        ("scale_factor", float(Float64, 0.5)),
        ("add_offset", float(Float64, 10.0)),
    ];
    assert_eq!(
        stored::<i16>(Int16, &packed, &texts(&["1970-01-01T11:30:00"])),
        [3]
    );
}

#[test]
fn dates_that_would_change_are_refused() {
    let days = "days since 2000-01-01";
    let hours = "hours since 2000-01-01";
    let timestamp = |value| Arc::new(TimestampNanosecondArray::from(vec![value])) as ArrayRef;
    for (element, units, calendar, column, why) in [
        (
            Int32,
            days,
            "standard",
            texts(&["2000-01-02T12:00:00"]),
            "time 2000-01-02T12:00:00 cannot be stored as int32 of \"days since 2000-01-01\": it is not a whole number of units, which takes a resolution of hours",
        ),
        (
            Int64,
            hours,
            "standard",
            texts(&["2000-01-02T12:00:00.5"]),
            "takes a resolution of milliseconds",
        ),
        (
            Int8,
            days,
            "standard",
            texts(&["2001-01-01"]),
            "the number 366 is outside of -128 to 127",
        ),
        (
            ElementType::UInt16,
            days,
            "standard",
            texts(&["1999-12-31"]),
            "the number -1 is outside of 0 to 65535",
        ),
        (
            Float32,
            "seconds since 1970-01-01",
            "standard",
            texts(&["2001-09-09T01:46:41"]),
            "the nearest number 1e9 reads back as 2001-09-09T01:46:40, and it takes a resolution of seconds",
        ),
        (
            Float64,
            "days since 0001-01-01",
            "proleptic_gregorian",
            texts(&["2014-12-31T16:40:33.123457"]),
            "reads back as 2014-12-31T16:40:33.1234",
        ),
        (
            Int32,
            days,
            "noleap",
            texts(&["2004-02-29"]),
            "2004-02-29T00:00:00 cannot be stored: it is not a date of the noleap calendar",
        ),
        (
            Int32,
            days,
            "noleap",
            Arc::new(Date32Array::from(vec![12_477])),
            "2004-02-29T00:00:00 cannot be stored: it is not a date of the noleap",
        ),
        (
            Int32,
            days,
            "360_day",
            texts(&["2000-01-31"]),
            "not a date of the 360_day calendar",
        ),
        (
            Int32,
            days,
            "standard",
            texts(&["1582-10-10"]),
            "not a date of the standard calendar",
        ),
        (
            Int32,
            days,
            "standard",
            Arc::new(Date32Array::from(vec![-141_432])),
            "1582-10-10T00:00:00 cannot be stored: it is not a date of the standard",
        ),
        (
            Int32,
            days,
            "julian",
            texts(&["1900-02-29"]),
            "does not exist in the Gregorian calendar",
        ),
        (
            Int32,
            days,
            "360_day",
            texts(&["10000-01-01"]),
            "its year is not in 0 to 9999",
        ),
        (
            Int32,
            days,
            "standard",
            texts(&["2000"]),
            "\"2000\" is not a date and time in UTC",
        ),
        (
            Int32,
            days,
            "standard",
            texts(&["2000-01-01T00:00:00+01:00"]),
            "is not a date and time in UTC",
        ),
        (
            Int32,
            days,
            "standard",
            texts(&["yesterday"]),
            "\"yesterday\" is not a date",
        ),
        (
            Int64,
            "nanoseconds since 1970-01-01",
            "standard",
            timestamp(1),
            "timestamp 1 in nanoseconds",
        ),
        (
            Int64,
            days,
            "standard",
            Arc::new(TimestampSecondArray::from(vec![i64::MAX])),
            "out of the range of timestamps",
        ),
        (
            Int64,
            days,
            "standard",
            doubles(&[1.0]),
            "a column of type Float64 cannot be stored as times",
        ),
        (
            Int64,
            days,
            "standard",
            Arc::new(TimestampSecondArray::from(vec![0]).with_timezone("Europe/Paris")),
            "cannot be stored as times",
        ),
    ] {
        let given = [("units", text(units)), ("calendar", text(calendar))];
        assert_refused(&encoding(element, &given, &OPTIONS), &column, why);
    }
    let filled = [("units", text(days)), ("_FillValue", integer(Int32, 1))];
    assert_refused(
        &encoding(Int32, &filled, &OPTIONS),
        &texts(&["2000-01-02"]),
        "time 2000-01-02T00:00:00 would read back as NULL: the stored 1 is a missing value",
    );
    let none: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None]));
    let plain = [("units", text(days))];
    assert_refused(
        &encoding(Int32, &plain, &OPTIONS),
        &none,
        "cannot hold NULL",
    );
    let coarse = [("units", text(days)), ("scale_factor", float(Float64, 2.0))];
    assert_refused(
        &encoding(Int16, &coarse, &OPTIONS),
        &texts(&["2000-01-02"]),
        "the nearest number 0 reads back as 2000-01-01T00:00:00, and it takes a resolution of days",
    );
}

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
    let narrow: Vec<f32> = usual.iter().map(|value| *value as f32).collect();
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
            let narrow: Vec<f32> = fractions.iter().map(|count| *count as f32).collect();
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

fn integer(element: ElementType, value: i128) -> AttributeValue {
    integers(element, &[value])
}

fn integers(element: ElementType, values: &[i128]) -> AttributeValue {
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

fn attributes(given: Given<'_>) -> Attributes {
    Attributes(
        given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect(),
    )
}

fn encoding(element: ElementType, given: Given<'_>, options: &DecodeOptions) -> Encoding {
    Encoding::new(element, &attributes(given), &[], options).unwrap()
}

fn fill(element: ElementType, given: Given<'_>, options: &DecodeOptions) -> Result<Vec<u8>> {
    encoding(element, given, options).fill()
}

fn encode(encoding: &Encoding, column: &ArrayRef) -> Result<Vec<u8>> {
    let mut out = vec![9; 3];
    encoding.encode(column, &mut out)?;
    assert_eq!(out[..3], [9; 3], "elements are appended");
    Ok(out.split_off(3))
}

fn decode(encoding: &Encoding, bytes: Vec<u8>) -> ArrayRef {
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

fn stored<T: ArrowNativeType>(element: ElementType, given: Given<'_>, column: &ArrayRef) -> Vec<T> {
    cells(&encode(&encoding(element, given, &OPTIONS), column).unwrap())
}

fn cells<T: ArrowNativeType>(bytes: &[u8]) -> Vec<T> {
    Buffer::from_slice_ref(bytes).typed_data().to_vec()
}

fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn assert_refused(encoding: &Encoding, column: &ArrayRef, why: &str) {
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
