//! Rows of a dataset of several files: those of values that no file has become a new, complete file.
//!
//! ```text
//! lock      of one of the files, so that who adds another one has seen all that are there
//! rows      without those that are there already (an error, or left out)
//! create    a dataset like the others: what does not grow is copied, the coordinates of the rest are those of the grid
//! commit    the file appears with all of its rows, or not at all
//! ```

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use async_trait::async_trait;
use datafusion::common::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::{StreamExt, stream};

use super::axis::{Coordinates, Found, check_order};
use super::{ArraySink, Existing, Head, Start};
use crate::append::{IfExists, OldCells, Region, Target, Transaction};
use crate::array::Variable;
use crate::array::blueprint::Blueprint;
use crate::array::hyperslab::Selection;
use crate::array::slab::SlabData;
use crate::error::{Error, Result, Within};
use crate::query::engine_error;
use crate::query::show;
use crate::read::{self, Buffers};
use crate::store::Store;
use crate::store::lock::Lock;

/// Several files that are one dataset.
#[async_trait]
pub trait Files: Debug + Send + Sync {
    /// Where those who add files wait for each other.
    fn lock(&self) -> &Store;

    /// The files as they are now.
    ///
    /// # Errors
    /// As opening them.
    async fn now(&self) -> Result<Present>;

    /// Where a file is made whose first coordinate is written `name`.
    ///
    /// # Errors
    /// `Unsupported` when nothing tells its name.
    fn place(&self, name: &str) -> Result<Target>;
}

/// The files of a dataset, as far as a file that continues them has to know them.
#[derive(Clone, Debug)]
pub struct Present {
    /// The dimension along which files follow each other.
    pub dimension: String,
    /// Its coordinates in all files; `None` where the index is the coordinate.
    pub values: Option<ArrayRef>,
    /// What a file is to be that continues them.
    pub blueprint: Blueprint,
    /// The variables that do not grow, and where they are stored.
    pub fixed: Vec<Arc<Variable>>,
    /// Where the variables that do not grow are stored.
    pub store: Store,
}

impl ArraySink {
    /// Inserts rows by a file of their own.
    pub(super) async fn add_file(
        &self,
        files: &dyn Files,
        rows: SendableRecordBatchStream,
        memory: &mut MemoryReservation,
    ) -> EngineResult<u64> {
        if matches!(
            self.options.existing,
            Existing::Replace | Existing::Overwrite
        ) {
            return Err(engine_error(Error::Unsupported(format!(
                "{}: cells are replaced in the file that has them: REPLACE INTO that file",
                self.target.target.store().location()
            ))));
        }
        let lock = Lock::acquire(files.lock(), self.options.append.lock).await;
        let lock = lock.map_err(engine_error)?;
        let inserted = self.add_locked(files, rows, memory).await;
        let released = lock.release().await;
        let count = inserted?;
        released.map_err(engine_error)?;
        Ok(count)
    }

    async fn add_locked(
        &self,
        files: &dyn Files,
        rows: SendableRecordBatchStream,
        memory: &mut MemoryReservation,
    ) -> EngineResult<u64> {
        let present = files.now().await.map_err(engine_error)?;
        let column = self.column_of(self.grows).unwrap_or(0);
        let mut newcomers = self.newcomers(&present).map_err(engine_error)?;
        let rows = rows.map(move |batch| newcomers.of(&batch?, column).map_err(engine_error));
        let mut rows = rows.boxed();
        let head = Head::take(&mut rows, column, memory).await?;
        let Some(first) = head.batches.first().map(|batch| batch.column(column)) else {
            return Ok(0);
        };
        let target = files.place(&name(first)).map_err(engine_error)?;
        let created = target.create(&present.blueprint, IfExists::Refuse, self.options.append);
        let mut transaction = created.await.map_err(engine_error)?;
        let sink = match self.continued(&mut transaction, &present).await {
            Ok(sink) => sink,
            Err(error) => {
                let _ = transaction.abandon().await;
                return Err(engine_error(error));
            }
        };
        let rows = stream::iter(head.batches.into_iter().map(Ok)).chain(rows);
        sink.run(transaction, rows.boxed(), memory, "append").await
    }

