//! Rows of batches on their way to the cells of variables.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::common::Result as EngineResult;
use datafusion::execution::memory_pool::MemoryReservation;

use super::axis::{Coordinates, Found, check_order};
use super::fixed::Fixed;
use super::options::{Existing, Missing};
use super::window::{self, Gathered, Segment};
use super::{ArraySink, Start};
use crate::append::Transaction;
use crate::array::{Dataset, Variable};
use crate::cf::encode::Encoding;
use crate::error::{Error, Result};
use crate::query::engine_error;
use crate::query::grid::Column;
use crate::query::show;
use crate::read::{self, Buffers};

/// Rows on their way to cells.
pub(super) struct Scatter<'a> {
    sink: &'a ArraySink,
    /// For each dimension, its column and the places of its values.
    axes: Vec<(usize, Coordinates)>,
    /// The coordinate variable of the dimension that grows, where there is one.
    coordinate: Option<(Arc<Variable>, Encoding)>,
    /// The variables along the dimension that grows, and their columns.
    gathered: Vec<(usize, Gathered)>,
    /// The variables that do not grow, with what they hold, and their columns.
    fixed: Vec<(usize, Fixed)>,
    /// Length of the dimension that grows, before.
    before: u64,
    /// The group that it belongs to.
    group: String,
    /// The last value of it, as it stands before.
    last: Option<ArrayRef>,
    /// The slice whose rows are just coming.
    slice: Option<Slice>,
    /// Whether a new slice has cells without a row.
    has_gaps: bool,
}

/// Cells of one slice that have got a value.
struct Slice {
    index: u64,
    /// As messages show it.
    value: String,
    count: usize,
    set: Vec<bool>,
}

impl<'a> Scatter<'a> {
    pub(super) async fn new(
        sink: &'a ArraySink,
        transaction: &mut Transaction,
        memory: &mut MemoryReservation,
    ) -> EngineResult<Self> {
        let scatter = Self::open(sink, transaction).await.map_err(engine_error)?;
        let windows = scatter
            .gathered
            .iter()
            .map(|(_, gathered)| gathered.memory());
        let slice = scatter.cells();
        // Once gathered, once encoded.
        memory.try_grow(
            windows
                .sum::<usize>()
                .saturating_mul(2)
                .saturating_add(slice),
        )?;
        Ok(scatter)
    }

    async fn open(sink: &'a ArraySink, transaction: &mut Transaction) -> Result<Self> {
        let grid = &sink.grid;
        let mut axes = Vec::with_capacity(grid.axes.len());
        let (mut coordinate, mut before, mut last) = (None, 0, None);
        let mut group = String::new();
        for (at, axis) in grid.axes.iter().enumerate() {
            let column = sink.column_of(at).ok_or_else(|| {
                Error::Unsupported(format!("{}: no column tells {}", grid.name, axis.name))
            })?;
            let place = dimension(transaction.dataset(), &sink.target.group, &axis.name)?;
            let variable = place.coordinate;
            let mut values = None;
            if let Some(variable) = &variable {
                values = Some(match (&axis.values, &sink.start) {
                    (Some(values), Start::New | Start::Continued(..)) => Arc::clone(values),
                    _ => {
                        let (store, decode) = (transaction.store(), &sink.target.decode);
                        read::values(store, variable, decode, &mut Buffers::default()).await?
                    }
                });
            }
            if at == sink.grows {
                before = place.length;
                group = place.group;
                last = values
                    .as_ref()
                    .filter(|values| !values.is_empty())
                    .map(|values| values.slice(values.len() - 1, 1));
                if let Some(variable) = variable {
                    let encoding = Encoding::of_variable(&variable, &sink.target.decode)?;
                    coordinate = Some((variable, encoding));
                }
            } else if place.length != axis.length {
                return Err(Error::Conflict(format!(
                    "{} had the length {} when the statement was planned, and has {} now",
                    axis.name, axis.length, place.length
                )));
            }
            let coordinates = Coordinates::new(&axis.name, place.length, values.as_ref())?;
            axes.push((column, coordinates));
        }
        let mut scatter = Self {
            sink,
            axes,
            coordinate,
            gathered: Vec::new(),
            fixed: Vec::new(),
            before,
            group,
            last,
            slice: None,
            has_gaps: false,
        };
        scatter.open_variables(transaction).await?;
        Ok(scatter)
    }

