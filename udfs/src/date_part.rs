//! `date_part`: parts of dates, of timestamps and of text dates.

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Int32Array, Int64Array};
use datafusion::arrow::compute::kernels::cast_utils::IntervalUnit;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use crate::text_date::{
    TEXT_AS, TextCalendar, TextDate, invoke_stock, is_text, like, stock_fields, texts,
};

/// The function; there is one, so that calls compare equal wherever they were made.
pub(crate) fn date_part() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(DatePart {
            stock: datafusion::functions::datetime::date_part(),
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    });
    Arc::clone(&FUNCTION)
}

/// Calls this `date_part` where a plan calls the one of DataFusion. The planner of `EXTRACT` names that one itself, and
/// a planner of ours in front of it would also have to come before those of other functions.
#[derive(Debug)]
pub(crate) struct RewriteDatePart;

impl FunctionRewrite for RewriteDatePart {
    fn name(&self) -> &str {
        "date_part of all calendars"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(call)
                if call.func == datafusion::functions::datetime::date_part() =>
            {
                let call = ScalarFunction::new_udf(date_part(), call.args);
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// DataFusion's function, which text reaches as text instead of as a timestamp.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    stock: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        self.stock.name()
    }

    fn aliases(&self) -> &[String] {
        self.stock.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_but_text(&self.stock, types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args should be called instead")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.stock.return_field_from_args(ReturnFieldArgs {
            arg_fields: &stock_fields(args.arg_fields),
            ..args
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ([part, value], [_, field]) = (args.args.as_slice(), args.arg_fields.as_slice()) else {
            return plan_err!("date_part takes a part and a date");
        };
        if !is_text(field.data_type()) {
            return self.stock.invoke_with_args(args);
        }
        let part = constant_text(part).unwrap_or_default();
        let calendar = TextCalendar::of(field);
        let texts = texts(value)?;
        match (calendar, Part::parse(part)) {
            (Some(calendar), Some(part)) => {
                let date = |text: &str| {
                    TextDate::require(text, calendar).map(|date| part.of(&date, calendar))
                };
                let parts = texts.iter().map(|text| text.map(date).transpose());
                part.column(value, &parts.collect::<Result<Int64Array>>()?)
            }
            (Some(calendar), None) => {
                exec_err!(
                    "date part '{part}' is not defined in the {} calendar",
                    calendar.name()
                )
            }
            // The calendar can get lost on the way here, as in `max(time)`. Some parts are the same in all calendars.
            (None, Some(part)) if part.is_plain() && texts.iter().flatten().all(is_date) => {
                let calendar = TextCalendar::Day360;
                let date = |text| TextDate::parse(text).map(|date| part.of(&date, calendar));
                let parts = texts.iter().map(|text| text.and_then(date));
                part.column(value, &parts.collect())
            }
            (None, _) => invoke_stock(&self.stock, args),
        }
    }

    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<PreimageResult> {
        self.stock.preimage(args, literal, info)
    }

    /// Years follow each other like their dates.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let [part, date] = inputs else {
            return Ok(SortProperties::Unordered);
        };
        let is_year = part.sort_properties == SortProperties::Singleton
            && matches!(part.range.lower().try_as_str(), Some(Some(text)) if Part::parse(text) == Some(Part::Year));
        let is_date = matches!(
            date.range.data_type(),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64
        );
        Ok(if is_year && is_date {
            date.sort_properties
        } else {
            SortProperties::Unordered
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.stock.documentation()
    }
}

/// The types that a stock function of a name and a date takes, but that text stays text, and NULL has a type.
pub(crate) fn coerce_but_text(stock: &ScalarUDF, types: &[DataType]) -> Result<Vec<DataType>> {
    if let [part, date] = types
        && is_text(part)
        && is_text(date)
    {
        return Ok(types.to_vec());
    }
    if let [part, DataType::Null] = types {
        return Ok(vec![part.clone(), TEXT_AS]);
    }
    let fields: Vec<FieldRef> = types
        .iter()
        .map(|data_type| FieldRef::new(Field::new("", data_type.clone(), true)))
        .collect();
    let fields = fields_with_udf(&fields, stock)?;
    Ok(fields
        .iter()
        .map(|field| field.data_type().clone())
        .collect())
}

/// The text of a constant argument.
pub(crate) fn constant_text(value: &ColumnarValue) -> Option<&str> {
    match value {
        ColumnarValue::Scalar(scalar) => ScalarValue::try_as_str(scalar).flatten(),
        ColumnarValue::Array(_) => None,
    }
}

fn is_date(text: &str) -> bool {
    TextDate::parse(text).is_some()
}

/// A part of a text date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    Quarter,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    DayOfYear,
}

impl Part {
    /// `None` for a part that other calendars have not: weeks, and the time since 1970.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(['\'', '"']);
        match text.to_ascii_lowercase().as_str() {
            "doy" => return Some(Self::DayOfYear),
            "qtr" | "quarter" => return Some(Self::Quarter),
            _ => {}
        }
        match IntervalUnit::from_str(text).ok()? {
            IntervalUnit::Year => Some(Self::Year),
            IntervalUnit::Month => Some(Self::Month),
            IntervalUnit::Day => Some(Self::Day),
            IntervalUnit::Hour => Some(Self::Hour),
            IntervalUnit::Minute => Some(Self::Minute),
            IntervalUnit::Second => Some(Self::Second),
            IntervalUnit::Millisecond => Some(Self::Millisecond),
            IntervalUnit::Microsecond => Some(Self::Microsecond),
            IntervalUnit::Nanosecond => Some(Self::Nanosecond),
            _ => None,
        }
    }

    /// Whether it stands in the text.
    fn is_plain(self) -> bool {
        match self {
            Self::Year
            | Self::Quarter
            | Self::Month
            | Self::Day
            | Self::Hour
            | Self::Minute
            | Self::Second
            | Self::Millisecond
            | Self::Microsecond
            | Self::Nanosecond => true,
            Self::DayOfYear => false,
        }
    }

    fn of(self, date: &TextDate, calendar: TextCalendar) -> i64 {
        match self {
            Self::Year => date.year,
            Self::Quarter => (date.month - 1) / 3 + 1,
            Self::Month => date.month,
            Self::Day => date.day,
            Self::Hour => date.hour,
            Self::Minute => date.minute,
            Self::Second => date.micros / 1_000_000,
            Self::Millisecond => date.micros / 1_000,
            Self::Microsecond => date.micros,
            Self::Nanosecond => date.micros * 1_000,
            Self::DayOfYear => calendar.day_of_year(date),
        }
    }

    /// Values of this part, in the type that the stock function has for it.
    fn column(self, value: &ColumnarValue, parts: &Int64Array) -> Result<ColumnarValue> {
        if self == Self::Nanosecond {
            return like(value, parts.clone());
        }
        let parts: Int32Array = parts
            .iter()
            .map(|part| part.and_then(|part| i32::try_from(part).ok()))
            .collect();
        like(value, parts)
    }
}