    /// Who knows which rows are there already.
    fn newcomers(&self, present: &Present) -> Result<Newcomers> {
        let place = || self.target.target.store().location().to_owned();
        let growing = self.growing();
        if present.dimension != growing {
            return Err(Error::Unsupported(format!(
                "{}: files follow each other along {}, and no file can be added along {growing}",
                place(),
                present.dimension
            )));
        }
        let values = present.values.clone().ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: rows cannot tell which of them are new, because {growing} has no coordinate",
                place()
            ))
        })?;
        let length = values.len() as u64;
        Ok(Newcomers {
            name: growing.to_owned(),
            coordinates: Coordinates::new(growing, length, Some(&values))?,
            last: values.slice(values.len().saturating_sub(1), values.len().min(1)),
            order: self.order().1,
            existing: self.options.existing,
        })
    }

    /// The same insertion into a file that is just being made, with what does not grow already in it.
    async fn continued(&self, transaction: &mut Transaction, present: &Present) -> Result<Self> {
        for variable in &present.fixed {
            copy(transaction, &present.store, variable)
                .await
                .within(|| &variable.path)?;
        }
        let mut grid = self.grid.as_ref().clone();
        if let Some(axis) = grid.axes.get_mut(self.grows) {
            axis.length = 0;
            axis.values = axis.values.as_ref().map(|values| values.slice(0, 0));
        }
        let start = Start::Continued(present.store.clone(), present.fixed.clone());
        Ok(self.beginning(grid, transaction, start))
    }
}

/// Tells rows whose value of the dimension that grows is new from those that a file has.
struct Newcomers {
    name: String,
    coordinates: Coordinates,
    /// The last value that is there.
    last: ArrayRef,
    order: arrow::compute::SortOptions,
    existing: Existing,
}

impl Newcomers {
    /// The rows of a batch that are new.
    fn of(&mut self, batch: &RecordBatch, column: usize) -> Result<RecordBatch> {
        let values = batch.column(column);
        let bits = self.coordinates.bits(values)?;
        let mut keep = Vec::with_capacity(bits.len());
        let mut before: Option<(u64, bool)> = None;
        for (row, bits) in bits.into_iter().enumerate() {
            if let Some((last, is_new)) = before
                && last == bits
            {
                keep.push(is_new);
                continue;
            }
            let is_new = self.coordinates.find(bits, 0) == Found::New;
            if is_new {
                if !self.last.is_empty() {
                    let place = "in the files";
                    check_order(&self.name, (values, row), &self.last, self.order, place)?;
                }
            } else if self.existing != Existing::Skip {
                return Err(Error::Invalid(format!(
                    "{} {} is there already; REPLACE INTO the file that has it replaces its cells, and \
                     SET hyperslab.insert_existing = 'skip' leaves such rows out",
                    self.name,
                    show(values, row)
                )));
            }
            before = Some((bits, is_new));
            keep.push(is_new);
        }
        if keep.iter().all(|keep| *keep) {
            return Ok(batch.clone());
        }
        filter_record_batch(batch, &BooleanArray::from(keep))
            .map_err(|error| Error::Invalid(error.to_string()))
    }
}

/// Copies all cells of a variable as they are stored.
async fn copy(
    transaction: &mut Transaction,
    store: &Store,
    variable: &Arc<Variable>,
) -> Result<()> {
    let selection = Selection::all(variable.shape());
    let slab = read::read(store, variable, selection, &mut Buffers::default()).await?;
    let SlabData::Fixed(cells) = slab.data else {
        return Err(Error::Unsupported(
            "text of any length cannot be written".to_owned(),
        ));
    };
    if slab.cells == 0 {
        return Ok(());
    }
    transaction
        .write(Region {
            variable: variable.path.clone(),
            start: vec![0; variable.shape().len()],
            shape: variable.shape().to_vec(),
            cells: cells.to_vec(),
            old: OldCells::Kept,
        })
        .await
}

/// The first value of a column as part of the name of a file: dates without what separates their parts, and without a
/// time of day that is midnight.
fn name(values: &ArrayRef) -> String {
    let micros = match values.data_type() {
        DataType::Timestamp(..) => cast(
            values,
            &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
        )
        .ok(),
        _ => None,
    };
    let time = micros.and_then(|micros| {
        let value = micros.as_primitive::<TimestampMicrosecondType>().value(0);
        timestamp_us_to_datetime(value)
    });
    if let Some(time) = time {
        let text = time.format("%Y%m%dT%H%M%S").to_string();
        return text.strip_suffix("T000000").unwrap_or(&text).to_owned();
    }
    let text = show(values, 0);
    let text = match values.data_type() {
        // Dates of calendars that have no timestamps.
        DataType::Utf8 => text.replace([':', '-'], ""),
        _ => text,
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    text.chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect()
}