    async fn open_variables(&mut self, transaction: &mut Transaction) -> Result<()> {
        let sink = self.sink;
        let grid = &sink.grid;
        let dimension = sink.growing();
        // Of all that grows with the dimension, whether it is a column or not.
        for variable in transaction.along(&self.group, dimension) {
            let is_coordinate = matches!(&self.coordinate, Some((c, _)) if c.path == variable.path);
            if is_coordinate {
                continue;
            }
            let column = grid.columns.iter().position(
                |column| matches!(column, Column::Variable(v) if v.variable.path == variable.path),
            );
            let given = column.filter(|column| sink.given.get(*column) == Some(&true));
            if let (None, Missing::Error) = (given, sink.options.missing) {
                return Err(Error::Invalid(format!(
                    "{}: {} grows with {dimension}, but the statement gives it no values; \
                     SET hyperslab.insert_missing = 'fill' makes them missing ones",
                    transaction.store().location(),
                    variable.path
                )));
            }
            let axes = match column.and_then(|column| grid.variable(column)) {
                Some(column) => column.axes.clone(),
                // Not of this table: only the dimension that grows matters.
                None => {
                    let names = variable.dimensions.iter();
                    let axes = names.map(|name| {
                        if name == dimension {
                            sink.grows
                        } else {
                            usize::MAX
                        }
                    });
                    axes.collect()
                }
            };
            let encoding = Encoding::of_variable(&variable, &sink.target.decode)?;
            let (grows, rank) = (sink.grows, grid.axes.len());
            let gathered = Gathered::new(transaction, &variable, encoding, axes, grows, rank)?;
            self.gathered.push((given.unwrap_or(usize::MAX), gathered));
        }
        for (at, column) in grid.columns.iter().enumerate() {
            let Column::Variable(column) = column else {
                continue;
            };
            if column.axes.contains(&sink.grows) || sink.given.get(at) != Some(&true) {
                continue;
            }
            let variable = &column.variable;
            let encoding = Encoding::of_variable(variable, &sink.target.decode)?;
            let axes = column.axes.clone();
            let fixed = match &sink.start {
                Start::New => Some(Fixed::new(variable, encoding, axes)?),
                Start::There => Fixed::open(transaction.store(), variable, encoding, axes).await?,
                Start::Continued(store, copied) => {
                    let mut copied = copied.iter().filter(|own| own.path == variable.path);
                    match copied.next() {
                        Some(variable) => Fixed::open(store, variable, encoding, axes).await?,
                        None => None,
                    }
                }
            };
            self.fixed.extend(fixed.map(|fixed| (at, fixed)));
        }
        Ok(())
    }

    /// Cells of a slice.
    fn cells(&self) -> usize {
        let axes = self.sink.grid.axes.iter().enumerate();
        axes.filter(|(at, _)| *at != self.sink.grows)
            .fold(1usize, |cells, (_, axis)| {
                cells.saturating_mul(usize::try_from(axis.length).unwrap_or(usize::MAX))
            })
    }

    /// Takes the rows of a batch; returns how many were not left out.
    pub(super) async fn take(
        &mut self,
        transaction: &mut Transaction,
        batch: &RecordBatch,
    ) -> Result<u64> {
        let rows = batch.num_rows();
        let mut indices: Vec<Vec<u64>> = vec![Vec::new(); self.axes.len()];
        let mut cells = vec![0usize; rows];
        for (at, axis) in self.sink.grid.axes.iter().enumerate() {
            if at == self.sink.grows {
                continue;
            }
            let found = self.find(at, batch)?;
            let length = usize::try_from(axis.length).unwrap_or(usize::MAX);
            for (cell, index) in cells.iter_mut().zip(&found) {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                *cell = cell.saturating_mul(length).saturating_add(index);
            }
            if let Some(slot) = indices.get_mut(at) {
                *slot = found;
            }
        }
        for (column, gathered) in &mut self.gathered {
            if let Some(values) = batch.columns().get(*column) {
                gathered.encode(values)?;
            }
        }
        for (column, fixed) in &mut self.fixed {
            if let Some(values) = batch.columns().get(*column) {
                fixed.take(values, &indices)?;
            }
        }
        let (column, _) = self.growing()?;
        let values = Arc::clone(batch.column(column));
        let bits = self.growing()?.1.bits(&values)?;
        let mut taken = 0;
        let mut first = 0;
        while let Some(bit) = bits.get(first) {
            let end = bits
                .iter()
                .skip(first)
                .position(|other| other != bit)
                .map_or(rows, |same| first + same);
            if let Some(index) = self.slice_of(*bit, &values, first)? {
                let part = cells.get(first..end).unwrap_or_default();
                self.mark(index, &values, first, part)?;
                let is_run = part
                    .windows(2)
                    .all(|pair| matches!(pair, [a, b] if a + 1 == *b));
                let segment = Segment {
                    index,
                    rows: (first, end),
                    indices: &indices,
                    cells: &cells,
                    is_run,
                };
                let length = self.growing()?.1.length();
                for (column, gathered) in &mut self.gathered {
                    if *column != usize::MAX {
                        gathered
                            .take(transaction, &segment, length, self.before)
                            .await?;
                    }
                }
                taken += (end - first) as u64;
            }
            first = end;
        }
        Ok(taken)
    }

