//! `COPY TO` a dataset: rows become a new grid, in one transaction.
//!
//! Rows come ordered by the first dimension. Those of its first value tell the coordinates of the others; from then on it
//! is an `INSERT` into a dataset of length 0.

pub mod empty;
pub mod spec;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_empty_array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result as EngineResult;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexRequirement, PhysicalSortRequirement};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::{StreamExt, stream};

use crate::append::{IfExists, Target, Transaction};
use crate::array::blueprint::Blueprint;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::error::{Error, Result};
use crate::query::engine_error;
use crate::query::grid::{Axis, Column, Grid, VariableColumn, axis_order};
use crate::query::insert::{ArraySink, Head, InsertOptions, InsertTarget};

use spec::{Shape, Spec};

/// How coordinates are ordered, by which the first dimension comes.
const ORDER: SortOptions = SortOptions {
    descending: false,
    nulls_first: true,
};

/// The sink of a `COPY TO` a dataset.
#[derive(Debug)]
pub struct CopySink {
    target: Target,
    spec: Spec,
    shape: Shape,
    schema: SchemaRef,
    options: InsertOptions,
}

impl CopySink {
    /// The plan that writes the rows of `input` to a new dataset at `target`, with these options of the statement.
    ///
    /// # Errors
    /// As [`Spec::parse`] and [`Spec::shape`].
    pub fn plan(
        input: Arc<dyn ExecutionPlan>,
        target: Target,
        statement: &HashMap<String, String>,
        options: InsertOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = input.schema();
        let spec = Spec::parse(statement)?;
        let shape = spec.shape(&schema)?;
        let first = shape.dims.first().copied().unwrap_or(0);
        let name = schema.field(first).name();
        let order =
            PhysicalSortRequirement::new(Arc::new(PhysicalColumn::new(name, first)), Some(ORDER));
        let sink = Self {
            target,
            spec,
            shape,
            schema: Arc::clone(&schema),
            options,
        };
        let order = LexRequirement::new(vec![order]);
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    async fn copy(
        &self,
        mut rows: SendableRecordBatchStream,
        memory: &mut MemoryReservation,
    ) -> EngineResult<u64> {
        let first = self.shape.dims.first().copied().unwrap_or(0);
        let head = Head::take(&mut rows, first, memory).await?;
        let coordinates = self.coordinates(&head).map_err(engine_error)?;
        let blueprint = self
            .blueprint(&head.batches, &coordinates)
            .map_err(engine_error)?;
        let append = self.options.append();
        let created = self.target.create(&blueprint, IfExists::Refuse, append);
        let transaction = created.await.map_err(engine_error)?;
        let sink = match self.sink(&transaction, coordinates) {
            Ok(sink) => sink,
            Err(error) => {
                transaction.abandon().await.map_err(engine_error)?;
                return Err(engine_error(error));
            }
        };
        let rows = stream::iter(head.batches.into_iter().map(Ok)).chain(rows);
        sink.run(transaction, rows.boxed(), memory, "copy").await
    }

    /// The coordinates of each dimension; of the first one, which is yet to grow, none.
    fn coordinates(&self, head: &Head) -> Result<Vec<ArrayRef>> {
        let dims = self.shape.dims.iter().enumerate();
        dims.map(|(axis, column)| {
            let field = self.schema.field(*column);
            let empty = new_empty_array(&unpacked(field.data_type()));
            match axis {
                0 => Ok(empty),
                _ => head.coordinates(field.name(), *column, &empty),
            }
        })
        .collect()
    }

    fn blueprint(&self, head: &[RecordBatch], coordinates: &[ArrayRef]) -> Result<Blueprint> {
        let lengths: Vec<u64> = coordinates
            .iter()
            .map(|values| values.len() as u64)
            .collect();
        let text = |column: usize| {
            let axis = self.shape.dims.iter().position(|dim| *dim == column);
            let known = axis.and_then(|axis| coordinates.get(axis)).map(longest);
            let first = head
                .iter()
                .filter_map(|batch| longest(batch.column(column)));
            let first = first.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
            let name = self.schema.field(column).name();
            let told = self.spec.width(name).map(|width| (width, width));
            let (characters, bytes) = told.or(known.unwrap_or(first))?;
            Some(self.target.text_element(characters, bytes))
        };
        self.spec
            .blueprint(&self.schema, &self.shape, &lengths, &text)
    }

    /// The insertion into the dataset that is being made.
    fn sink(&self, transaction: &Transaction, coordinates: Vec<ArrayRef>) -> Result<ArraySink> {
        let decode = DecodeOptions {
            decode: true,
            nan_as_null: true,
            default_fill: transaction.dataset().has_netcdf_fills(),
        };
        let store = self.target.store();
        let mut columns: Vec<Column> = Vec::with_capacity(self.schema.fields().len());
        for (at, field) in self.schema.fields().iter().enumerate() {
            if let Some(axis) = self.shape.dims.iter().position(|dim| *dim == at) {
                columns.push(Column::Coordinate { axis });
                continue;
            }
            let variables = &transaction.dataset().root.variables;
            let variable = variables
                .iter()
                .find(|variable| variable.name == *field.name());
            let variable = variable
                .ok_or_else(|| Error::Invalid(format!("variable {} was not made", field.name())))?;
            let axes = self
                .shape
                .variables
                .iter()
                .find(|(column, _)| *column == at);
            columns.push(Column::Variable(VariableColumn {
                decoding: Arc::new(Decoding::new(variable, &decode)?),
                variable: Arc::clone(variable),
                store: store.clone(),
                axes: axes.map(|(_, axes)| axes.clone()).unwrap_or_default(),
                alignment: None,
                members: None,
            }));
        }
        let axes: Vec<Axis> = self
            .shape
            .dims
            .iter()
            .zip(coordinates)
            .map(|(column, values)| Axis {
                name: self.schema.field(*column).name().clone(),
                length: values.len() as u64,
                order: axis_order(&values),
                values: Some(values),
            })
            .collect();
        let grid = Grid {
            name: store.stem().to_owned(),
            store: store.clone(),
            window: Selection {
                dims: axes.iter().map(|axis| IndexSet::all(axis.length)).collect(),
            },
            axes,
            columns,
            schema: Arc::clone(&self.schema),
        };
        let target = InsertTarget {
            target: self.target.clone(),
            decode,
            group: String::new(),
            files: None,
        };
        Ok(ArraySink::of_new(
            Arc::new(grid),
            target,
            self.options.clone(),
        ))
    }
}

#[async_trait]
impl DataSink for CopySink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> EngineResult<u64> {
        let mut memory = MemoryConsumer::new("ArrayCopy").register(context.memory_pool());
        self.copy(data, &mut memory).await
    }
}

impl DisplayAs for CopySink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |column: &usize| self.schema.field(*column).name().as_str();
        let dims: Vec<&str> = self.shape.dims.iter().map(name).collect();
        let location = self.target.store().location();
        write!(f, "ArrayCopy({location}, dims=[{}])", dims.join(", "))
    }
}

/// The type in which values of a dimension are kept: dictionaries and views unpacked.
fn unpacked(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => unpacked(values),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => other.clone(),
    }
}

/// The most characters and the most bytes of a text of a column; `None` for a column that is none of text.
fn longest(column: &ArrayRef) -> Option<(u32, u32)> {
    let texts = match unpacked(column.data_type()) {
        DataType::Utf8 => cast(column, &DataType::Utf8).ok()?,
        _ => return None,
    };
    let texts = || texts.as_string::<i32>().iter().flatten();
    let characters = texts().map(|text| text.chars().count()).max();
    let bytes = texts().map(str::len).max();
    let number = |longest: Option<usize>| u32::try_from(longest.unwrap_or(1)).ok();
    Some((number(characters)?, number(bytes)?))
}
