//! Labels: the coordinates of the append dimension, their order and the steps between them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};

use super::config::{AppendOrder, Step};
use crate::cf::calendar::{Calendar, DAY, HOUR, MINUTE, SECOND};
use crate::cf::decode::Decoding;
use crate::cf::time::TimeUnits;
use crate::error::{Error, Result};
use crate::query::show;

/// Coordinates of the append dimension.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    keys: Keys,
    shown: Vec<String>,
}

/// What labels are compared by.
#[derive(Clone, Debug)]
enum Keys {
    /// Microseconds of the calendar's own days.
    Times(Vec<i64>, Calendar),
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

/// What is wrong with labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) dimension: &'a str,
    pub(super) order: Option<AppendOrder>,
    pub(super) step: Option<&'a Step>,
}

impl Labels {
    /// The labels that the decoded values of a coordinate are.
    pub(super) fn new(values: &ArrayRef, decoding: &Decoding) -> Result<Self> {
        if values.null_count() > 0 {
            return Err(Error::Invalid("a label is a missing value".into()));
        }
        let failed = |error| Error::Invalid(format!("labels cannot be compared: {error}"));
        let keys = match (decoding.time_units(), values.data_type()) {
            (Some(units), DataType::Utf8) => Keys::Times(
                values
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .map(|text| units.instant_of_text(text))
                    .collect::<Result<_>>()?,
                units.calendar(),
            ),
            (units, DataType::Timestamp(..) | DataType::Date32) => {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
                let values = cast(values, &micros).map_err(failed)?;
                let labels = values.as_primitive::<TimestampMicrosecondType>().values();
                let instant = |label: &i64| match units {
                    Some(units) => units.instant_of_label(*label),
                    None => Ok(*label),
                };
                let calendar = units.map_or(Calendar::ProlepticGregorian, TimeUnits::calendar);
                Keys::Times(labels.iter().map(instant).collect::<Result<_>>()?, calendar)
            }
            (_, DataType::Utf8) => Keys::Texts(
                values
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .map(str::to_owned)
                    .collect(),
            ),
            _ => {
                let values = cast(values, &DataType::Float64).map_err(failed)?;
                Keys::Numbers(values.as_primitive::<Float64Type>().values().to_vec())
            }
        };
        Ok(Self {
            keys,
            shown: (0..values.len()).map(|row| show(values, row)).collect(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// The first and the last as a person would write them.
    pub(super) fn ends(&self) -> Option<(&str, &str)> {
        Some((self.shown.first()?, self.shown.last()?))
    }

    /// How many of them are among `others`.
    pub(super) fn count_in(&self, others: &Self) -> usize {
        (0..self.len())
            .filter(|at| others.position(self, *at).is_some())
            .count()
    }

    /// These and then `others`.
    pub(super) fn extend(&mut self, others: &Self) {
        match (&mut self.keys, &others.keys) {
            (Keys::Times(own, _), Keys::Times(new, _)) => own.extend(new),
            (Keys::Numbers(own), Keys::Numbers(new)) => own.extend(new),
            (Keys::Texts(own), Keys::Texts(new)) => own.extend(new.iter().cloned()),
            _ => {}
        }
        self.shown.extend(others.shown.iter().cloned());
    }

    /// Checks that these labels can follow `before`.
    pub(super) fn follow(&self, before: Option<&Self>, rules: Rules<'_>) -> Result<()> {
        let name = rules.dimension;
        if let Some(before) = before {
            if std::mem::discriminant(&before.keys) != std::mem::discriminant(&self.keys) {
                return Err(Error::Invalid(format!(
                    "the labels of {name} are of another kind than those that are there"
                )));
            }
            for at in 0..self.len() {
                if before.position(self, at).is_some() {
                    return Err(Error::Invalid(format!(
                        "{name} {} is there already; --resume leaves slices out that are",
                        self.text(at)
                    )));
                }
            }
        }
        let mut all = self.clone();
        // Two of those before tell in which order they are.
        let mut kept = 0;
        if let Some(before) = before {
            kept = before.len().min(2);
            all = before.tail(kept);
            all.extend(self);
        }
        let descends = match (rules.order, rules.step) {
            (_, Some(Step::Text(step))) if step.starts_with('-') => Some(true),
            (_, Some(Step::Number(step))) => Some(*step < 0.0),
            (_, Some(Step::Text(_))) => Some(false),
            (Some(AppendOrder::Any), None) => None,
            (Some(AppendOrder::Decreasing), None) => Some(true),
            (Some(AppendOrder::Increasing), None) => Some(false),
            // The first slice of all tells by itself.
            (None, None) => Some((kept == 2 || before.is_none()) && all.less(1, 0)),
        };
        let first = kept.max(1);
        for at in first..all.len() {
            let behind = match descends {
                None => all.less(at, at - 1) || all.less(at - 1, at),
                Some(false) => all.less(at - 1, at),
                Some(true) => all.less(at, at - 1),
            };
            if !behind {
                let how = match descends {
                    Some(true) => "decrease",
                    Some(false) | None => "increase",
                };
                return Err(Error::Invalid(format!(
                    "{name} {} does not come after {}: the labels have to {how}; append_order says otherwise",
                    all.text(at),
                    all.text(at - 1)
                )));
            }
            if let Some(step) = rules.step {
                all.check_step(at, step, name)?;
            }
        }
        // In any order, a label could still come twice.
        for at in 0..self.len() {
            if descends.is_none() && self.position(self, at).is_some_and(|first| first < at) {
                return Err(Error::Invalid(format!(
                    "{name} {} comes twice",
                    self.text(at)
                )));
            }
        }
        Ok(())
    }

    /// Checks the step to label `at` from the one before.
    fn check_step(&self, at: usize, step: &Step, name: &str) -> Result<()> {
        let wrong = |found: &dyn std::fmt::Display| {
            let wanted = match step {
                Step::Number(number) => number.to_string(),
                Step::Text(text) => text.clone(),
            };
            Err(Error::Invalid(format!(
                "{name} {} is {found} after {}, but append_step is {wanted}",
                self.text(at),
                self.text(at - 1)
            )))
        };
        match (&self.keys, step) {
            (_, Step::Text(sign)) if sign == "+" || sign == "-" => Ok(()),
            (Keys::Numbers(numbers), Step::Number(step)) => {
                let found = difference(numbers, at).unwrap_or(f64::NAN);
                // Steps like 0.1 add up to rounded labels.
                if (found - step).abs() <= step.abs() * 1e-9 {
                    return Ok(());
                }
                wrong(&found)
            }
            (Keys::Times(times, calendar), step) => {
                let (Some(before), Some(now)) = (times.get(at - 1), times.get(at)) else {
                    return Ok(());
                };
                let step = match step {
                    Step::Number(seconds) => Duration::Micros(micros(*seconds)),
                    Step::Text(text) => Duration::parse(text)?,
                };
                if step.after(*before, *calendar) == Some(*now) {
                    return Ok(());
                }
                wrong(&readable(now - before))
            }
            _ => Err(Error::Invalid(format!(
                "append_step is a step of another kind than between labels like {} of {name}",
                self.text(at)
            ))),
        }
    }

    /// The last `count` labels.
    fn tail(&self, count: usize) -> Self {
        let from = self.len() - count.min(self.len());
        let keys = match &self.keys {
            Keys::Times(all, calendar) => {
                Keys::Times(all.get(from..).unwrap_or_default().to_vec(), *calendar)
            }
            Keys::Numbers(all) => Keys::Numbers(all.get(from..).unwrap_or_default().to_vec()),
            Keys::Texts(all) => Keys::Texts(all.get(from..).unwrap_or_default().to_vec()),
        };
        Self {
            keys,
            shown: self.shown.get(from..).unwrap_or_default().to_vec(),
        }
    }

    /// Where the label `at` of `other` is.
    fn position(&self, other: &Self, at: usize) -> Option<usize> {
        match (&self.keys, &other.keys) {
            (Keys::Times(own, _), Keys::Times(others, _)) => {
                let label = others.get(at)?;
                own.iter().position(|own| own == label)
            }
            (Keys::Numbers(own), Keys::Numbers(others)) => {
                let label = others.get(at)?;
                own.iter().position(|own| own == label)
            }
            (Keys::Texts(own), Keys::Texts(others)) => {
                let label = others.get(at)?;
                own.iter().position(|own| own == label)
            }
            _ => None,
        }
    }

    fn less(&self, left: usize, right: usize) -> bool {
        fn of<T: PartialOrd>(all: &[T], left: usize, right: usize) -> bool {
            matches!((all.get(left), all.get(right)), (Some(a), Some(b)) if a < b)
        }
        match &self.keys {
            Keys::Times(all, _) => of(all, left, right),
            Keys::Numbers(all) => of(all, left, right),
            Keys::Texts(all) => of(all, left, right),
        }
    }

    fn text(&self, at: usize) -> &str {
        self.shown.get(at).map_or("", String::as_str)
    }
}

/// A time between two labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duration {
    Micros(i64),
    Months(i64),
}

impl Duration {
    /// `8h`, `2D`, `-1D`, `1M`, `D`.
    fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Invalid(format!(
                "append_step is {text:?}, which is no duration: a number and one of ns, us, ms, s, m, h, D, W, M, Y"
            ))
        };
        let trimmed = text.trim();
        let at = trimmed
            .find(|c: char| c.is_alphabetic())
            .ok_or_else(wrong)?;
        let (number, unit) = trimmed.split_at(at);
        let number: i64 = match number.trim() {
            "" | "+" => 1,
            "-" => -1,
            number => number.parse().map_err(|_| wrong())?,
        };
        let times = |unit: i64| number.checked_mul(unit).ok_or_else(wrong);
        Ok(match unit.trim() {
            "ns" if number % 1000 == 0 => Self::Micros(number / 1000),
            "us" => Self::Micros(number),
            "ms" => Self::Micros(times(1000)?),
            "s" => Self::Micros(times(SECOND)?),
            "m" | "min" => Self::Micros(times(MINUTE)?),
            "h" => Self::Micros(times(HOUR)?),
            "D" | "d" => Self::Micros(times(DAY)?),
            "W" | "w" => Self::Micros(times(7 * DAY)?),
            "M" => Self::Months(number),
            "Y" => Self::Months(times(12)?),
            _ => return Err(wrong()),
        })
    }

    /// The instant that lies this much after another one.
    fn after(self, instant: i64, calendar: Calendar) -> Option<i64> {
        match self {
            Self::Micros(micros) => instant.checked_add(micros),
            Self::Months(months) => {
                let date = calendar.date(instant.div_euclid(DAY));
                let month = (date.year * 12 + date.month - 1).checked_add(months)?;
                let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
                // Around the day that is expected there is one with that date.
                let guess = instant.div_euclid(DAY) + months * 30;
                let slack = months.abs() + 3;
                (guess - slack..=guess + slack)
                    .find(|day| {
                        let found = calendar.date(*day);
                        (found.year, found.month, found.day) == (year, month, date.day)
                    })
                    .map(|day| day * DAY + instant.rem_euclid(DAY))
            }
        }
    }
}

fn difference(numbers: &[f64], at: usize) -> Option<f64> {
    Some(numbers.get(at)? - numbers.get(at.checked_sub(1)?)?)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what is beyond any time equals no step between times"
)]
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

/// A span of time as a person would write it.
fn readable(micros: i64) -> String {
    for (unit, name) in [(DAY, "D"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")] {
        if micros % unit == 0 {
            return format!("{}{name}", micros / unit);
        }
    }
    format!("{micros}us")
}
