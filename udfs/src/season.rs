//! `season`: the three months that a date is in.

use std::sync::Arc;

use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::common::cast::as_int32_array;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::named_part::{coerce_date, invoke_part};
use crate::text_date::like;

/// The function.
pub(crate) fn season() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Season {
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Season {
    signature: Signature,
}

impl ScalarUDFImpl for Season {
    fn name(&self) -> &str {
        "season"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_date(self.name(), types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(FieldRef::new(Field::new(
            self.name(),
            DataType::Utf8,
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let months = invoke_part("month", args)?;
        let array = match &months {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(scalar) => scalar.to_array()?,
        };
        let seasons: StringArray = as_int32_array(&array)?
            .iter()
            .map(|month| month.map(name))
            .collect();
        like(&months, seasons)
    }
}

fn name(month: i32) -> &'static str {
    match month {
        3..=5 => "MAM",
        6..=8 => "JJA",
        9..=11 => "SON",
        _ => "DJF",
    }
}
