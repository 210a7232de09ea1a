//! From where to where a coordinate goes, and in which steps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;
use serde_json::Value;

use crate::array::Variable;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::catalog::Opened;
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::cf::time::{Count, TimeUnits};
use crate::error::{Error, Result};
use crate::read::{self, Buffers};
use crate::store::Store;

/// Longest coordinate of which all values are read; of a longer one, the first and the last.
const MOST_VALUES: u64 = 1 << 20;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// From where to where a coordinate goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoordinateRange {
    /// Its first value: a number, or text; dates are ISO-8601 text.
    pub first: Value,
    /// Its last value.
    pub last: Value,
    /// What it is measured in; `None` for dates, which need no unit.
    pub units: Option<String>,
    /// The calendar of its dates.
    pub calendar: Option<&'static str>,
    /// The distance of neighbours, where all have the same (months and years may differ in length).
    pub step: Option<String>,
}

/// Reads a one-dimensional coordinate; of one that is continued from file to file, its ends.
pub(super) async fn of_files(
    opened: &Opened,
    variable: &Variable,
    options: &DecodeOptions,
) -> Result<CoordinateRange> {
    let parts = variable.members.as_ref().map(|members| &members.parts);
    let ends = parts.and_then(|parts| Some((parts.first()?, parts.last()?)));
    let Some((first, last)) = ends else {
        return read(&opened.store, variable, options).await;
    };
    let file = |at: usize| opened.members.get(at).map_or(opened, Arc::as_ref);
    let range = read(&file(first.dataset).store, &first.variable, options).await?;
    if first.dataset == last.dataset {
        return Ok(range);
    }
    let behind = read(&file(last.dataset).store, &last.variable, options).await?;
    Ok(CoordinateRange {
        last: behind.last,
        step: None,
        ..range
    })
}

/// Reads a one-dimensional coordinate.
async fn read(
    store: &Store,
    variable: &Variable,
    options: &DecodeOptions,
) -> Result<CoordinateRange> {
    let decoding = Decoding::new(variable, options)?;
    let length = variable.cells();
    let ends = IndexSet::from_mask(0, [true]);
    let selection = match length.checked_sub(1) {
        Some(last) if length > MOST_VALUES => vec![ends, IndexSet::range(last..length)],
        _ => vec![IndexSet::all(length)],
    };
    let mut buffers = Buffers::default();
    let mut parts = Vec::new();
    for set in selection {
        let selection = Selection { dims: vec![set] };
        let slab = read::read(store, variable, selection, &mut buffers).await?;
        parts.push(slab);
    }
    let is_whole = parts.len() == 1;
    let stored = match (is_whole, parts.first()) {
        (true, Some(slab)) => counts(variable, slab.clone())?,
        _ => None,
    };
    let parts = parts
        .into_iter()
        .map(|slab| decoding.apply(slab))
        .collect::<Result<Vec<ArrayRef>>>()?;
    let time = decoding.time_units();
    let step = match (time, is_whole) {
        (_, false) => None,
        (Some(time), true) => stored.and_then(|counts| time_step(variable, time, &counts)),
        (None, true) => parts.first().and_then(|values| {
            let values = floats(values)?;
            uniform(&differences(&values)?).map(number)
        }),
    };
    let end = |values: Option<&ArrayRef>, at: fn(usize) -> Option<usize>| {
        values.map_or(Ok(Value::Null), |values| match at(values.len()) {
            Some(row) => value(values, row),
            None => Ok(Value::Null),
        })
    };
    Ok(CoordinateRange {
        first: end(parts.first(), |length| (length > 0).then_some(0))?,
        last: end(parts.last(), |length| length.checked_sub(1))?,
        units: match time {
            Some(_) => None,
            None => variable.attributes.text("units").map(str::to_owned),
        },
        calendar: time.map(|time| time.calendar().name()),
        step,
    })
}

/// The stored numbers of a time coordinate: in them, unlike in dates, equal steps are equal in every calendar.
fn counts(variable: &Variable, slab: crate::array::slab::Slab) -> Result<Option<Vec<f64>>> {
    let is_packed = ["scale_factor", "add_offset"]
        .iter()
        .any(|name| variable.attributes.get(name).is_some());
    if is_packed || !variable.layout.element.is_numeric() {
        return Ok(None);
    }
    let stored = DecodeOptions {
        decode: false,
        nan_as_null: true,
        default_fill: false,
    };
    let values = Decoding::new(variable, &stored)?.apply(slab)?;
    Ok(floats(&values))
}

/// The values as numbers, if all of them are.
fn floats(values: &ArrayRef) -> Option<Vec<f64>> {
    if !values.data_type().is_numeric() || values.null_count() > 0 {
        return None;
    }
    let values = cast(values, &DataType::Float64).ok()?;
    let values = values.as_primitive::<Float64Type>().values().to_vec();
    values
        .iter()
        .all(|value| value.is_finite())
        .then_some(values)
}

