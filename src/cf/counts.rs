//! Counts: from dates and times to the number of time units that stands for them, the inverse of [`TimeUnits::timestamp`].

use crate::cf::calendar::{
    Calendar, DAY, Date, GREGORIAN_START, HOUR, MINUTE, SECOND, gregorian_date, gregorian_day,
};
use crate::cf::reference::parse_date_time;
use crate::cf::time::{Count, Step, TimeUnits, iso_time};
use crate::error::{Error, Result};

impl TimeUnits {
    /// The instant, in microseconds of the calendar's own day numbers, of the date that is labelled by the timestamp
    /// `micros`: 2 March of the Gregorian calendar is 2 March of every calendar.
    ///
    /// # Errors
    /// `Invalid`, naming the date, when the calendar has no such date.
    pub(crate) fn instant_of_label(&self, micros: i64) -> Result<i64> {
        let same = match self.calendar {
            Calendar::ProlepticGregorian => true,
            Calendar::Standard => micros >= GREGORIAN_START * DAY,
            Calendar::Julian | Calendar::NoLeap | Calendar::AllLeap | Calendar::Day360 => false,
        };
        if same {
            return Ok(micros);
        }
        self.instant_of_date(
            gregorian_date(micros.div_euclid(DAY)),
            micros.rem_euclid(DAY),
        )
    }

    /// The instant of a date and time in ISO-8601 text, as [`TimeUnits::text`] writes it.
    ///
    /// # Errors
    /// `Invalid`, naming the text, when it is no complete date, is in another zone than UTC, or the calendar has no such
    /// date.
    pub(crate) fn instant_of_text(&self, text: &str) -> Result<i64> {
        let (date, time) = parse_date_time(text).ok_or_else(|| {
            Error::Invalid(format!(
                "{text:?} is not a date and time in UTC, YYYY-MM-DDThh:mm:ss with at most six decimals"
            ))
        })?;
        self.instant_of_date(date, time)
    }

    fn instant_of_date(&self, date: Date, time: i64) -> Result<i64> {
        let fail = |why: String| {
            Error::Invalid(format!("{} cannot be stored: {why}", iso_time(date, time)))
        };
        let day = self.calendar.day_number(date).ok_or_else(|| {
            fail(format!(
                "it is not a date of the {} calendar",
                self.calendar.name()
            ))
        })?;
        let Date {
            year,
            month,
            day: of_month,
        } = date;
        if !self.calendar.is_gregorian_like() {
            if !(0..=9999).contains(&year) {
                return Err(fail("its year is not in 0 to 9999".into()));
            }
        } else if gregorian_date(gregorian_day(year, month, of_month)) != date {
            return Err(fail(
                "it does not exist in the Gregorian calendar, so no timestamp could read it back"
                    .into(),
            ));
        }
        day.checked_mul(DAY)
            .and_then(|micros| micros.checked_add(time))
            .ok_or_else(|| fail("it is out of the range of timestamps".into()))
    }

    /// The number of units from the reference to `instant`; `None` if it is not a whole number.
    pub(crate) fn whole_count(&self, instant: i64) -> Option<i128> {
        let distance = self.distance(instant);
        match self.step {
            Step::Nanosecond => Some(distance * 1000),
            Step::Microseconds(step) => {
                let step = i128::from(step);
                (distance % step == 0).then(|| distance / step)
            }
        }
    }

    /// The double nearest to the number of units from the reference to `instant`.
    pub(crate) fn nearest_count(&self, instant: i64) -> f64 {
        let distance = self.distance(instant);
        let (distance, step) = match self.step {
            Step::Nanosecond => (distance * 1000, 1),
            Step::Microseconds(step) => (distance, step.unsigned_abs()),
        };
        let size = distance.unsigned_abs();
        // So many bits that the quotient has more of them than a double, and one for what is left of the division: the
        // only rounding is then that to a double.
        let shift = size.leading_zeros().min(100);
        let (scaled, step) = (size << shift, u128::from(step));
        let quotient = (scaled / step) | u128::from(scaled % step != 0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "the nearest double is asked for"
        )]
        let count = quotient as f64 / (1u128 << shift) as f64;
        if distance < 0 { -count } else { count }
    }

    /// Whether `count` is decoded to `instant`.
    pub(crate) fn reads_as(&self, count: Count, instant: i64) -> bool {
        self.instant(count).is_ok_and(|read| read == instant)
    }

    /// Date and time of `instant`, for messages.
    pub(crate) fn show(&self, instant: i64) -> String {
        iso_time(
            self.calendar.date(instant.div_euclid(DAY)),
            instant.rem_euclid(DAY),
        )
    }

    /// The longest unit of time that `instant` is a whole number of from the reference.
    pub(crate) fn resolution(&self, instant: i64) -> &'static str {
        let distance = self.distance(instant);
        let units = [
            (DAY, "days"),
            (HOUR, "hours"),
            (MINUTE, "minutes"),
            (SECOND, "seconds"),
            (1_000, "milliseconds"),
        ];
        units
            .into_iter()
            .find(|(unit, _)| distance % i128::from(*unit) == 0)
            .map_or("microseconds", |(_, name)| name)
    }

    fn distance(&self, instant: i64) -> i128 {
        i128::from(instant) - i128::from(self.reference)
    }
}
