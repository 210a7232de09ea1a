//! Whether a slice fits the target.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::config::AppendConfig;
use super::labels::{Labels, Rules};
use super::slice::{Slice, SliceVariable};
use super::target::{Fixed, Known, is_coordinate};
use super::units;
use crate::array::Variable;
use crate::cf::calendar::Calendar;
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::cf::encode::Encoding;
use crate::error::{Error, Result, Within};
use crate::query::show;

/// What a slice adds to the append dimension.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    pub(super) length: u64,
    pub(super) labels: Option<Labels>,
}

/// Whether a slice has a place.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Behind what is there.
    Fits(Addition),
    /// It is there already.
    Present,
}

/// Checks what can be checked of a slice alone, and reads its labels.
pub(super) async fn alone(slice: &Slice, config: &AppendConfig) -> Result<Addition> {
    let dimension = &config.append_dim;
    for (name, size) in &config.fixed_dims {
        match slice.length(name) {
            Some(found) if found == *size => {}
            Some(found) => {
                return Err(Error::Invalid(format!(
                    "dimension {name} has the length {found}, but fixed_dims says {size}"
                )));
            }
            None => {
                return Err(Error::Invalid(format!(
                    "there is no dimension {name}, which fixed_dims names"
                )));
            }
        }
    }
    let length = slice
        .length(dimension)
        .ok_or_else(|| no_dimension(slice, dimension))?;
    if length == 0 {
        return Err(Error::Invalid(format!(
            "dimension {dimension} has the length 0: there is nothing to append"
        )));
    }
    let coordinate = slice
        .variable(dimension)?
        .filter(|own| is_coordinate(&own.variable, dimension));
    let labels = match coordinate {
        Some(own) => {
            let values = own.all().await?;
            let labels = Labels::new(&values, &own.decoding);
            Some(labels.within(|| format!("variable {dimension}"))?)
        }
        None => None,
    };
    Ok(Addition { length, labels })
}

/// Checks the first slice of a target.
pub(super) async fn first(slice: &Slice, config: &AppendConfig) -> Result<Addition> {
    let addition = alone(slice, config).await?;
    if let Some(labels) = &addition.labels {
        labels.follow(None, rules(config))?;
    }
    Ok(addition)
}

/// Checks a slice against the target.
pub(super) async fn against(
    slice: &Slice,
    known: &Known,
    config: &AppendConfig,
    decode: &DecodeOptions,
) -> Result<Verdict> {
    let addition = alone(slice, config).await?;
    let dimension = &config.append_dim;
    if let (true, Some(new), Some(old)) = (config.resume, &addition.labels, &known.labels) {
        match new.count_in(old) {
            0 => {}
            all if all == new.len() => return Ok(Verdict::Present),
            some => {
                return Err(Error::Invalid(format!(
                    "{some} of its {} labels of {dimension} are there already, and the others are not",
                    new.len()
                )));
            }
        }
    }
    for variable in &known.variables {
        let name = &variable.name;
        let grows = variable.dimensions.contains(dimension);
        let Some(own) = slice.variable(name)? else {
            if grows && !config.names(name) && !config.excludes(name) {
                return Err(Error::Invalid(format!(
                    "there is no variable {name}, which grows with {dimension}; variables: {{{name}: {{}}}} in the \
                     configuration makes its cells missing values"
                )));
            }
            continue;
        };
        if config.excludes(name) {
            continue;
        }
        check_dimensions(slice, own, variable, dimension)?;
        if grows {
            check_kind(own, variable, config, decode)?;
        } else if let Some(fixed) = known.fixed.get(name) {
            check_fixed(own, variable, fixed, config, decode).await?;
        }
    }
    match (&addition.labels, &known.labels) {
        (Some(new), Some(old)) => new.follow(Some(old), rules(config))?,
        (None, Some(_)) => {
            return Err(Error::Invalid(format!(
                "there is no coordinate variable {dimension}, by which its place would be known"
            )));
        }
        (_, None) => {}
    }
    Ok(Verdict::Fits(addition))
}

fn rules(config: &AppendConfig) -> Rules<'_> {
    Rules {
        dimension: &config.append_dim,
        order: config.append_order,
        step: config.append_step.as_ref(),
    }
}

fn no_dimension(slice: &Slice, dimension: &str) -> Error {
    let known: Vec<&str> = slice
        .dimensions
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    Error::Invalid(format!(
        "there is no dimension {dimension}, only {}; append_dim says which one grows",
        known.join(", ")
    ))
}

fn check_dimensions(
    slice: &Slice,
    own: &SliceVariable,
    variable: &Variable,
    append_dim: &str,
) -> Result<()> {
    let name = &variable.name;
    if own.variable.dimensions != variable.dimensions {
        return Err(Error::Invalid(format!(
            "variable {name} has the dimensions ({}), but ({}) in the target",
            own.variable.dimensions.join(", "),
            variable.dimensions.join(", ")
        )));
    }
    for (dimension, length) in variable.dimensions.iter().zip(variable.shape()) {
        let found = slice.length(dimension).unwrap_or(0);
        if dimension != append_dim && found != *length {
            return Err(Error::Invalid(format!(
                "dimension {dimension} has the length {found}, but {length} in the target (variable {name})"
            )));
        }
    }
    Ok(())
}

