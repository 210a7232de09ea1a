//! `INSERT INTO` a grid: rows are scattered to its cells, in one transaction.
//!
//! Rows come ordered by the dimension that grows. Values of it that are new extend it; of every other dimension only
//! values that are there have a place.

mod axis;
mod files;
mod fixed;
mod head;
mod options;
mod scatter;
mod window;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result as EngineResult;
use datafusion::datasource::sink::DataSink;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::{Stream, StreamExt, stream};

use crate::append::{Outcome, Target, Transaction};
use crate::array::Variable;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::cf::decode::DecodeOptions;
use crate::error::{Error, Result};
use crate::query::engine_error;
use crate::query::grid::{Axis, Column, Grid, axis_order};
use crate::query::show;
use crate::store::Store;

use scatter::Scatter;

pub use files::{Files, Present};
pub(super) use head::Head;
pub use options::{Existing, InsertOptions, Missing, append_options};
pub(super) use window::extend as write_coordinate;

/// Where the rows of a table can be inserted.
#[derive(Clone, Debug)]
pub struct InsertTarget {
    /// The dataset.
    pub target: Target,
    /// How its values are decoded, and so how they are encoded.
    pub decode: DecodeOptions,
    /// The group that the dimensions of the table belong to.
    pub group: String,
    /// The files that it is made of, if it is several: rows become another one.
    pub files: Option<Arc<dyn Files>>,
}

/// What is there before rows come.
#[derive(Clone, Debug)]
enum Start {
    /// A dataset, whose coordinates are read.
    There,
    /// Nothing: the same transaction makes the dataset, or gives dimensions their first indices. The coordinates are those
    /// of the grid.
    New,
    /// What does not grow: these variables, which the same transaction has copied from there. The coordinates are those of
    /// the grid.
    Continued(Store, Vec<Arc<Variable>>),
}

/// The sink of an `INSERT INTO` a grid.
#[derive(Clone, Debug)]
pub struct ArraySink {
    grid: Arc<Grid>,
    target: InsertTarget,
    options: InsertOptions,
    /// The dimension that grows.
    grows: usize,
    /// Which columns the statement gives values.
    given: Vec<bool>,
    /// What is there before.
    start: Start,
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
            start: Start::There,
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
            start: Start::New,
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
        if let Some(files) = &self.target.files {
            return self.add_file(files.as_ref(), rows, memory).await;
        }
        let begun = self.target.target.begin(self.options.append).await;
        let transaction = begun.map_err(engine_error)?;
        let operation = match self.options.existing {
            Existing::Replace => "replace",
            Existing::Overwrite => "overwrite",
            Existing::Error | Existing::Skip => "append",
        };
        let is_undefined = |(at, axis): (usize, &Axis)| at != self.grows && axis.length == 0;
        if self.grid.axes.iter().enumerate().any(is_undefined) {
            return self.define(transaction, rows, memory, operation).await;
        }
        self.run(transaction, rows, memory, operation).await
    }

    /// Inserts rows where dimensions that do not grow have no coordinates yet: those of the first slice become theirs.
    async fn define(
        &self,
        mut transaction: Transaction,
        mut rows: SendableRecordBatchStream,
        memory: &mut MemoryReservation,
        operation: &str,
    ) -> EngineResult<u64> {
        let (column, _) = self.order();
        let head = match Head::take(&mut rows, column, memory).await {
            Ok(head) => head,
            Err(error) => {
                let _ = transaction.abandon().await;
                return Err(error);
            }
        };
        let sink = match self.defined(&mut transaction, &head) {
            Ok(sink) => sink,
            Err(error) => {
                let _ = transaction.abandon().await;
                return Err(engine_error(error));
            }
        };
        let rows = stream::iter(head.batches.into_iter().map(Ok)).chain(rows);
        sink.run(transaction, rows.boxed(), memory, operation).await
    }

    /// The same insertion, with the dimensions that the first rows tell.
    fn defined(&self, transaction: &mut Transaction, head: &Head) -> Result<Self> {
        let mut grid = self.grid.as_ref().clone();
        for (at, axis) in grid.axes.iter_mut().enumerate() {
            if at == self.grows || axis.length > 0 {
                continue;
            }
            let column = self.column_of(at).ok_or_else(|| {
                Error::Unsupported(format!("{}: no column tells {}", self.grid.name, axis.name))
            })?;
            let index: ArrayRef = Arc::new(Int64Array::new_null(0));
            let empty = axis.values.as_ref().unwrap_or(&index);
            let values = head.coordinates(&axis.name, column, empty)?;
            axis.length = values.len() as u64;
            if axis.values.is_some() {
                axis.order = axis_order(&values);
                axis.values = Some(values);
            }
            if axis.length > 0 {
                let group = transaction
                    .dataset()
                    .dimension(&self.target.group, &axis.name)
                    .map(|(group, _)| group.path.clone());
                transaction.define(&group.unwrap_or_default(), &axis.name, axis.length)?;
            }
        }
        Ok(self.beginning(grid, transaction, Start::New))
    }

    /// The same insertion where `start` is there before, into the variables of the dataset that is being made.
    fn beginning(&self, mut grid: Grid, transaction: &Transaction, start: Start) -> Self {
        grid.window = Selection {
            dims: grid
                .axes
                .iter()
                .map(|axis| IndexSet::all(axis.length))
                .collect(),
        };
        let groups = transaction.dataset().root.walk();
        for column in &mut grid.columns {
            let Column::Variable(column) = column else {
                continue;
            };
            let mut variables = groups.iter().flat_map(|group| &group.variables);
            let path = &column.variable.path;
            if let Some(variable) = variables.find(|variable| variable.path == *path) {
                column.variable = Arc::clone(variable);
                column.members = None;
            }
        }
        Self {
            grid: Arc::new(grid),
            start,
            ..self.clone()
        }
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