    /// The indices of the rows of a batch along a dimension that does not grow.
    fn find(&mut self, at: usize, batch: &RecordBatch) -> Result<Vec<u64>> {
        let grid = &self.sink.grid;
        let Some((column, coordinates)) = self.axes.get_mut(at) else {
            return Ok(Vec::new());
        };
        let name = grid.axes.get(at).map_or("", |axis| axis.name.as_str());
        let values = batch.column(*column);
        let bits = coordinates.bits(values)?;
        let mut found = Vec::with_capacity(bits.len());
        let (mut last, mut index) = (None, 0u64);
        for (row, bits) in bits.iter().enumerate() {
            if last != Some(*bits) {
                let next = if index + 1 < coordinates.length() {
                    index + 1
                } else {
                    0
                };
                index = match coordinates.find(*bits, next) {
                    Found::At(index) => index,
                    Found::Twice => {
                        return Err(twice(name, values, row));
                    }
                    Found::New | Found::Nowhere => {
                        return Err(Error::Invalid(format!(
                            "{} is not one of the values of {name}, which does not grow",
                            show(values, row)
                        )));
                    }
                };
                last = Some(*bits);
            }
            found.push(index);
        }
        Ok(found)
    }

    /// The index of a value of the dimension that grows; `None` when its rows are left out.
    fn slice_of(&mut self, bits: u64, values: &ArrayRef, row: usize) -> Result<Option<u64>> {
        let current = self.slice.as_ref().map(|slice| slice.index);
        let guess = current.unwrap_or(self.before);
        let existing = self.sink.options.existing;
        let (sink, before) = (self.sink, self.before);
        let name = sink.growing();
        match self.growing()?.1.find(bits, guess) {
            Found::At(index)
                if index >= before
                    || matches!(existing, Existing::Replace | Existing::Overwrite) =>
            {
                Ok(Some(index))
            }
            Found::At(_) if existing == Existing::Skip => Ok(None),
            Found::At(_) => Err(Error::Invalid(format!(
                "{name} {} is there already; REPLACE INTO replaces its cells, and \
                 SET hyperslab.insert_existing = 'skip' leaves such rows out",
                show(values, row)
            ))),
            Found::New => {
                self.check_order(values, row)?;
                self.growing()?.1.add(bits, values, row).map(Some)
            }
            Found::Twice => Err(twice(name, values, row)),
            Found::Nowhere => Err(Error::Invalid(format!(
                "{name} {} leaves a gap: the next index is {}",
                show(values, row),
                self.growing()?.1.length()
            ))),
        }
    }

    /// A new value has to lie behind all that are there, in the order in which they are.
    fn check_order(&self, values: &ArrayRef, row: usize) -> Result<()> {
        let Some(last) = &self.last else {
            return Ok(());
        };
        let (_, order) = self.sink.order();
        check_order(self.sink.growing(), (values, row), last, order, "there")
    }

    /// Marks cells of a slice as given; closes the one before.
    fn mark(&mut self, index: u64, values: &ArrayRef, row: usize, cells: &[usize]) -> Result<()> {
        if self.slice.as_ref().is_none_or(|slice| slice.index != index) {
            self.close()?;
            self.slice = Some(Slice {
                index,
                value: show(values, row),
                count: 0,
                set: vec![false; self.cells()],
            });
        }
        let sink = self.sink;
        let name = sink.growing();
        let Some(slice) = &mut self.slice else {
            return Ok(());
        };
        for cell in cells {
            match slice.set.get_mut(*cell) {
                Some(set) if !*set => *set = true,
                _ => {
                    let places = self.sink.place(*cell);
                    return Err(Error::Invalid(format!(
                        "two rows are for one cell: {name} {}{places}",
                        slice.value
                    )));
                }
            }
        }
        slice.count += cells.len();
        Ok(())
    }

