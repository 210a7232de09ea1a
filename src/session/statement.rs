//! Statements that have been read, and not been run yet.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, ParamValues, Result};
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::versions::Change;
use crate::catalog::Catalog;
use crate::catalog::factory::STORED_AS;
use crate::catalog::guard::Access;
use crate::catalog::provider::is_one_file;
use crate::error::Error;
use crate::query::engine_error;

/// Settings that belong to the process, and not to a session.
const OF_THE_PROCESS: &str = "datafusion.runtime.";

/// A statement that has been read, and not been run yet.
#[derive(Clone, Debug)]
pub struct Prepared(pub(super) Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A change of versions.
    Change(Change),
    /// A plan of the engine.
    Plan(LogicalPlan),
}

impl Prepared {
    /// Names and types of the columns that it gives.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        match &self.0 {
            Kind::Change(_) => Arc::new(Schema::empty()),
            Kind::Plan(plan) => Arc::clone(plan.schema().inner()),
        }
    }

    /// Whether it gives rows; others change something, and give at most how many rows that were.
    #[must_use]
    pub fn is_query(&self) -> bool {
        match &self.0 {
            Kind::Change(_) => false,
            Kind::Plan(plan) => !matches!(
                plan,
                LogicalPlan::Dml(_)
                    | LogicalPlan::Ddl(_)
                    | LogicalPlan::Copy(_)
                    | LogicalPlan::Statement(_)
            ),
        }
    }

    /// Its parameters in their order. The type of one of which nothing tells it is `Null`.
    ///
    /// # Errors
    /// When one has two types.
    pub fn parameters(&self) -> Result<SchemaRef> {
        let Kind::Plan(plan) = &self.0 else {
            return Ok(Arc::new(Schema::empty()));
        };
        let mut fields: Vec<(usize, Field)> = plan
            .get_parameter_types()?
            .into_iter()
            .map(|(name, data_type)| {
                let place = name.trim_start_matches('$').parse().unwrap_or(usize::MAX);
                let data_type = data_type.unwrap_or(DataType::Null);
                (place, Field::new(name, data_type, true))
            })
            .collect();
        fields.sort_by(|(place, field), (other, next)| {
            (place, field.name()).cmp(&(other, next.name()))
        });
        let fields: Vec<Field> = fields.into_iter().map(|(_, field)| field).collect();
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The same with values for its parameters, in their order.
    ///
    /// # Errors
    /// When there are too few, or one is not of the type that it has to be.
    pub fn with_parameters(self, values: Vec<ScalarValue>) -> Result<Self> {
        match self.0 {
            Kind::Plan(plan) => {
                // The plan takes them to be of the types that it has found out.
                let types = plan.get_parameter_types()?;
                let values = values.into_iter().zip(1..);
                let values = values.map(|(value, place): (ScalarValue, usize)| {
                    match types.get(&format!("${place}")) {
                        Some(Some(wanted)) if *wanted != value.data_type() => value.cast_to(wanted),
                        _ => Ok(value),
                    }
                });
                let values = values.collect::<Result<Vec<_>>>()?;
                let plan = plan.with_param_values(ParamValues::from(values))?;
                Ok(Self(Kind::Plan(plan)))
            }
            Kind::Change(_) => Ok(self),
        }
    }
}

/// The statement with the parameters `?` called `$1`, `$2`, …, if there is any.
pub(super) fn numbered(sql: &str, dialect: &dyn Dialect) -> Option<String> {
    if !sql.contains('?') {
        return None;
    }
    let tokens = Tokenizer::new(dialect, sql).with_unescape(false).tokenize();
    let mut count = 0usize;
    let mut text = String::with_capacity(sql.len() + 8);
    for token in tokens.ok()? {
        match token {
            Token::Placeholder(name) if name == "?" => {
                count += 1;
                text.push_str(&format!("${count}"));
            }
            token => text.push_str(&token.to_string()),
        }
    }
    (count > 0).then_some(text)
}

/// The plan with locations that it may use, where they are confined.
pub(super) fn confined(plan: LogicalPlan, catalog: &Catalog) -> Result<LogicalPlan> {
    if !catalog.is_confined() {
        return Ok(plan);
    }
    let place = |location: &str, access| catalog.place(location, access).map_err(engine_error);
    let confined = plan.transform_down_with_subqueries(|plan| match plan {
        LogicalPlan::Copy(copy) => Ok(Transformed::yes(LogicalPlan::Copy(CopyTo {
            output_url: place(&copy.output_url, Access::Write)?,
            ..copy
        }))),
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut create)) => {
            let makes = !create.schema.fields().is_empty();
            let access = if makes { Access::Write } else { Access::Read };
            let is_ours = STORED_AS.contains(&create.file_type.to_uppercase().as_str());
            for location in &mut create.locations {
                *location = place(location, access)?;
                if !is_ours && !is_one_file(location) {
                    return Err(engine_error(Error::Forbidden(format!(
                        "{location} is not one file; tables of rows are made of single files below a root"
                    ))));
                }
            }
            let create = DdlStatement::CreateExternalTable(create);
            Ok(Transformed::yes(LogicalPlan::Ddl(create)))
        }
        LogicalPlan::Statement(Statement::SetVariable(ref set))
            if set
                .variable
                .to_ascii_lowercase()
                .starts_with(OF_THE_PROCESS) =>
        {
            Err(forbidden(&set.variable))
        }
        LogicalPlan::Statement(Statement::ResetVariable(ref reset))
            if reset
                .variable
                .to_ascii_lowercase()
                .starts_with(OF_THE_PROCESS) =>
        {
            Err(forbidden(&reset.variable))
        }
        plan => Ok(Transformed::no(plan)),
    });
    confined.map(|transformed| transformed.data)
}

fn forbidden(setting: &str) -> DataFusionError {
    engine_error(Error::Forbidden(format!(
        "{setting} is a setting of the server, which a session cannot change"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    #[test]
    fn question_marks_are_numbered() {
        let of = |sql: &str| numbered(sql, &GenericDialect {});
        assert_eq!(of("SELECT 1"), None);
        assert_eq!(
            of("SELECT a, '?' FROM \"t?\" WHERE b > ? AND c = ? -- why?"),
            Some("SELECT a, '?' FROM \"t?\" WHERE b > $1 AND c = $2 -- why?".to_owned())
        );
        assert_eq!(
            of("SELECT 'it''s ?' || ?"),
            Some("SELECT 'it''s ?' || $1".to_owned())
        );
    }
}
