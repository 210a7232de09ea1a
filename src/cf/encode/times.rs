//! Times: how dates are stored as numbers of time units.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, ToByteSlice,
};

use crate::cf::calendar::DAY;
use crate::cf::encode::cast_exactly;
use crate::cf::encode::cells::{Cells, no_null};
use crate::cf::encode::stored::Stored;
use crate::cf::number::Number;
use crate::cf::packing::Packing;
use crate::cf::time::{Count, TimeUnits};
use crate::error::{Error, Result};

/// Appends the elements for the dates of `column`: timestamps in UTC or without a zone, dates, or ISO-8601 text.
pub(super) fn encode<T: Stored>(
    column: &ArrayRef,
    units: &TimeUnits,
    packing: Option<Packing>,
    cells: &Cells<T>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let axis = Axis {
        units,
        packing,
        cells,
    };
    match column.data_type() {
        DataType::Timestamp(unit, zone) if is_utc(zone.as_deref()) => match unit {
            TimeUnit::Second => axis.labels::<TimestampSecondType>(column, 1_000_000, 1, out),
            TimeUnit::Millisecond => axis.labels::<TimestampMillisecondType>(column, 1_000, 1, out),
            TimeUnit::Microsecond => axis.labels::<TimestampMicrosecondType>(column, 1, 1, out),
            TimeUnit::Nanosecond => axis.labels::<TimestampNanosecondType>(column, 1, 1_000, out),
        },
        DataType::Date32 => axis.labels::<Date32Type>(column, DAY, 1, out),
        DataType::Date64 => axis.labels::<Date64Type>(column, 1_000, 1, out),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast_exactly(column, &DataType::Utf8)?;
            for text in texts.as_string::<i32>() {
                let instant = text.map(|text| units.instant_of_text(text)).transpose()?;
                axis.put(instant, out)?;
            }
            Ok(())
        }
        other => Err(Error::Invalid(format!(
            "a column of type {other} cannot be stored as times in {:?}: timestamps in UTC, dates and ISO-8601 text can",
            units.units
        ))),
    }
}

fn is_utc(zone: Option<&str>) -> bool {
    zone.is_none_or(|zone| ["UTC", "Z", "+00:00", "GMT"].contains(&zone))
}

/// A variable of times.
struct Axis<'a, T: Stored> {
    units: &'a TimeUnits,
    packing: Option<Packing>,
    cells: &'a Cells<T>,
}

impl<T: Stored> Axis<'_, T> {
    /// Stores timestamps of `factor / divisor` microseconds.
    fn labels<A: ArrowPrimitiveType<Native: Into<i64>>>(
        &self,
        column: &ArrayRef,
        factor: i64,
        divisor: i64,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let labels: &PrimitiveArray<A> = column.as_primitive();
        out.reserve(size_of::<T>().saturating_mul(labels.len()));
        for label in labels {
            let instant = label
                .map(|label| {
                    let label: i64 = label.into();
                    let micros = label
                        .checked_mul(factor)
                        .filter(|micros| micros % divisor == 0)
                        .ok_or_else(|| unreadable(label, factor))?;
                    self.units.instant_of_label(micros / divisor)
                })
                .transpose()?;
            self.put(instant, out)?;
        }
        Ok(())
    }

    fn put(&self, instant: Option<i64>, out: &mut Vec<u8>) -> Result<()> {
        let element = match instant {
            Some(instant) => self.element(instant)?,
            None => self.cells.null.ok_or_else(no_null)?,
        };
        out.extend_from_slice([element].to_byte_slice());
        Ok(())
    }

    /// The element that is decoded to `instant`.
    fn element(&self, instant: i64) -> Result<T> {
        let (element, fits) = match self.packing {
            None if T::INTEGER => match self.units.whole_count(instant) {
                Some(count) => T::from_integer(count),
                None => {
                    return Err(self.fail(
                        instant,
                        &format!(
                            "it is not a whole number of units, which takes a resolution of {}",
                            self.units.resolution(instant)
                        ),
                    ));
                }
            },
            None => T::nearest(self.units.nearest_count(instant)),
            Some(packing) => {
                let (scale, offset) = packing.factors();
                T::nearest((self.units.nearest_count(instant) - offset) / scale)
            }
        };
        if !fits {
            let (low, high) = T::range();
            return Err(self.fail(
                instant,
                &format!(
                    "{}the number {} is outside of {low:?} to {high:?}",
                    if self.packing.is_some() {
                        "before packing, "
                    } else {
                        ""
                    },
                    self.units.nearest_count(instant)
                ),
            ));
        }
        let element = [element]
            .into_iter()
            .chain(element.neighbours())
            .find(|element| self.units.reads_as(self.count(*element), instant))
            .ok_or_else(|| {
                let reads = self.units.instant(self.count(element)).map_or_else(
                    |_| "nothing".into(),
                    |instant| self.units.show(instant),
                );
                self.fail(
                    instant,
                    &format!(
                        "the nearest number {element:?} reads back as {reads}, and it takes a resolution of {}",
                        self.units.resolution(instant)
                    ),
                )
            })?;
        self.cells
            .check(element, || format!("time {}", self.units.show(instant)))?;
        Ok(element)
    }

    /// What decoding makes of an element.
    fn count(&self, element: T) -> Count {
        let number = element.number();
        match self.packing {
            None => number.to_count(),
            Some(packing) => packing.count(number.to_f64()),
        }
    }

    fn fail(&self, instant: i64, why: &str) -> Error {
        Error::Invalid(format!(
            "time {} cannot be stored as {} of {:?}: {why}",
            self.units.show(instant),
            self.cells.number.name(),
            self.units.units
        ))
    }
}

/// A timestamp that no timestamp in microseconds equals.
fn unreadable(label: i64, factor: i64) -> Error {
    Error::Invalid(if factor == 1 {
        format!(
            "timestamp {label} in nanoseconds is no whole number of microseconds, which times are read back in"
        )
    } else {
        format!("timestamp {label} of {factor} microseconds each is out of the range of timestamps")
    })
}