    /// Ends a slice: a new one has to have all of its cells.
    fn close(&mut self) -> Result<()> {
        let Some(slice) = self.slice.take() else {
            return Ok(());
        };
        let is_old = slice.index < self.before;
        let options = &self.sink.options;
        if slice.count == slice.set.len() || is_old && options.existing != Existing::Overwrite {
            return Ok(());
        }
        if options.missing == Missing::Fill && !is_old {
            self.has_gaps = true;
            return Ok(());
        }
        let first = slice.set.iter().position(|set| !set).unwrap_or(0);
        let sink = self.sink;
        let name = sink.growing();
        let advice = match is_old {
            true => "REPLACE INTO replaces only the cells that rows are for",
            false => "SET hyperslab.insert_missing = 'fill' makes the others missing values",
        };
        Err(Error::Invalid(format!(
            "{name} {} has rows for {} of {} cells, the first without one is{}; {advice}",
            slice.value,
            slice.count,
            slice.set.len(),
            self.sink.place(first)
        )))
    }

    /// Writes what is left, the new coordinates, and the new length.
    pub(super) async fn finish(&mut self, transaction: &mut Transaction) -> Result<()> {
        self.close()?;
        let length = self.growing()?.1.length();
        for (column, gathered) in &mut self.gathered {
            gathered.flush(transaction, length).await?;
            if *column != usize::MAX && self.has_gaps {
                gathered.check_fill()?;
            }
            gathered.fill_up(transaction, length, self.before).await?;
        }
        for (_, fixed) in &self.fixed {
            fixed.finish(transaction).await?;
        }
        if matches!(self.sink.start, Start::New) {
            self.write_coordinates(transaction).await?;
        }
        let added = self.growing()?.1.added()?;
        if let (Some((variable, encoding)), Some(added)) = (&self.coordinate, &added) {
            window::extend(transaction, variable, encoding, added, self.before).await?;
        }
        let sink = self.sink;
        if let Some(axis) = sink.grid.axes.get(sink.grows)
            && length > self.before
        {
            transaction.resize(&self.group, &axis.name, length)?;
        }
        Ok(())
    }

    /// Writes the coordinates of the dimensions that do not grow.
    async fn write_coordinates(&self, transaction: &mut Transaction) -> Result<()> {
        let sink = self.sink;
        for (at, axis) in sink.grid.axes.iter().enumerate() {
            let place = dimension(transaction.dataset(), &sink.target.group, &axis.name)?;
            let (Some(variable), Some(values)) = (place.coordinate, &axis.values) else {
                continue;
            };
            if at == sink.grows || values.is_empty() {
                continue;
            }
            let encoding = Encoding::of_variable(&variable, &sink.target.decode)?;
            window::extend(transaction, &variable, &encoding, values, 0).await?;
        }
        Ok(())
    }

    fn growing(&mut self) -> Result<(usize, &mut Coordinates)> {
        let grows = self.sink.grows;
        let (column, coordinates) = self
            .axes
            .get_mut(grows)
            .ok_or_else(|| Error::Invalid("the table has no dimension".into()))?;
        Ok((*column, coordinates))
    }
}

/// A dimension as it is when a transaction has begun.
struct Place {
    /// The group that it belongs to.
    group: String,
    length: u64,
    coordinate: Option<Arc<Variable>>,
}

/// The dimension called `name` that is visible in `group`.
fn dimension(dataset: &Dataset, group: &str, name: &str) -> Result<Place> {
    let Some((outer, dimension)) = dataset.dimension(group, name) else {
        return Err(Error::Conflict(format!(
            "{}: the dimension {name} is not there any more",
            dataset.location
        )));
    };
    let mut variables = outer.variables.iter();
    let coordinate = variables
        .find(|variable| variable.name == name && variable.dimensions == [name])
        .cloned();
    Ok(Place {
        group: outer.path.clone(),
        length: dimension.length,
        coordinate,
    })
}

fn twice(name: &str, values: &ArrayRef, row: usize) -> Error {
    Error::Invalid(format!(
        "{name} has the value {} at more than one index, so that a row with it has no place",
        show(values, row)
    ))
}
