//! `date_trunc`: dates cut down to a precision, of timestamps and of text dates.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, internal_err, plan_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TypeSignature, Volatility,
};

use crate::date_part::{coerce_but_text, constant_text};
use crate::text_date::{TextCalendar, TextDate, invoke_stock, is_text, like, stock_fields, texts};

/// The function; there is one, so that calls compare equal wherever they were made.
pub(crate) fn date_trunc() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let stock = datafusion::functions::datetime::date_trunc();
        // Ours decides; the other one is what the information schema lists.
        let signatures = vec![
            TypeSignature::UserDefined,
            stock.signature().type_signature.clone(),
        ];
        Arc::new(ScalarUDF::new_from_impl(DateTrunc {
            signature: Signature::one_of(signatures, Volatility::Immutable),
            stock,
        }))
    });
    Arc::clone(&FUNCTION)
}

/// DataFusion's function, which text reaches as text instead of as a timestamp.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    stock: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for DateTrunc {
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

    /// A text date stays one, with the metadata that tells its calendar.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [_, date] if TextCalendar::of(date).is_some() => {
                let field = Field::new(self.name(), DataType::Utf8, date.is_nullable());
                Ok(FieldRef::new(field.with_metadata(date.metadata().clone())))
            }
            _ => self.stock.return_field_from_args(ReturnFieldArgs {
                arg_fields: &stock_fields(args.arg_fields),
                ..args
            }),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ([precision, value], [_, field]) = (args.args.as_slice(), args.arg_fields.as_slice())
        else {
            return plan_err!("date_trunc takes a precision and a date");
        };
        // A batch may come without the metadata that the plan was made with; the plan's answer has it.
        let calendar = TextCalendar::of(field).or_else(|| TextCalendar::of(&args.return_field));
        let Some(calendar) = calendar else {
            return invoke_stock(&self.stock, args);
        };
        let precision = Precision::parse(constant_text(precision).unwrap_or_default(), calendar)?;
        let texts = texts(value)?;
        let truncated = texts.iter().map(|text| {
            text.map(|text| {
                TextDate::require(text, calendar).map(|date| precision.truncate(date).to_string())
            })
            .transpose()
        });
        like(value, truncated.collect::<Result<StringArray>>()?)
    }

    /// Timestamps keep their order; for text the stock function would go by way of a timestamp, which has another.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        match inputs {
            [_, date] if is_text(&date.range.data_type()) => Ok(SortProperties::Unordered),
            _ => self.stock.output_ordering(inputs),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.stock.documentation()
    }
}

/// What a text date is cut down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    Year,
    Quarter,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
}

impl Precision {
    fn parse(text: &str, calendar: TextCalendar) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "year" => Self::Year,
            "quarter" => Self::Quarter,
            "month" => Self::Month,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "minute" => Self::Minute,
            "second" => Self::Second,
            "millisecond" => Self::Millisecond,
            "microsecond" => Self::Microsecond,
            _ => {
                return exec_err!(
                    "date_trunc precision '{text}' is not defined in the {} calendar",
                    calendar.name()
                );
            }
        })
    }

    /// The first instant of the year, month … of `date`.
    fn truncate(self, date: TextDate) -> TextDate {
        let day = |month| TextDate {
            month,
            day: 1,
            hour: 0,
            minute: 0,
            micros: 0,
            ..date
        };
        let micros = |unit| TextDate {
            micros: date.micros - date.micros % unit,
            ..date
        };
        match self {
            Self::Year => day(1),
            Self::Quarter => day(date.month - (date.month - 1) % 3),
            Self::Month => day(date.month),
            Self::Day => TextDate {
                day: date.day,
                ..day(date.month)
            },
            Self::Hour => TextDate {
                minute: 0,
                micros: 0,
                ..date
            },
            Self::Minute => micros(60_000_000),
            Self::Second => micros(1_000_000),
            Self::Millisecond => micros(1_000),
            Self::Microsecond => date,
        }
    }
}
