//! Time units: what a `units` attribute like "days since 1850-01-01" counts.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::cf::calendar::{
    Calendar, DAY, Date, GREGORIAN_START, HOUR, MINUTE, SECOND, gregorian_date, gregorian_day,
};
use crate::cf::reference::parse_reference;
use crate::cf::round::{Product, thousandth};
use crate::error::{Error, Result};

/// The time axis that `units` and `calendar` of a variable define.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeUnits {
    /// The attribute, for messages.
    pub(super) units: String,
    pub(super) calendar: Calendar,
    /// The reference, in microseconds of the calendar's own day numbers.
    pub(super) reference: i64,
    pub(super) step: Step,
}

/// What one unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    Microseconds(i64),
    Nanosecond,
}

/// A number of units, as stored or unpacked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// An integer: decoded exactly.
    Integer(i128),
    /// A floating-point number: decoded to the nearest microsecond.
    Float(f64),
}

impl TimeUnits {
    /// Whether `units` has the form of time units, "*unit* since *reference*".
    #[must_use]
    pub fn is_time(units: &str) -> bool {
        split(units).is_some()
    }

    /// The time axis of a variable with these attributes; without a calendar it is the standard one.
    ///
    /// # Errors
    /// `Unsupported` when the unit has no exact length, the reference is not a date of the calendar, or the calendar is
    /// unknown; the sentence holds the attribute.
    pub fn parse(units: &str, calendar: Option<&str>) -> Result<Self> {
        let calendar = Calendar::parse(calendar.unwrap_or_default())?;
        let fail =
            |why: String| Error::Unsupported(format!("time units {units:?} cannot be read: {why}"));
        let (unit, reference) =
            split(units).ok_or_else(|| fail("there is no \"since\" after one unit".into()))?;
        Ok(Self {
            units: units.to_owned(),
            calendar,
            reference: parse_reference(reference, calendar).map_err(fail)?,
            step: parse_unit(unit, calendar).map_err(fail)?,
        })
    }

    /// Its calendar.
    #[must_use]
    pub fn calendar(&self) -> Calendar {
        self.calendar
    }

