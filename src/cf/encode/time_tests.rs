//! Tests of encoding times: what cftime counts, and what is refused.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    Date32Array, StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};

use super::*;
use crate::cf::encode::tests::{
    OPTIONS, assert_refused, cells, decode, doubles, encode, encoding, float, integer, stored,
    text, texts,
};
use ElementType::{Float32, Float64, Int8, Int16, Int32, Int64};

// Expected: `cftime.date2num(date, units, calendar)` of cftime 1.6.6.

/// The dates of the decoding tests, and dates that need the nearest double: calendar, units, date, count.
const DATES: &str = "\
standard            | days since 0001-01-01                   | 1582-10-03                 | 577735.0
standard            | days since 0001-01-01                   | 1582-10-15                 | 577737.0
                    | days since 0001-01-01                   | 1582-10-04T06:00           | 577736.25
standard            | days since 0001-01-01                   | -0001-12-31                | -1.0
standard            | hours since 1970-01-01T00:00:00Z        | 2213-07-05T13:55:00        | 2134549.9166666665
Gregorian           | day since 1950-01-01 00:00:00           | 2099-12-31T23:48:00        | 54786.99166666667
standard            | seconds since 2000-01-01 12:00:00       | 2017-10-25T20:53:38.980285 | 562236818.980285
standard            | days since 2000-01-01T00:00:00+05:30    | 2000-01-01T18:30:00        | 1.0
standard            | days since 1990-01-01 -06:00            | 1990-01-02T06:00:00Z       | 1.0
standard            | microseconds since 1970-01-01           | 1969-12-31T23:59:59.999999 | -1.0
standard            | milliseconds since 1970-01-01           | 2000-02-29T00:00:00.123    | 951782400123.0
standard            | minutes since 1970-01-01                | 2000-02-29T00:01:30        | 15863041.5
julian              | days since 1850-01-01 00:00:00          | 1904-10-04T12:00:00        | 20000.5
noleap              | days since 0001-01-01 00:00:00          | 2000-01-01                 | 729635.0
365_day             | days since 1850-1-1                     | 2002-01-31 06:00:00        | 55510.25
proleptic_gregorian | hours since 2015-04-15 00:00:00.000 UTC | 2015-04-15T12:00:00        | 12.0
proleptic_gregorian | days since 0000-01-01                   | -0001-12-31                | -1.0
proleptic_gregorian | days since 1500-01-01                   | 1582-10-10                 | 30232.0
360_day             | days since 1900-1-1                     | 1906-05-20                 | 2299.0
360_day             | months since 2000-01-01                 | 2000-02-16                 | 1.5
366_day             | days since 1900-1-1                     | 1906-04-13                 | 2299.0
all_leap            | days since 2001-01-01                   | 2001-02-29                 | 59.0
360_day             | seconds since 2000-02-30 23:59:59       | 2000-03-01T00:00:00.250000 | 1.25
360_day             | hours since 2000-01-01                  | 2000-02-30T01:20:00        | 1417.3333333333333
all_leap            | days since 2001-01-01                   | 2001-02-29T08:00:00        | 59.333333333333336
julian              | hours since 1850-01-01                  | 1900-02-28T00:00:10        | 439680.0027777778
standard            | days since 1850-01-01                   | 2014-12-31T16:40:33.123457 | 60264.69482781779";

#[test]
fn dates_are_counted_as_cftime_does() {
    for line in DATES.lines() {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [calendar, units, date, count] = columns.try_into().unwrap();
        let count: f64 = count.parse().unwrap();
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
            "the nearest number 1000000000.0 reads back as 2001-09-09T01:46:40, and it takes a resolution of seconds",
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
