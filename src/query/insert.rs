//! `INSERT INTO` a grid: rows are scattered to its cells, in one transaction.
//!
//! Rows come ordered by the dimension that grows. Values of it that are new extend it; of every other dimension only
//! values that are there have a place.

mod axis;
mod fixed;
mod options;
mod scatter;
mod window;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result as EngineResult;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::{Stream, StreamExt};

use crate::append::{Outcome, Target, Transaction};
use crate::cf::decode::DecodeOptions;
use crate::error::{Error, Result};
use crate::query::engine_error;
use crate::query::grid::{Column, Grid};

use axis::show;
use scatter::Scatter;

pub(super) use axis::Distinct;
pub use options::{Existing, InsertOptions, Missing, append_options};

/// Where the rows of a table can be inserted.
#[derive(Clone, Debug)]
pub struct InsertTarget {
    /// The dataset.
    pub target: Target,
    /// How its values are decoded, and so how they are encoded.
    pub decode: DecodeOptions,
    /// The group that the dimensions of the table belong to.
    pub group: String,
}

/// The sink of an `INSERT INTO` a grid.
#[derive(Debug)]
pub struct ArraySink {
    grid: Arc<Grid>,
    target: InsertTarget,
    options: InsertOptions,
    /// The dimension that grows.
    grows: usize,
    /// Which columns the statement gives values.
    given: Vec<bool>,
    /// Whether the dataset is made by the same transaction: its coordinates are those of the grid, and nothing is stored.
    is_new: bool,
    /// The columns of rows; that a coordinate must not be NULL is found, and said, where its place is looked for.
    rows: SchemaRef,
}

impl ArraySink {
    /// The sink of rows of `grid`; `given` tells for each column whether the statement names it.
    ///
    /// # Errors
    /// `Invalid` when the table has no dimension that could grow.
    pub fn new(
        grid: Arc<Grid>,
        target: InsertTarget,
        options: InsertOptions,
        given: Vec<bool>,
    ) -> Result<Self> {
        let position = |name: &str| grid.axes.iter().position(|axis| axis.name == name);
        let grows = match &options.dimension {
            Some(name) => position(name).ok_or_else(|| {
                Error::Invalid(format!(
                    "{}: there is no dimension {name} that hyperslab.append_dim names",
                    grid.name
                ))
            })?,
            None => position("time").unwrap_or(0),
        };
        if grid.axes.is_empty() {
            return Err(Error::Invalid(format!(
                "{}: a table without dimensions has one row, and cannot take more",
                grid.name
            )));
        }
        let fields = grid.schema.fields().iter();
        let fields: Vec<_> = fields
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        Ok(Self {
            rows: Arc::new(Schema::new(fields)),
            grid,
            target,
            options,
            grows,
            given,
            is_new: false,
        })
    }

    /// The sink of rows of a dataset that is just being made, whose first dimension grows.
    pub(super) fn of_new(grid: Arc<Grid>, target: InsertTarget, options: InsertOptions) -> Self {
        let given = vec![true; grid.columns.len()];
        Self {
            rows: Arc::clone(&grid.schema),
            grid,
            target,
            options,
            grows: 0,
            given,
            is_new: true,
        }
    }

    /// The column by which rows have to be ordered, and how.
    #[must_use]
    pub fn order(&self) -> (usize, SortOptions) {
        let descending = self
            .grid
            .axes
            .get(self.grows)
            .and_then(|axis| axis.order)
            .is_some_and(|order| order.descending && order.strict);
        let order = SortOptions {
            descending,
            nulls_first: true,
        };
        (self.column_of(self.grows).unwrap_or(0), order)
    }

    /// The column with the coordinates of a dimension.
    fn column_of(&self, axis: usize) -> Option<usize> {
        (0..self.grid.columns.len()).find(|column| match self.grid.columns.get(*column) {
            Some(Column::Coordinate { axis: of } | Column::Index { axis: of }) => *of == axis,
            Some(Column::Variable(variable)) => {
                let is_dimension = self
                    .grid
                    .axes
                    .get(axis)
                    .is_some_and(|axis| axis.name == variable.variable.name);
                is_dimension && variable.axes == [axis]
            }
            Some(Column::Derived { .. }) | None => false,
        })
    }

    async fn insert(
        &self,
        rows: SendableRecordBatchStream,
        memory: &mut MemoryReservation,
    ) -> EngineResult<u64> {
        let begun = self.target.target.begin(self.options.append).await;
        let transaction = begun.map_err(engine_error)?;
        let operation = match self.options.existing {
            Existing::Replace => "replace",
            Existing::Error | Existing::Skip => "append",
        };
        self.run(transaction, rows, memory, operation).await
    }

    /// Scatters rows within a transaction, and ends it.
    pub(super) async fn run(
        &self,
        mut transaction: Transaction,
        mut rows: impl Stream<Item = EngineResult<RecordBatch>> + Unpin,
        memory: &mut MemoryReservation,
        operation: &str,
    ) -> EngineResult<u64> {
        let inserted = async {
            let mut scatter = Scatter::new(self, &mut transaction, memory).await?;
            let mut count = 0;
            while let Some(batch) = rows.next().await {
                count += scatter
                    .take(&mut transaction, &batch?)
                    .await
                    .map_err(engine_error)?;
            }
            scatter
                .finish(&mut transaction)
                .await
                .map_err(engine_error)?;
            Ok(count)
        };
        let count = match inserted.await {
            Ok(count) => count,
            Err(error) => {
                // What is left is removed by the next writer; the error that led here is worth more.
                let _ = transaction.abandon().await;
                return Err(error);
            }
        };
        match transaction.commit(operation).await.map_err(engine_error)? {
            Outcome::Committed { .. } => Ok(count),
            Outcome::Conflict => Err(engine_error(Error::Conflict(format!(
                "{}: another program has changed the dataset meanwhile; nothing was inserted, try again",
                self.target.target.store().location()
            )))),
        }
    }
}

#[async_trait]
impl DataSink for ArraySink {
    fn schema(&self) -> &SchemaRef {
        &self.rows
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> EngineResult<u64> {
        let mut memory = MemoryConsumer::new(format!("ArrayInsert({})", self.grid.name))
            .register(context.memory_pool());
        self.insert(data, &mut memory).await
    }
}

impl DisplayAs for ArraySink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ArrayInsert({}, along={}, existing={:?}, missing={:?})",
            self.grid.name,
            self.growing(),
            self.options.existing,
            self.options.missing
        )
    }
}

impl ArraySink {
    /// The name of the dimension that grows.
    fn growing(&self) -> &str {
        let axis = self.grid.axes.get(self.grows);
        axis.map_or("", |axis| axis.name.as_str())
    }

    /// The coordinates of a cell of a slice, as messages show them.
    fn place(&self, cell: usize) -> String {
        let mut rest = cell;
        let mut parts = Vec::new();
        for (at, axis) in self.grid.axes.iter().enumerate().rev() {
            if at == self.grows {
                continue;
            }
            let length = usize::try_from(axis.length).unwrap_or(usize::MAX).max(1);
            let index = rest % length;
            rest /= length;
            let value = match &axis.values {
                Some(values) => show(values, index),
                None => index.to_string(),
            };
            parts.push(format!(", {} {value}", axis.name));
        }
        parts.reverse();
        parts.concat()
    }
}