    /// The type of decoded times: a timestamp where the dates of the calendar are Gregorian labels, else text.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        if self.calendar.is_gregorian_like() {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        } else {
            DataType::Utf8
        }
    }

    /// The date and time of `count` as a timestamp: the microseconds since 1970 of the *label* in the proleptic
    /// Gregorian calendar, so that 2 March of any calendar is 2 March.
    ///
    /// # Errors
    /// `Unsupported`, naming the value, when it is out of range or its date is not a Gregorian one.
    pub fn timestamp(&self, count: Count) -> Result<i64> {
        let instant = self.instant(count)?;
        let gregorian = match self.calendar {
            Calendar::ProlepticGregorian => true,
            Calendar::Standard => instant >= GREGORIAN_START * DAY,
            Calendar::Julian | Calendar::NoLeap | Calendar::AllLeap | Calendar::Day360 => false,
        };
        if gregorian {
            return Ok(instant);
        }
        let date = self.calendar.date(instant.div_euclid(DAY));
        let day = gregorian_day(date.year, date.month, date.day);
        if gregorian_date(day) != date {
            return Err(self.fail(
                count,
                &format!(
                    "its date {} does not exist in the Gregorian calendar, so no timestamp can hold it",
                    iso_date(date)
                ),
            ));
        }
        day.checked_mul(DAY)
            .and_then(|micros| micros.checked_add(instant.rem_euclid(DAY)))
            .ok_or_else(|| self.out_of_range(count))
    }

    /// The date and time of `count` as ISO-8601 text, `YYYY-MM-DDThh:mm:ss` with six decimals of the second where they
    /// are not zero. Such texts sort in the order of time.
    ///
    /// # Errors
    /// `Unsupported`, naming the value, when its year is not in 0–9999.
    pub fn text(&self, count: Count) -> Result<String> {
        let instant = self.instant(count)?;
        let date = self.calendar.date(instant.div_euclid(DAY));
        if !(0..=9999).contains(&date.year) {
            return Err(self.fail(
                count,
                &format!("its year {} is not in 0 to 9999", date.year),
            ));
        }
        Ok(iso_time(date, instant.rem_euclid(DAY)))
    }

    /// A column of decoded times, of type [`Self::data_type`].
    ///
    /// # Errors
    /// As [`Self::timestamp`] and [`Self::text`], for the first value that cannot be decoded.
    pub fn column(&self, counts: impl Iterator<Item = Option<Count>>) -> Result<ArrayRef> {
        if self.calendar.is_gregorian_like() {
            let times = counts
                .map(|count| count.map(|count| self.timestamp(count)).transpose())
                .collect::<Result<TimestampMicrosecondArray>>()?;
            return Ok(Arc::new(times));
        }
        let mut texts = StringBuilder::new();
        for count in counts {
            texts.append_option(count.map(|count| self.text(count)).transpose()?);
        }
        Ok(Arc::new(texts.finish()))
    }

    /// Microseconds of the calendar's own day numbers.
    pub(super) fn instant(&self, count: Count) -> Result<i64> {
        let distance = match (count, self.step) {
            (Count::Integer(value), Step::Microseconds(step)) => value.checked_mul(step.into()),
            (Count::Integer(value), Step::Nanosecond) => Some(thousandth(value)),
            (Count::Float(value), Step::Microseconds(step)) => {
                Product::new(value, step).map(|product| {
                    if step < SECOND {
                        product.nearest
                    } else {
                        product.near_second()
                    }
                })
            }
            (Count::Float(value), Step::Nanosecond) => {
                Product::new(value, 1).map(|product| thousandth(product.nearest))
            }
        };
        distance
            .and_then(|distance| distance.checked_add(self.reference.into()))
            .and_then(|instant| i64::try_from(instant).ok())
            .ok_or_else(|| self.out_of_range(count))
    }

    fn out_of_range(&self, count: Count) -> Error {
        self.fail(count, "it is out of the range of timestamps")
    }

    fn fail(&self, count: Count, why: &str) -> Error {
        let value = match count {
            Count::Integer(value) => value.to_string(),
            Count::Float(value) => value.to_string(),
        };
        Error::Unsupported(format!(
            "time value {value} ({:?}) cannot be decoded: {why}",
            self.units
        ))
    }
}

