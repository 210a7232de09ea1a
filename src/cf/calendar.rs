//! Calendars: the dates of the CF calendars, and the day numbers they have.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A calendar of the CF conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Calendar {
    /// Julian until 1582-10-04, Gregorian from the next day, 1582-10-15; no year 0.
    Standard,
    /// The rules of the Gregorian calendar at all times; year 0 exists.
    ProlepticGregorian,
    /// A leap year every four years; no year 0.
    Julian,
    /// Every year has 365 days.
    NoLeap,
    /// Every year has 366 days.
    AllLeap,
    /// Every month has 30 days.
    Day360,
}

/// A date as its calendar writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
}

/// Microseconds of the parts of a day.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Years beyond this are refused: far outside of what a timestamp can say, and no arithmetic on them overflows.
pub(crate) const LAST_YEAR: i64 = 999_999;

/// The first Gregorian day of the standard calendar, 1582-10-15, in days since 1970-01-01.
pub(crate) const GREGORIAN_START: i64 = -141_427;

/// Days before the first of each month.
const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
const BEFORE_MONTH_LEAP: [i64; 12] = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335];

impl Calendar {
    /// The calendar that a `calendar` attribute names; the empty text is the standard calendar.
    ///
    /// # Errors
    /// `Unsupported` for `none` and for names that the CF conventions do not have.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "standard" | "gregorian" => Ok(Self::Standard),
            "proleptic_gregorian" | "gregorian_proleptic" => Ok(Self::ProlepticGregorian),
            "julian" => Ok(Self::Julian),
            "noleap" | "no_leap" | "365_day" | "365_days" => Ok(Self::NoLeap),
            "all_leap" | "allleap" | "366_day" | "366_days" => Ok(Self::AllLeap),
            "360_day" | "360_days" => Ok(Self::Day360),
            "none" => Err(Error::Unsupported(
                "calendar \"none\" has no dates that its times could be decoded to".into(),
            )),
            _ => Err(Error::Unsupported(format!(
                "calendar {text:?} is not a calendar of the CF conventions"
            ))),
        }
    }

    /// Its name in the CF conventions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::ProlepticGregorian => "proleptic_gregorian",
            Self::Julian => "julian",
            Self::NoLeap => "noleap",
            Self::AllLeap => "all_leap",
            Self::Day360 => "360_day",
        }
    }

    /// Whether its dates exist in the proleptic Gregorian calendar too (but for 29 February of some years), so that a
    /// timestamp can carry them.
    #[must_use]
    pub fn is_gregorian_like(self) -> bool {
        match self {
            Self::Standard | Self::ProlepticGregorian | Self::Julian | Self::NoLeap => true,
            Self::AllLeap | Self::Day360 => false,
        }
    }

    /// The number of a day: consecutive days have consecutive numbers. In the standard, Julian and Gregorian calendars
    /// the same day has the same number, which counts from 1970-01-01 Gregorian.
    ///
    /// `None` if the calendar has no such date, or the year is beyond [`LAST_YEAR`].
    pub(crate) fn day_number(self, date: Date) -> Option<i64> {
        if date.year.abs() > LAST_YEAR || !(1..=12).contains(&date.month) {
            return None;
        }
        let year = if self.has_year_zero() || date.year > 0 {
            date.year
        } else if date.year < 0 {
            date.year + 1
        } else {
            return None;
        };
        if date.day < 1 || date.day > self.days_in_month(year, date.month) {
            return None;
        }
        let Date { month, day, .. } = date;
        match self {
            Self::Standard => {
                let gregorian = gregorian_day(year, month, day);
                if gregorian >= GREGORIAN_START {
                    return Some(gregorian);
                }
                // The ten days that were left out have a Julian number on the Gregorian side.
                Some(julian_day(year, month, day)).filter(|julian| *julian < GREGORIAN_START)
            }
            Self::ProlepticGregorian => Some(gregorian_day(year, month, day)),
            Self::Julian => Some(julian_day(year, month, day)),
            Self::NoLeap => Some(year * 365 + before(&BEFORE_MONTH, month) + day - 1),
            Self::AllLeap => Some(year * 366 + before(&BEFORE_MONTH_LEAP, month) + day - 1),
            Self::Day360 => Some(year * 360 + (month - 1) * 30 + day - 1),
        }
    }

    /// The date of a day by its number, the inverse of [`Self::day_number`].
    pub(crate) fn date(self, day_number: i64) -> Date {
        let date = match self {
            Self::Standard if day_number >= GREGORIAN_START => gregorian_date(day_number),
            Self::ProlepticGregorian => gregorian_date(day_number),
            Self::Standard | Self::Julian => julian_date(day_number),
            Self::NoLeap => date_of_equal_years(day_number, 365, &BEFORE_MONTH),
            Self::AllLeap => date_of_equal_years(day_number, 366, &BEFORE_MONTH_LEAP),
            Self::Day360 => Date {
                year: day_number.div_euclid(360),
                month: day_number.rem_euclid(360) / 30 + 1,
                day: day_number.rem_euclid(30) + 1,
            },
        };
        if self.has_year_zero() || date.year > 0 {
            date
        } else {
            Date {
                year: date.year - 1,
                ..date
            }
        }
    }

    fn has_year_zero(self) -> bool {
        match self {
            Self::Standard | Self::Julian => false,
            Self::ProlepticGregorian | Self::NoLeap | Self::AllLeap | Self::Day360 => true,
        }
    }

    /// `year` counts with a year 0.
    fn days_in_month(self, year: i64, month: i64) -> i64 {
        let leap = match self {
            Self::Standard if year > 1582 => is_gregorian_leap(year),
            Self::ProlepticGregorian => is_gregorian_leap(year),
            Self::Standard | Self::Julian => year.rem_euclid(4) == 0,
            Self::NoLeap => false,
            Self::AllLeap => true,
            Self::Day360 => return 30,
        };
        match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

fn is_gregorian_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn before(table: &[i64; 12], month: i64) -> i64 {
    usize::try_from(month - 1)
        .ok()
        .and_then(|index| table.get(index))
        .copied()
        .unwrap_or_default()
}

fn date_of_equal_years(day_number: i64, length: i64, table: &[i64; 12]) -> Date {
    let in_year = day_number.rem_euclid(length);
    let month = (1..=12)
        .rev()
        .find(|month| before(table, *month) <= in_year)
        .unwrap_or(1);
    Date {
        year: day_number.div_euclid(length),
        month,
        day: in_year - before(table, month) + 1,
    }
}

// Years are counted from 1 March here, so that the leap day is the last day of a year, and the days before month `m`
// (March = 0) are (153 m + 2) / 5 in every year.

/// Days from 1 March of year 0 to 1970-01-01, in the Gregorian and in the Julian calendar.
const GREGORIAN_TO_1970: i64 = 719_468;
const JULIAN_TO_1970: i64 = 719_470;

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (that may not exist: 30 February is 2 March).
pub(crate) fn gregorian_day(year: i64, month: i64, day: i64) -> i64 {
    let (year, in_year) = from_march(year, month, day);
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + in_year - GREGORIAN_TO_1970
}

fn julian_day(year: i64, month: i64, day: i64) -> i64 {
    let (year, in_year) = from_march(year, month, day);
    year * 365 + year.div_euclid(4) + in_year - JULIAN_TO_1970
}

fn from_march(year: i64, month: i64, day: i64) -> (i64, i64) {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    (year, (153 * month + 2) / 5 + day - 1)
}

/// The date of the proleptic Gregorian calendar with this number of days since 1970-01-01.
pub(crate) fn gregorian_date(day_number: i64) -> Date {
    let days = day_number + GREGORIAN_TO_1970;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    from_january(era * 400 + year, in_year)
}

fn julian_date(day_number: i64) -> Date {
    let days = day_number + JULIAN_TO_1970;
    let (era, in_era) = (days.div_euclid(1_461), days.rem_euclid(1_461));
    let year = (in_era - in_era / 1_460) / 365;
    from_january(era * 4 + year, in_era - 365 * year)
}

fn from_january(year: i64, in_year: i64) -> Date {
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    if month < 10 {
        Date {
            year,
            month: month + 3,
            day,
        }
    } else {
        Date {
            year: year + 1,
            month: month - 9,
            day,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Calendar; 6] = [
        Calendar::Standard,
        Calendar::ProlepticGregorian,
        Calendar::Julian,
        Calendar::NoLeap,
        Calendar::AllLeap,
        Calendar::Day360,
    ];

    #[test]
    fn every_day_has_one_date_and_dates_follow_each_other() {
        for calendar in ALL {
            let mut last = calendar.date(-800_001);
            for number in -800_000..200_000 {
                let date = calendar.date(number);
                assert_eq!(calendar.day_number(date), Some(number), "{calendar:?}");
                let order = |d: &Date| (d.year, d.month, d.day);
                assert!(order(&last) < order(&date), "{calendar:?} {date:?}");
                last = date;
            }
        }
    }

    #[test]
    fn dates_that_do_not_exist_have_no_number() {
        let number =
            |calendar: Calendar, year, month, day| calendar.day_number(Date { year, month, day });
        assert_eq!(number(Calendar::Standard, 1582, 10, 10), None);
        assert_eq!(number(Calendar::Standard, 0, 1, 1), None);
        assert_eq!(number(Calendar::Julian, 0, 1, 1), None);
        assert_eq!(number(Calendar::NoLeap, 2000, 2, 29), None);
        assert_eq!(number(Calendar::ProlepticGregorian, 1900, 2, 29), None);
        assert_eq!(number(Calendar::Standard, 1900, 2, 29), None);
        assert_eq!(number(Calendar::Day360, 2000, 1, 31), None);
        assert_eq!(number(Calendar::Standard, 1_000_000, 1, 1), None);
        assert_eq!(
            number(Calendar::Standard, 1582, 10, 4),
            Some(GREGORIAN_START - 1)
        );
        assert_eq!(
            number(Calendar::Standard, 1582, 10, 15),
            Some(GREGORIAN_START)
        );
        assert_eq!(
            number(Calendar::Standard, 1500, 2, 29),
            number(Calendar::Julian, 1500, 2, 29)
        );
        assert_eq!(number(Calendar::ProlepticGregorian, 1970, 1, 1), Some(0));
    }

    #[test]
    fn calendars_are_known_by_all_their_names() {
        for (name, calendar) in [
            ("", Calendar::Standard),
            ("Gregorian", Calendar::Standard),
            ("gregorian_proleptic", Calendar::ProlepticGregorian),
            ("NOLEAP", Calendar::NoLeap),
            ("365_days", Calendar::NoLeap),
            ("366_day", Calendar::AllLeap),
            ("360_day", Calendar::Day360),
        ] {
            assert_eq!(Calendar::parse(name).ok(), Some(calendar), "{name}");
        }
        for name in ["none", "martian"] {
            let error = Calendar::parse(name).map_err(|error| error.to_string());
            assert!(error.is_err_and(|text| text.contains(name)), "{name}");
        }
    }
}
