//! Datasets that are made empty, of a list of columns: dimensions, variables, and how they are to be stored.

use std::collections::HashMap;

use arrow::datatypes::Schema;

use super::spec::Spec;
use crate::append::{AppendOptions, IfExists, Outcome, Target, Transaction};
use crate::cf::decode::DecodeOptions;
use crate::cf::encode::Encoding;
use crate::error::{Error, Result, Within};
use crate::query::insert::write_coordinate;

/// Makes a dataset for rows of `schema` at `target`, with these options of the statement: the first dimension has no index
/// yet, and the others those that the options give them.
///
/// # Errors
/// As [`Spec::parse`], [`Spec::shape`], [`Spec::coordinates`] and [`Spec::blueprint`]; `Conflict` when there is a dataset.
pub async fn create(
    target: &Target,
    schema: &Schema,
    statement: &HashMap<String, String>,
    options: AppendOptions,
) -> Result<()> {
    let spec = Spec::parse(statement)?;
    let shape = spec.shape(schema)?;
    let coordinates = spec.coordinates(schema, &shape)?;
    let lengths = coordinates.iter().map(|values| {
        let length = values.as_ref().map(|values| values.len());
        length.unwrap_or(0) as u64
    });
    let lengths: Vec<u64> = lengths.collect();
    let text = |column: usize| {
        let told = schema
            .fields()
            .get(column)
            .and_then(|field| spec.width(field.name()));
        let axis = shape.dims.iter().position(|dim| *dim == column);
        let values = axis.and_then(|axis| coordinates.get(axis)?.as_ref());
        let longest = told
            .map(|width| (width, width))
            .or_else(|| super::longest(values?));
        longest.map(|(characters, bytes)| target.text_element(characters, bytes))
    };
    let blueprint = spec.blueprint(schema, &shape, &lengths, &text)?;
    let mut transaction = target.create(&blueprint, IfExists::Refuse, options).await?;
    let written = async {
        for (column, values) in shape.dims.iter().zip(&coordinates) {
            if let (Some(field), Some(values)) = (schema.fields().get(*column), values) {
                write(&mut transaction, field.name(), values).await?;
            }
        }
        Ok(())
    };
    if let Err(error) = written.await {
        transaction.abandon().await?;
        return Err(error);
    }
    match transaction.commit("create").await? {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Conflict => Err(Error::Conflict(format!(
            "{}: somebody else has made a dataset there meanwhile",
            target.store().location()
        ))),
    }
}

async fn write(
    transaction: &mut Transaction,
    name: &str,
    values: &arrow::array::ArrayRef,
) -> Result<()> {
    let variables = &transaction.dataset().root.variables;
    let Some(variable) = variables
        .iter()
        .find(|variable| variable.name == name)
        .cloned()
    else {
        return Ok(());
    };
    let decode = DecodeOptions {
        decode: true,
        nan_as_null: true,
        default_fill: false,
    };
    let encoding = Encoding::of_variable(&variable, &decode)?;
    write_coordinate(transaction, &variable, &encoding, values, 0)
        .await
        .within(|| format!("the values of {name}"))
}