fn iso_date(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

/// A date and the microseconds of its day.
pub(super) fn iso_time(date: Date, time: i64) -> String {
    let mut text = format!(
        "{}T{:02}:{:02}:{:02}",
        iso_date(date),
        time / HOUR,
        time % HOUR / MINUTE,
        time % MINUTE / SECOND
    );
    if time % SECOND != 0 {
        text.push_str(&format!(".{:06}", time % SECOND));
    }
    text
}

/// Unit and reference of "unit since reference".
fn split(units: &str) -> Option<(&str, &str)> {
    let (unit, rest) = units.trim().split_once(char::is_whitespace)?;
    let (since, reference) = rest.trim_start().split_once(char::is_whitespace)?;
    since
        .eq_ignore_ascii_case("since")
        .then_some((unit, reference.trim()))
}

fn parse_unit(unit: &str, calendar: Calendar) -> std::result::Result<Step, String> {
    Ok(Step::Microseconds(match unit.to_lowercase().as_str() {
        "week" | "weeks" => 7 * DAY,
        "day" | "days" | "d" => DAY,
        "hour" | "hours" | "hr" | "hrs" | "h" => HOUR,
        "minute" | "minutes" | "min" | "mins" => MINUTE,
        "second" | "seconds" | "sec" | "secs" | "s" => SECOND,
        "millisecond" | "milliseconds" | "millisec" | "millisecs" | "msec" | "msecs" | "ms" => {
            1_000
        }
        "microsecond" | "microseconds" | "microsec" | "microsecs" | "usec" | "usecs" | "us"
        | "µs" | "μs" => 1,
        "nanosecond" | "nanoseconds" | "nanosec" | "nanosecs" | "nsec" | "nsecs" | "ns" => {
            return Ok(Step::Nanosecond);
        }
        "month" | "months" if calendar == Calendar::Day360 => 30 * DAY,
        "month" | "months" => {
            return Err("the length of a month is not defined, but in a 360_day calendar".into());
        }
        "year" | "years" | "yr" | "yrs" | "common_year" | "common_years" => {
            return Err("the length of a year is not defined".into());
        }
        _ => return Err(format!("{unit:?} is not a unit of time")),
    }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::cf::calendar::{Date, gregorian_day};

    fn decode(calendar: &str, units: &str, count: Count) -> Result<String> {
        let units = TimeUnits::parse(units, Some(calendar))?;
        if !units.calendar().is_gregorian_like() {
            return units.text(count);
        }
        let micros = units.timestamp(count)?;
        let Date { year, month, day } = gregorian_date(micros.div_euclid(DAY));
        let time = micros - gregorian_day(year, month, day) * DAY;
        let seconds = time / SECOND;
        Ok(format!(
            "{year}-{month}-{day} {}:{}:{}.{:06}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            time % SECOND
        ))
    }

    // Expected: `cftime.num2date(value, units, calendar)` of cftime 1.6.6.

    #[test]
    fn timestamps_are_the_labels_that_cftime_gives() {
        for (calendar, units, value, label) in [
            (
                "standard",
                "days since 0001-01-01",
                577_735.0,
                "1582-10-3 0:0:0.000000",
            ),
            (
                "",
                "days since 0001-01-01",
                577_736.25,
                "1582-10-4 6:0:0.000000",
            ),
            (
                "standard",
                "days since 0001-01-01",
                -1.0,
                "-1-12-31 0:0:0.000000",
            ),
            (
                "standard",
                "hours since 1970-01-01T00:00:00Z",
                2_134_549.916_666_666_5,
                "2213-7-5 13:55:0.000000",
            ),
            (
                "Gregorian",
                "day since 1950-01-01 00:00:00",
                54_786.991_666_666_7,
                "2099-12-31 23:48:0.000003",
            ),
            (
                "standard",
                "seconds since 2000-01-01 12:00:00",
                562_236_818.980_285,
                "2017-10-25 20:53:38.980285",
            ),
            (
                "standard",
                "days since 2000-01-01T00:00:00+05:30",
                1.0,
                "2000-1-1 18:30:0.000000",
            ),
            (
                "standard",
                "days since 1990-01-01 -06:00",
                1.0,
                "1990-1-2 6:0:0.000000",
            ),
            (
                "standard",
                "seconds since 1970-1-1 0:00:00 0:00",
                1.0,
                "1970-1-1 0:0:1.000000",
            ),
            (
                "standard",
                "microseconds since 1970-01-01",
                -1.0,
                "1969-12-31 23:59:59.999999",
            ),
            (
                "julian",
                "days since 1850-01-01 00:00:00",
                20_000.5,
                "1904-10-4 12:0:0.000000",
            ),
            (
                "noleap",
                "days since 0001-01-01 00:00:00",
                729_635.0,
                "2000-1-1 0:0:0.000000",
            ),
            (
                "365_day",
                "Days Since 1850-1-1",
                55_510.0,
                "2002-1-31 0:0:0.000000",
            ),
            (
                "proleptic_gregorian",
                "hours since 2015-04-15 00:00:00.000 UTC",
                12.0,
                "2015-4-15 12:0:0.000000",
            ),
            (
                "proleptic_gregorian",
                "days since 0000-01-01",
                -1.0,
                "-1-12-31 0:0:0.000000",
            ),
        ] {
            let decoded = decode(calendar, units, Count::Float(value)).unwrap();
            assert_eq!(decoded, label, "{value} {units} {calendar}");
        }
    }

    #[test]
    fn calendars_with_other_dates_give_text() {
        for (calendar, units, value, text) in [
            (
                "360_day",
                "days since 1900-1-1",
                2299.0,
                "1906-05-20T00:00:00",
            ),
            (
                "360_day",
                "months since 2000-01-01",
                1.5,
                "2000-02-16T00:00:00",
            ),
            (
                "366_day",
                "days since 1900-1-1",
                2299.0,
                "1906-04-13T00:00:00",
            ),
            (
                "all_leap",
                "days since 2001-01-01",
                59.0,
                "2001-02-29T00:00:00",
            ),
            (
                "360_day",
                "seconds since 2000-02-30 23:59:59",
                1.25,
                "2000-03-01T00:00:00.250000",
            ),
        ] {
            let decoded = decode(calendar, units, Count::Float(value)).unwrap();
            assert_eq!(decoded, text, "{value} {units} {calendar}");
        }
    }

    #[test]
    fn integers_are_exact_and_nanoseconds_are_rounded() {
        let decode = |units, value| decode("standard", units, Count::Integer(value)).unwrap();
        assert_eq!(
            decode("microseconds since 1970-01-01", 9_007_199_254_740_993),
            "2255-6-5 23:47:34.740993"
        );
        assert_eq!(
            decode("nanoseconds since 1970-01-01", 1_500),
            "1970-1-1 0:0:0.000002"
        );
    }

    #[test]
    fn what_has_no_exact_meaning_is_an_error_that_says_why() {
        for (calendar, units, why) in [
            ("standard", "months since 1899-12-01", "month"),
            ("standard", "years since 1899-12-01", "year"),
            ("standard", "days since 0000-01-01", "not a date"),
            ("standard", "days since 1582-10-10", "not a date"),
            ("noleap", "days since 2000-02-29", "not a date"),
            ("standard", "days since 2024-1-1T00:00:00 U C", "malformed"),
            ("standard", "days since 2000-01-01 12", "malformed"),
            ("standard", "days since 2000-01-01 00:00 5:00", "malformed"),
            ("standard", "days since 19900101", "malformed"),
            ("standard", "days since planting", "malformed"),
            ("standard", "counts since 2000-01-01", "\"counts\""),
            ("none", "days since 2000-01-01", "\"none\""),
        ] {
            let error = TimeUnits::parse(units, Some(calendar))
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
            assert!(error.contains(units) || calendar == "none", "{error}");
        }
    }

    #[test]
    fn values_that_cannot_be_decoded_are_named() {
        let parse = |calendar| TimeUnits::parse("days since 1500-01-01", Some(calendar)).unwrap();
        for (units, value) in [
            // 1500-02-29 is in the Julian calendar only.
            (parse("standard"), Count::Integer(59)),
            (parse("julian"), Count::Float(59.5)),
            (parse("noleap"), Count::Float(9.969_209_968_386_869e36)),
            (parse("standard"), Count::Integer(i128::MAX)),
            (parse("standard"), Count::Float(f64::INFINITY)),
            (parse("360_day"), Count::Integer(-1_000_000)),
        ] {
            let error = units.column([Some(value)].into_iter()).unwrap_err();
            let number = match value {
                Count::Integer(value) => value.to_string(),
                Count::Float(value) => value.to_string(),
            };
            assert!(error.to_string().contains(&number), "{error}");
        }
    }

    #[test]
    fn only_unit_since_reference_is_time() {
        assert!(TimeUnits::is_time("days since 1850-01-01"));
        assert!(TimeUnits::is_time(" Hours  SINCE 1-1-1"));
        for units in [
            "days",
            "K",
            "",
            "since",
            "days since",
            "kg m-2 s-1",
            "days after 1850-01-01",
        ] {
            assert!(!TimeUnits::is_time(units), "{units}");
        }
    }
}
