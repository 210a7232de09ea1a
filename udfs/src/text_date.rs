//! Text dates: the times of calendars that have dates the Gregorian calendar has not.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

/// A calendar whose dates are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextCalendar {
    AllLeap,
    Day360,
}

impl TextCalendar {
    /// The calendar of a column, from its field metadata.
    pub(crate) fn of(field: &Field) -> Option<Self> {
        if !is_text(field.data_type()) {
            return None;
        }
        let name = field.metadata().get("calendar")?;
        match name.trim().to_ascii_lowercase().as_str() {
            "360_day" | "360_days" => Some(Self::Day360),
            "all_leap" | "allleap" | "366_day" | "366_days" => Some(Self::AllLeap),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AllLeap => "all_leap",
            Self::Day360 => "360_day",
        }
    }

    pub(crate) fn day_of_year(self, date: &TextDate) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335];
        let before = match self {
            Self::Day360 => (date.month - 1) * 30,
            Self::AllLeap => usize::try_from(date.month - 1)
                .ok()
                .and_then(|month| BEFORE.get(month))
                .copied()
                .unwrap_or_default(),
        };
        before + date.day
    }
}

/// A date and time as its text has it, of whatever calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextDate {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    /// Microseconds of the minute.
    pub(crate) micros: i64,
}

impl TextDate {
    /// Reads `YYYY-MM-DDThh:mm:ss` with or without six decimals; nothing else is such a date.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once('T')?;
        let (seconds, decimals) = time.split_at_checked(8)?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(seconds, ':', [2, 2, 2])?;
        let fraction = match decimals.strip_prefix('.') {
            Some(digits) => number(digits, 6)?,
            None if decimals.is_empty() => 0,
            None => return None,
        };
        let exists = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        exists.then_some(Self {
            year,
            month,
            day,
            hour,
            minute,
            micros: second * 1_000_000 + fraction,
        })
    }

    /// As [`Self::parse`], with an error that names the text.
    pub(crate) fn require(text: &str, calendar: TextCalendar) -> Result<Self> {
        Self::parse(text).ok_or_else(|| {
            exec_datafusion_err!(
                "{text:?} is not a date YYYY-MM-DDThh:mm:ss of the {} calendar",
                calendar.name()
            )
        })
    }
}

impl std::fmt::Display for TextDate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.micros / 1_000_000
        )?;
        match self.micros % 1_000_000 {
            0 => Ok(()),
            fraction => write!(f, ".{fraction:06}"),
        }
    }
}

/// Numbers of so many digits, between separators.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (value, digits) in numbers.iter_mut().zip(digits) {
        *value = number(parts.next()?, digits)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

/// Whether values of a type are text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// The text values of an argument of a text type.
pub(crate) fn texts(value: &ColumnarValue) -> Result<StringArray> {
    let array = match value {
        ColumnarValue::Array(array) => Cow::Borrowed(array),
        ColumnarValue::Scalar(scalar) => Cow::Owned(scalar.to_array()?),
    };
    let array = cast(array.as_ref(), &DataType::Utf8).map_err(DataFusionError::from)?;
    Ok(array.as_string::<i32>().clone())
}

/// An array as a result: of one value if the argument was one value.
pub(crate) fn like(value: &ColumnarValue, result: impl Array + 'static) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(_) => Ok(ColumnarValue::Array(Arc::new(result))),
        ColumnarValue::Scalar(_) => {
            ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar)
        }
    }
}

/// The type that DataFusion reads text as in the date functions.
pub(crate) const TEXT_AS: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// The fields of a stock function whose second argument is text: it gets a timestamp.
pub(crate) fn stock_fields(fields: &[FieldRef]) -> Vec<FieldRef> {
    fields
        .iter()
        .enumerate()
        .map(|(at, field)| {
            if at == 1 && is_text(field.data_type()) {
                FieldRef::new(field.as_ref().clone().with_data_type(TEXT_AS))
            } else {
                FieldRef::clone(field)
            }
        })
        .collect()
}

/// Calls a stock function, with a second argument of text as a timestamp.
pub(crate) fn invoke_stock(
    stock: &ScalarUDF,
    mut args: ScalarFunctionArgs,
) -> Result<ColumnarValue> {
    if let Some(value) = args.args.get_mut(1)
        && is_text(&value.data_type())
    {
        *value = value.cast_to(&TEXT_AS, None)?;
        args.arg_fields = stock_fields(&args.arg_fields);
    }
    stock.invoke_with_args(args)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        for text in ["2000-02-30T00:00:00", "0000-12-30T23:59:59.000001"] {
            assert_eq!(TextDate::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "2000-02-30",
            "2000-02-30 00:00:00",
            "2000-13-01T00:00:00",
            "2000-02-30T00:00:00Z",
            "2000-02-30T00:00:00.1",
            "+200-02-30T00:00:00",
            "2000-02-30T24:00:00",
            "2000-2-30T00:00:00",
            "2000-02-30T00:00:0é",
        ] {
            assert_eq!(TextDate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_of_the_year_are_those_of_the_calendar() {
        let day =
            |calendar: TextCalendar, text| calendar.day_of_year(&TextDate::parse(text).unwrap());
        // cftime: datetime(2001, 3, 1, calendar=…).dayofyr
        assert_eq!(day(TextCalendar::Day360, "2001-03-01T00:00:00"), 61);
        assert_eq!(day(TextCalendar::AllLeap, "2001-03-01T00:00:00"), 61);
        assert_eq!(day(TextCalendar::Day360, "2001-12-30T00:00:00"), 360);
        assert_eq!(day(TextCalendar::AllLeap, "2001-12-31T00:00:00"), 366);
    }
}
