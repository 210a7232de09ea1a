//! Attributes of the target: those of slices and of the configuration, and those that are computed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use serde_json::Value;

use super::config::{AppendConfig, AttributesMode};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};
use crate::error::{Error, Result};
use crate::query::show;
use crate::session::{Session, sentence};
use crate::store::write::write_id;

/// What a JSON value is as an attribute.
pub(super) fn attribute(value: &Value) -> AttributeValue {
    let integers = |values: &[Value]| -> Option<AttributeValue> {
        let values = values.iter().map(|value| {
            value
                .as_i64()
                .map(i128::from)
                .or(value.as_u64().map(i128::from))
        });
        Some(AttributeValue::Integers {
            element: ElementType::Int64,
            values: values.collect::<Option<_>>()?,
        })
    };
    let floats = |values: &[Value]| -> Option<AttributeValue> {
        Some(AttributeValue::Floats {
            element: ElementType::Float64,
            values: values.iter().map(Value::as_f64).collect::<Option<_>>()?,
        })
    };
    let texts = |values: &[Value]| -> Option<AttributeValue> {
        let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
        Some(AttributeValue::Texts(texts.collect::<Option<_>>()?))
    };
    let known = match value {
        Value::String(text) => Some(AttributeValue::Text(text.clone())),
        Value::Number(_) => {
            let value = std::slice::from_ref(value);
            integers(value).or_else(|| floats(value))
        }
        Value::Array(values) if !values.is_empty() => integers(values)
            .or_else(|| floats(values))
            .or_else(|| texts(values)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    known.unwrap_or_else(|| AttributeValue::Json(value.clone()))
}

/// The attributes of the target with a slice: `before` are those that it has, if it exists. `axes` are the
/// one-dimensional coordinates with the slice, which expressions may name.
pub(super) async fn merged(
    session: &Session,
    before: Option<&Attributes>,
    of_slice: &Attributes,
    config: &AppendConfig,
    axes: &HashMap<String, ArrayRef>,
) -> Result<Attributes> {
    let mut attributes = match (config.attrs_update_mode, before) {
        (AttributesMode::Keep, Some(before)) => before.clone(),
        (AttributesMode::Update, Some(before)) => {
            let mut attributes = before.clone();
            for (name, value) in &of_slice.0 {
                set(&mut attributes, name, value.clone());
            }
            attributes
        }
        (AttributesMode::Replace, _) | (AttributesMode::Keep | AttributesMode::Update, None) => {
            of_slice.clone()
        }
        (AttributesMode::Ignore, Some(before)) => before.clone(),
        (AttributesMode::Ignore, None) => Attributes::default(),
    };
    for (name, value) in &config.attrs {
        let value = match value.as_str().and_then(|text| text.strip_prefix('=')) {
            Some(expression) => computed(session, name, expression, axes).await?,
            None => attribute(value),
        };
        set(&mut attributes, name, value);
    }
    Ok(attributes)
}

/// Whether attributes have to be computed.
pub(super) fn has_expressions(config: &AppendConfig) -> bool {
    let mut values = config.attrs.values();
    values.any(|value| value.as_str().is_some_and(|text| text.starts_with('=')))
}

async fn computed(
    session: &Session,
    name: &str,
    expression: &str,
    axes: &HashMap<String, ArrayRef>,
) -> Result<AttributeValue> {
    let failed = |reason: &dyn std::fmt::Display| {
        let mut known: Vec<&str> = axes.keys().map(String::as_str).collect();
        known.sort_unstable();
        Error::Invalid(format!(
            "attribute {name}: ={expression}: {reason}; it can name {}",
            known.join(", ")
        ))
    };
    // Coordinates of several lengths in one table: aggregates pass over the rows that the shorter ones do not have.
    let longest = axes.values().map(|axis| axis.len()).max().unwrap_or(0);
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (name, axis) in axes {
        let rows: UInt64Array = (0..longest)
            .map(|row| (row < axis.len()).then_some(row as u64))
            .collect();
        columns.push(take(axis, &rows, None).map_err(|e| failed(&e))?);
        fields.push(Field::new(name, axis.data_type().clone(), true));
    }
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| failed(&e))?;
    let table = format!("coordinates_{}", write_id().replace('-', "_"));
    let context = session.context();
    context
        .register_batch(&table, batch)
        .map_err(|e| failed(&sentence(&e)))?;
    let answer = async {
        let frame = context
            .sql(&format!("SELECT {expression} FROM {table}"))
            .await?;
        frame.collect().await
    };
    let answer = answer.await;
    // It was put there just now; nothing else could be wrong with it.
    let _ = context.deregister_table(&table);
    let batches = answer.map_err(|e| failed(&sentence(&e)))?;
    let mut rows = batches.iter().filter(|batch| batch.num_rows() > 0);
    let (Some(batch), None) = (rows.next(), rows.next()) else {
        return Err(failed(&"it has not exactly one value"));
    };
    if batch.num_rows() != 1 || batch.num_columns() != 1 {
        return Err(failed(&"it has not exactly one value"));
    }
    let column = batch.column(0);
    if column.is_null(0) {
        return Err(failed(&"it is NULL"));
    }
    let of = |data_type| cast(column, &data_type).map_err(|e| failed(&e));
    Ok(match column.data_type() {
        kind if kind.is_integer() => AttributeValue::Integers {
            element: ElementType::Int64,
            values: vec![
                of(DataType::Int64)?
                    .as_primitive::<Int64Type>()
                    .value(0)
                    .into(),
            ],
        },
        kind if kind.is_numeric() => AttributeValue::Floats {
            element: ElementType::Float64,
            values: vec![
                of(DataType::Float64)?
                    .as_primitive::<Float64Type>()
                    .value(0),
            ],
        },
        _ => AttributeValue::Text(show(column, 0)),
    })
}

fn set(attributes: &mut Attributes, name: &str, value: AttributeValue) {
    match attributes.0.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = value,
        None => attributes.0.push((name.to_owned(), value)),
    }
}