fn differences(values: &[f64]) -> Option<Vec<f64>> {
    let pairs = values.iter().zip(values.get(1..)?);
    let differences: Vec<f64> = pairs.map(|(a, b)| b - a).collect();
    (!differences.is_empty()).then_some(differences)
}

/// The mean of differences that are all the same but for rounding.
fn uniform(differences: &[f64]) -> Option<f64> {
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    let is_near = |difference: &f64| (difference - mean).abs() <= 1e-3 * mean.abs();
    (mean != 0.0 && differences.iter().all(is_near)).then_some(mean)
}

/// A step with as many digits as are meant: rounding of the coordinate is not shown.
fn number(step: f64) -> String {
    let rounded = (0..9)
        .filter_map(|digits| format!("{step:.digits$e}").parse::<f64>().ok())
        .find(|rounded| (rounded - step).abs() <= 1e-6 * step.abs());
    rounded.unwrap_or(step).to_string()
}

fn time_step(variable: &Variable, time: &TimeUnits, counts: &[f64]) -> Option<String> {
    let unit = seconds_of_unit(variable.attributes.text("units")?)?;
    let seconds: Vec<f64> = differences(counts)?
        .iter()
        .map(|difference| difference * unit)
        .collect();
    let all_within = |days: std::ops::RangeInclusive<f64>| {
        seconds.iter().all(|step| days.contains(&(step / DAY)))
    };
    let days_of_month = match time.calendar().name() {
        "360_day" => 30.0..=30.0,
        _ => 28.0..=31.0,
    };
    let days_of_year = match time.calendar().name() {
        "360_day" => 360.0..=360.0,
        _ => 365.0..=366.0,
    };
    // 28 days again and again are four weeks, not months.
    let uniform = uniform(&seconds);
    if all_within(days_of_month) && (uniform.is_none() || time.calendar().name() == "360_day") {
        return Some("month".to_owned());
    }
    if all_within(days_of_year) {
        return Some("year".to_owned());
    }
    let step = uniform?;
    let units = [
        (DAY, "day"),
        (HOUR, "hour"),
        (MINUTE, "minute"),
        (1.0, "second"),
    ];
    let (length, unit) = units
        .into_iter()
        .find(|(length, _)| step.abs() >= *length * 0.999)?;
    let count = number(step / length);
    Some(match count.as_str() {
        "1" => unit.to_owned(),
        _ => format!("{count} {unit}s"),
    })
}

/// The length of the unit of "*unit* since *reference*".
fn seconds_of_unit(units: &str) -> Option<f64> {
    let unit = units.split_whitespace().next()?;
    let axis = TimeUnits::parse(&format!("{unit} since 2001-01-01"), None).ok()?;
    // A million of them, because one may be shorter than what a timestamp can tell apart.
    let many = axis.timestamp(Count::Integer(1_000_000)).ok()?;
    let none = axis.timestamp(Count::Integer(0)).ok()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a length that is shown to five digits"
    )]
    let microseconds = many.checked_sub(none)? as f64;
    Some(microseconds / 1e12)
}

/// One value as JSON.
fn value(values: &ArrayRef, row: usize) -> Result<Value> {
    if values.is_null(row) {
        return Ok(Value::Null);
    }
    let fail = |error| Error::Invalid(format!("a coordinate value cannot be shown: {error}"));
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(values.as_ref(), &options)
        .and_then(|formatter| formatter.value(row).try_to_string())
        .map_err(fail)?;
    let is_date = values
        .as_primitive_opt::<TimestampMicrosecondType>()
        .is_some();
    if values.data_type().is_numeric() && !is_date {
        // The text of a number is JSON, unless it is infinite.
        return Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)));
    }
    Ok(Value::String(text))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn units_have_lengths() {
        assert_eq!(seconds_of_unit("days since 1850-01-01"), Some(DAY));
        assert_eq!(seconds_of_unit("hours since 1850-01-01"), Some(HOUR));
        assert_eq!(
            seconds_of_unit("milliseconds since 1850-01-01"),
            Some(0.001)
        );
        assert_eq!(seconds_of_unit("apples since 1850-01-01"), None);
    }

    #[test]
    fn steps_are_uniform_but_for_rounding() {
        let steps = |values: &[f64]| uniform(&differences(values)?).map(number);
        assert_eq!(steps(&[90.0, 87.5, 85.0]).unwrap(), "-2.5");
        let twelfths: Vec<f64> = (0..9u8).map(|i| f64::from(f32::from(i) / 12.0)).collect();
        assert_eq!(steps(&twelfths).unwrap(), "0.0833333");
        assert_eq!(steps(&[1.0, 2.0, 4.0]), None);
        assert_eq!(steps(&[1.0]), None);
        assert_eq!(steps(&[1.0, 1.0]), None);
    }
}
