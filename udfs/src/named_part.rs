//! `year`, `month`, `day` …: the parts of a date by name.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};

use crate::date_part::date_part;

/// The functions.
pub(crate) fn named_parts() -> Vec<Arc<ScalarUDF>> {
    [
        ("year", "year"),
        ("month", "month"),
        ("day", "day"),
        ("hour", "hour"),
        ("minute", "minute"),
        ("second", "second"),
        ("dayofyear", "doy"),
    ]
    .into_iter()
    .map(|(name, part)| {
        Arc::new(ScalarUDF::new_from_impl(NamedPart {
            name,
            part,
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    })
    .collect()
}

/// `name(date)`, which is `date_part('part', date)` and becomes it in the plan, for all that is known about that.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NamedPart {
    name: &'static str,
    part: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for NamedPart {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_date(self.name, types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(FieldRef::new(Field::new(
            self.name,
            DataType::Int32,
            nullable,
        )))
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        args.insert(0, lit(self.part));
        let call = ScalarFunction::new_udf(date_part(), args);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke_part(self.part, args)
    }
}

/// The type of the one argument of a function of dates.
pub(crate) fn coerce_date(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [date] = types else {
        return plan_err!("{function} takes one date");
    };
    let mut types = date_part().coerce_types(&[DataType::Utf8, date.clone()])?;
    match types.pop() {
        Some(date) => Ok(vec![date]),
        None => internal_err!("date_part has no arguments"),
    }
}

/// `date_part('part', date)` for the arguments of a call with the date alone.
pub(crate) fn invoke_part(part: &str, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let field = Field::new("part", DataType::Utf8, false);
    args.arg_fields.insert(0, FieldRef::new(field));
    let part = ColumnarValue::Scalar(ScalarValue::from(part));
    args.args.insert(0, part);
    args.return_field = FieldRef::new(Field::new("date_part", DataType::Int32, true));
    date_part().invoke_with_args(args)
}
