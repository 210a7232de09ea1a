//! Reference dates: the text after "since" in time units.

use crate::cf::calendar::{Calendar, DAY, Date, HOUR, MINUTE, SECOND};

/// The reference in microseconds of the calendar's own day numbers.
///
/// ```text
/// [±]year[-month[-day]] [T| ] [hour[:minute[:second[.fraction]]]] [Z|UTC|GMT|±hour[:minute]|±hhmm|0:00]
/// ```
pub(crate) fn parse_reference(text: &str, calendar: Calendar) -> Result<i64, String> {
    let malformed = || format!("the reference {text:?} is malformed");
    let mut rest = Cursor(text);
    let date = rest.date().ok_or_else(malformed)?;
    let time = rest.time().ok_or_else(malformed)?;
    let zone = rest.zone().ok_or_else(malformed)?;
    let day = calendar
        .day_number(date)
        .ok_or_else(|| format!("{text:?} is not a date of the {} calendar", calendar.name()))?;
    day.checked_mul(DAY)
        .and_then(|micros| micros.checked_add(time - zone))
        .ok_or_else(|| format!("{text:?} is out of the range of timestamps"))
}

/// Date and microseconds of the day of a complete date in this form; `None` if it is none, or in another zone than UTC.
pub(crate) fn parse_date_time(text: &str) -> Option<(Date, i64)> {
    let mut rest = Cursor(text.trim());
    let unsigned = rest.0.trim_start_matches(['-', '+']);
    let written = unsigned.split(char::is_whitespace).next()?;
    // A reference may leave out month and day; in data that is more likely a mistake than a date.
    if written.split(['T', 't']).next()?.split('-').count() != 3 {
        return None;
    }
    let date = rest.date()?;
    let time = rest.time()?;
    (rest.zone()? == 0).then_some((date, time))
}

/// What is left of a reference.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn eat(&mut self, characters: &[char]) -> Option<char> {
        let first = self.0.chars().next()?;
        self.0 = self.0.strip_prefix(characters)?;
        Some(first)
    }

    /// Up to `most` digits, at least one.
    fn digits(&mut self, most: usize) -> Option<&'a str> {
        let end = self
            .0
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (1..=most).contains(&end).then_some(digits)
    }

    fn number(&mut self, most: usize) -> Option<i64> {
        self.digits(most)?.parse().ok()
    }

    fn date(&mut self) -> Option<Date> {
        let sign = match self.eat(&['-', '+']) {
            Some('-') => -1,
            _ => 1,
        };
        let year = self.digits(6)?;
        let mut date = Date {
            year: sign * year.parse::<i64>().ok()?,
            month: 1,
            day: 1,
        };
        if self.eat(&['-']).is_some() {
            date.month = self.number(2)?;
            if self.eat(&['-']).is_some() {
                date.day = self.number(2)?;
            }
        } else if year.len() > 4 {
            // Could be a date without separators.
            return None;
        }
        Some(date)
    }

    /// Microseconds since midnight, and the separator before it.
    fn time(&mut self) -> Option<i64> {
        let marked = self.eat(&['T', 't']).is_some();
        let spaced = self.0.starts_with(char::is_whitespace);
        self.0 = self.0.trim_start();
        if !self.0.starts_with(|c: char| c.is_ascii_digit()) {
            return (!marked).then_some(0);
        }
        if !marked && !spaced {
            return None;
        }
        let hour = self.number(2)?;
        if self.eat(&[':']).is_none() {
            // Some read a lone number as the hour, others as something else: only zero is the same to all.
            return (hour == 0).then_some(0);
        }
        let minute = self.number(2)?;
        let mut time = hour * HOUR + minute * MINUTE;
        if self.eat(&[':']).is_some() {
            let second = self.number(2)?;
            time += second * SECOND;
            if second > 59 {
                return None;
            }
            if self.eat(&['.']).is_some() && self.0.starts_with(|c: char| c.is_ascii_digit()) {
                time += self.fraction()?;
            }
        }
        (hour < 24 && minute < 60).then_some(time)
    }

    /// Microseconds of the decimals of a second; there may be more than six if they are zero.
    fn fraction(&mut self) -> Option<i64> {
        let decimals = self.digits(18)?.trim_end_matches('0');
        format!("{decimals:0<6}")
            .parse()
            .ok()
            .filter(|_| decimals.len() <= 6)
    }

    /// Microseconds that the zone is ahead of UTC; nothing may follow.
    fn zone(mut self) -> Option<i64> {
        self.0 = self.0.trim();
        if ["", "z", "utc", "gmt"].contains(&self.0.to_ascii_lowercase().as_str()) {
            return Some(0);
        }
        let sign = match self.eat(&['-', '+']) {
            Some('-') => Some(-1),
            Some(_) => Some(1),
            None => None,
        };
        let digits = self.digits(4)?;
        let (hour, minute) = match digits.split_at_checked(2) {
            Some((hour, minute)) if digits.len() == 4 => {
                (hour.parse::<i64>().ok()?, minute.parse::<i64>().ok()?)
            }
            _ if digits.len() > 2 => return None,
            _ if self.eat(&[':']).is_some() => (digits.parse().ok()?, self.number(2)?),
            _ => (digits.parse().ok()?, 0),
        };
        let ahead = hour * HOUR + minute * MINUTE;
        if !self.0.is_empty() || hour > 23 || minute > 59 {
            return None;
        }
        match sign {
            Some(sign) => Some(sign * ahead),
            // A zone without a sign ("0:00") is only clear when it is none.
            None => (ahead == 0).then_some(0),
        }
    }
}
