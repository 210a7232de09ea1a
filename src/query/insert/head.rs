//! The rows of the first value of the dimension that grows: they tell the coordinates of the others.

use arrow::array::{Array, ArrayRef, RecordBatch, make_comparator};
use arrow::compute::{SortOptions, cast, sort};
use datafusion::common::Result as EngineResult;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::{Stream, StreamExt};

use super::axis::Distinct;
use crate::error::{Error, Result};
use crate::query::engine_error;
use crate::query::grid::axis_order;

/// How coordinates are ordered that rows tell, if they come in no order.
const ORDER: SortOptions = SortOptions {
    descending: false,
    nulls_first: true,
};

/// The first batches of rows that come ordered by one column, up to the first with another value of it.
#[derive(Debug)]
pub(in crate::query) struct Head {
    pub(in crate::query) batches: Vec<RecordBatch>,
    /// How many rows of each have the first value.
    rows: Vec<usize>,
}

impl Head {
    /// Takes them from `rows`, which are ordered by `column`.
    pub(in crate::query) async fn take(
        rows: &mut (impl Stream<Item = EngineResult<RecordBatch>> + Unpin),
        column: usize,
        memory: &mut MemoryReservation,
    ) -> EngineResult<Self> {
        let mut head = Self {
            batches: Vec::new(),
            rows: Vec::new(),
        };
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            memory.try_grow(batch.get_array_memory_size())?;
            let front = head.batches.first().unwrap_or(&batch);
            let same = leading(front.column(column), batch.column(column)).map_err(engine_error)?;
            let is_all = same == batch.num_rows();
            head.rows.push(same);
            head.batches.push(batch);
            if !is_all {
                break;
            }
        }
        Ok(head)
    }

    /// The coordinates that these rows have in a column, as values of the type of `empty`: in their order, if that is one,
    /// else sorted.
    ///
    /// # Errors
    /// `Invalid` when a value is NULL or of another type.
    pub(in crate::query) fn coordinates(
        &self,
        name: &str,
        column: usize,
        empty: &ArrayRef,
    ) -> Result<ArrayRef> {
        let mut distinct = Distinct::new(name, empty)?;
        for (batch, rows) in self.batches.iter().zip(&self.rows) {
            let values = batch.column(column).slice(0, *rows);
            distinct.add(&cast(&values, empty.data_type()).map_err(|e| invalid(&e))?)?;
        }
        let values = distinct
            .values()?
            .unwrap_or_else(|| std::sync::Arc::clone(empty));
        // Rows that were sorted by the first dimension may have lost the order of the others.
        match axis_order(&values) {
            Some(_) => Ok(values),
            None => sort(&values, Some(ORDER)).map_err(|e| invalid(&e)),
        }
    }
}

/// How many of the first values are the first one of `front`.
fn leading(front: &ArrayRef, values: &ArrayRef) -> Result<usize> {
    let compare = make_comparator(front, values, ORDER).map_err(|e| invalid(&e))?;
    let other = (0..values.len()).find(|row| compare(0, *row).is_ne());
    Ok(other.unwrap_or(values.len()))
}

fn invalid(error: &impl ToString) -> Error {
    Error::Invalid(error.to_string())
}