/// Times, numbers and texts do not become one another; units and calendars have to be the same.
fn check_kind(
    own: &SliceVariable,
    variable: &Variable,
    config: &AppendConfig,
    decode: &DecodeOptions,
) -> Result<()> {
    let name = &variable.name;
    let target = Decoding::new(variable, decode)?;
    let calendar = |decoding: &Decoding| decoding.time_units().map(|units| units.calendar());
    match (calendar(&own.decoding), calendar(&target)) {
        (Some(found), Some(wanted)) => {
            let is_gregorian = |c| matches!(c, Calendar::Standard | Calendar::ProlepticGregorian);
            if found != wanted && !(is_gregorian(found) && is_gregorian(wanted)) {
                return Err(Error::Invalid(format!(
                    "variable {name} has the calendar {}, but {} in the target",
                    called(&own.variable),
                    called(variable)
                )));
            }
            return Ok(());
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => return Err(other_kind(own, variable)),
    }
    let kind = |decoding: &Decoding| match decoding.data_type() {
        DataType::Utf8 => 0,
        DataType::Boolean => 1,
        _ => 2,
    };
    if kind(&own.decoding) != kind(&target) {
        return Err(other_kind(own, variable));
    }
    conversion(own, variable, config).map(drop)
}

fn called(variable: &Variable) -> &str {
    variable.attributes.text("calendar").unwrap_or("standard")
}

fn other_kind(own: &SliceVariable, variable: &Variable) -> Error {
    let kind = |variable: &Variable| match variable.attributes.text("units") {
        Some(units) => format!("{} in {units:?}", variable.layout.element.name()),
        None => variable.layout.element.name(),
    };
    Error::Invalid(format!(
        "variable {} is {}, which does not fit {} in the target",
        variable.name,
        kind(&own.variable),
        kind(variable)
    ))
}

/// Factor and summand for values of a slice, where its units differ from those of the target.
pub(super) fn conversion(
    own: &SliceVariable,
    variable: &Variable,
    config: &AppendConfig,
) -> Result<Option<(f64, f64)>> {
    let units = |variable: &Variable| variable.attributes.text("units").map(str::to_owned);
    let (Some(found), Some(wanted)) = (units(&own.variable), units(variable)) else {
        return Ok(None);
    };
    if units::is_same(&found, &wanted) || own.decoding.time_units().is_some() {
        return Ok(None);
    }
    let name = &variable.name;
    match units::conversion(&found, &wanted) {
        Some(conversion) if config.convert_units => Ok(Some(conversion)),
        Some(_) => Err(Error::Invalid(format!(
            "variable {name} has the units {found:?}, but {wanted:?} in the target; convert_units: true converts them"
        ))),
        None => Err(Error::Invalid(format!(
            "variable {name} has the units {found:?}, which cannot be converted to {wanted:?} of the target"
        ))),
    }
}

/// What does not grow has to be the same.
async fn check_fixed(
    own: &SliceVariable,
    variable: &Variable,
    fixed: &Fixed,
    config: &AppendConfig,
    decode: &DecodeOptions,
) -> Result<()> {
    let name = &variable.name;
    let found = own.all().await?;
    let mut stored = Vec::new();
    let encoding = Encoding::of_variable(variable, decode)?;
    let encoded = encoding.encode(&found, &mut stored);
    if encoded.is_ok() && fixed.stored.as_ref() == Some(&stored) {
        return Ok(());
    }
    let Some(at) = differs(&found, &fixed.values, config.tolerance) else {
        return Ok(());
    };
    let hint = if variable.dimensions == [name.as_str()] {
        "tolerance says which differences are none"
    } else {
        "excluded_variables leaves it out"
    };
    Err(Error::Invalid(format!(
        "variable {name} is {} at index {at}, but {} in the target, where it does not grow; {hint}",
        show(&found, at),
        show(&fixed.values, at)
    )))
}

/// The first index at which two columns differ by more than `tolerance`.
fn differs(left: &ArrayRef, right: &ArrayRef, tolerance: f64) -> Option<usize> {
    if left.len() != right.len() {
        return Some(left.len().min(right.len()));
    }
    let numbers = |column: &ArrayRef| {
        let is_number = column.data_type().is_numeric() || column.data_type().is_temporal();
        let column = is_number.then(|| cast(column, &DataType::Float64).ok())??;
        Some(column.as_primitive::<Float64Type>().clone())
    };
    let (numbers_left, numbers_right) = (numbers(left), numbers(right));
    (0..left.len()).find(|at| {
        if left.is_null(*at) || right.is_null(*at) {
            return left.is_null(*at) != right.is_null(*at);
        }
        match (&numbers_left, &numbers_right) {
            (Some(left), Some(right)) => {
                let (left, right) = (left.value(*at), right.value(*at));
                let is_same = left == right || left.is_nan() && right.is_nan();
                let is_near = (left - right).abs() <= tolerance;
                !is_same && !is_near
            }
            _ => show(left, *at) != show(right, *at),
        }
    })
}
