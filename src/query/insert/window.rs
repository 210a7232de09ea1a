//! Windows of a variable: the cells between two cuts of its pieces along the dimension that grows, gathered before they
//! are written.

use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::append::{OldCells, Region, Transaction};
use crate::array::Variable;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::slab::{Crop, Run, SlabData, copy_cells, fill_cells, strides};
use crate::cf::encode::Encoding;
use crate::error::{Error, Result, Within};
use crate::read::{self, Buffers};

/// A variable that takes cells.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) variable: Arc<Variable>,
    encoding: Encoding,
    /// Bytes of an element.
    size: usize,
    /// Which dimension of the table each of its dimensions is.
    axes: Vec<usize>,
    /// Which of its dimensions grows.
    along: usize,
    /// Indices between two cuts.
    extent: u64,
    /// Whether its cells are the rows of the table in the same order.
    in_order: bool,
    /// Whether several rows stand for one of its cells.
    shared: bool,
    fill: Option<Vec<u8>>,
    window: Option<Window>,
    /// Up to which index everything has been written.
    written: u64,
    encoded: Vec<u8>,
}

#[derive(Debug)]
struct Window {
    /// First index along the dimension that grows.
    start: u64,
    cells: Vec<u8>,
    /// Which cells have a value, where several rows may give it.
    seen: Vec<bool>,
    old: OldCells,
}

/// Rows of a batch that have the same index along the dimension that grows.
#[derive(Clone, Debug)]
pub(super) struct Segment<'a> {
    /// The index.
    pub(super) index: u64,
    /// First row and the row behind the last.
    pub(super) rows: (usize, usize),
    /// For each dimension of the table, the index of each row of the batch.
    pub(super) indices: &'a [Vec<u64>],
    /// The place of each row of the batch within its slice, and whether they follow one another.
    pub(super) cells: &'a [usize],
    pub(super) is_run: bool,
}

impl Gathered {
    /// A variable whose dimensions are `axes` of a table of `rank` dimensions, of which `grows` grows.
    pub(super) fn new(
        transaction: &Transaction,
        variable: &Arc<Variable>,
        encoding: Encoding,
        axes: Vec<usize>,
        grows: usize,
        rank: usize,
    ) -> Result<Self> {
        let size = variable.layout.element.size().ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: text of any length cannot be written",
                variable.path
            ))
        })?;
        let along = axes.iter().position(|axis| *axis == grows).unwrap_or(0);
        let piece = transaction.piece(&variable.path)?;
        Ok(Self {
            size,
            along,
            extent: piece.get(along).copied().unwrap_or(1).max(1),
            in_order: grows == 0 && axes.iter().copied().eq(0..rank),
            shared: axes.len() < rank,
            fill: encoding.fill().ok(),
            window: None,
            written: variable.shape().get(along).copied().unwrap_or(0),
            encoded: Vec::new(),
            variable: Arc::clone(variable),
            encoding,
            axes,
        })
    }

    /// Bytes of a window.
    pub(super) fn memory(&self) -> usize {
        let cells = self.extents().iter().product::<usize>();
        cells.saturating_mul(self.size + usize::from(self.shared))
    }

    /// Encodes the values of a batch, from which segments are then taken.
    pub(super) fn encode(&mut self, column: &ArrayRef) -> Result<()> {
        self.encoded.clear();
        self.encoding.encode(column, &mut self.encoded)
    }

    /// Takes the values of a segment; `length` is the length of the dimension with it, `before` that before all.
    pub(super) async fn take(
        &mut self,
        transaction: &mut Transaction,
        segment: &Segment<'_>,
        length: u64,
        before: u64,
    ) -> Result<()> {
        let start = segment.index / self.extent * self.extent;
        if self
            .window
            .as_ref()
            .is_none_or(|window| window.start != start)
        {
            self.flush(transaction, length).await?;
            self.open(transaction, start, before).await?;
        }
        let Some(mut window) = self.window.take() else {
            return Ok(());
        };
        if segment.index < before {
            window.old = OldCells::Changed;
        }
        let placed = self.place(&mut window, segment);
        self.window = Some(window);
        placed
    }

    /// Writes what has been gathered; `length` is the length of the dimension so far.
    pub(super) async fn flush(&mut self, transaction: &mut Transaction, length: u64) -> Result<()> {
        let Some(window) = self.window.take() else {
            return Ok(());
        };
        let end = (window.start + self.extent).min(length);
        self.written = self.written.max(end);
        let region = self.region(window, end)?;
        transaction.write(region).await
    }

    /// Writes the missing value from where it was written up to `length`; `unset` is what stands for it where the
    /// variable has none.
    pub(super) async fn fill_up(
        &mut self,
        transaction: &mut Transaction,
        length: u64,
        before: u64,
        unset: Unset,
    ) -> Result<()> {
        if let (None, Unset::Refused) = (&self.fill, unset) {
            self.encoding.fill()?;
        }
        while self.written < length {
            let start = self.written / self.extent * self.extent;
            self.open(transaction, start, before).await?;
            self.flush(transaction, length).await?;
        }
        Ok(())
    }

    async fn open(&mut self, transaction: &Transaction, start: u64, before: u64) -> Result<()> {
        let extents = self.extents();
        let cells = extents.iter().product::<usize>();
        let mut window = Window {
            start,
            cells: vec![0; cells.saturating_mul(self.size)],
            seen: vec![false; if self.shared { cells } else { 0 }],
            old: OldCells::Kept,
        };
        let unwritten = self.variable.layout.fill.as_slice();
        let fill = self.fill.as_deref().unwrap_or(unwritten);
        if fill.iter().any(|byte| *byte != 0) {
            let to = strides(&extents);
            fill_cells(fill, &mut window.cells, &to, &whole(&extents), self.size)?;
        }
        let kept = before.min(start + self.extent);
        if start < kept {
            self.read(transaction, &mut window, kept).await?;
        }
        self.window = Some(window);
        Ok(())
    }

    /// Brings the cells that are there already, up to index `kept`, into a window.
    async fn read(&self, transaction: &Transaction, window: &mut Window, kept: u64) -> Result<()> {
        let shape = self.variable.shape();
        let dims = shape.iter().enumerate().map(|(at, length)| {
            if at == self.along {
                IndexSet::range(window.start..kept)
            } else {
                IndexSet::all(*length)
            }
        });
        let selection = Selection {
            dims: dims.collect(),
        };
        let store = transaction.store();
        let slab = read::read(store, &self.variable, selection, &mut Buffers::default()).await?;
        let SlabData::Fixed(old) = slab.data else {
            return Ok(());
        };
        let mut from = self.extents();
        let to = strides(&from);
        if let (Some(extent), Ok(rows)) = (
            from.get_mut(self.along),
            usize::try_from(kept - window.start),
        ) {
            *extent = rows;
        }
        let crop = whole(&from);
        copy_cells(
            &old,
            &strides(&from),
            &mut window.cells,
            &to,
            &crop,
            self.size,
        )?;
        Ok(())
    }

    fn place(&self, window: &mut Window, segment: &Segment<'_>) -> Result<()> {
        let (first, end) = segment.rows;
        let row = usize::try_from(segment.index - window.start).unwrap_or(usize::MAX);
        let shape = self.extents();
        let strides = strides(&shape);
        if self.in_order {
            let slice = strides.first().copied().unwrap_or(1);
            let base = row.saturating_mul(slice);
            if segment.is_run {
                let at = base + segment.cells.get(first).copied().unwrap_or(0);
                return self.copy(window, at, first, end - first);
            }
            for row in first..end {
                let at = base + segment.cells.get(row).copied().unwrap_or(0);
                self.copy(window, at, row, 1)?;
            }
            return Ok(());
        }
        for of_batch in first..end {
            let mut at = 0;
            for (own, (axis, stride)) in self.axes.iter().zip(&strides).enumerate() {
                let index = if own == self.along {
                    row
                } else {
                    let indices = segment.indices.get(*axis);
                    let index = indices.and_then(|indices| indices.get(of_batch)).copied();
                    usize::try_from(index.unwrap_or(0)).unwrap_or(usize::MAX)
                };
                at += index * stride;
            }
            if self.shared && window.seen.get(at) == Some(&true) {
                self.compare(window, at, of_batch)?;
                continue;
            }
            if let Some(seen) = window.seen.get_mut(at) {
                *seen = true;
            }
            self.copy(window, at, of_batch, 1)?;
        }
        Ok(())
    }

    /// Copies encoded elements of `count` rows from `row` on to the cells from `at` on.
    fn copy(&self, window: &mut Window, at: usize, row: usize, count: usize) -> Result<()> {
        let size = self.size;
        let to = window.cells.get_mut(at * size..(at + count) * size);
        let from = self.encoded.get(row * size..(row + count) * size);
        match (to, from) {
            (Some(to), Some(from)) => {
                to.copy_from_slice(from);
                Ok(())
            }
            _ => Err(Error::Invalid(format!(
                "{}: a row is outside of the variable",
                self.variable.path
            ))),
        }
    }

    /// Checks that another row gives the same value to a cell.
    fn compare(&self, window: &Window, at: usize, row: usize) -> Result<()> {
        let size = self.size;
        let there = window.cells.get(at * size..(at + 1) * size);
        if there == self.encoded.get(row * size..(row + 1) * size) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "rows give different values of {} where there is one cell for all of them",
            self.variable.path
        )))
    }

    /// The region of a window up to index `end`.
    fn region(&self, window: Window, end: u64) -> Result<Region> {
        let rows = end.saturating_sub(window.start);
        let mut start = vec![0; self.axes.len()];
        let mut shape = self.variable.shape().to_vec();
        if let (Some(start), Some(extent)) = (start.get_mut(self.along), shape.get_mut(self.along))
        {
            *start = window.start;
            *extent = rows;
        }
        let mut cells = window.cells;
        if rows < self.extent {
            let from = self.extents();
            let mut to = from.clone();
            if let (Some(extent), Ok(rows)) = (to.get_mut(self.along), usize::try_from(rows)) {
                *extent = rows;
            }
            let mut cut = vec![0; to.iter().product::<usize>() * self.size];
            let crop = whole(&to);
            copy_cells(
                &cells,
                &strides(&from),
                &mut cut,
                &strides(&to),
                &crop,
                self.size,
            )?;
            cells = cut;
        }
        Ok(Region {
            variable: self.variable.path.clone(),
            start,
            shape,
            cells,
            old: window.old,
        })
    }

    /// Extents of a window.
    fn extents(&self) -> Vec<usize> {
        let shape = self.variable.shape().iter().enumerate();
        shape
            .map(|(at, length)| {
                let extent = if at == self.along {
                    self.extent
                } else {
                    *length
                };
                usize::try_from(extent).unwrap_or(usize::MAX)
            })
            .collect()
    }
}

/// What becomes of cells without a value in a variable without a missing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unset {
    /// They are an error.
    Refused,
    /// They get the value of cells that were never written.
    Unwritten,
}

/// Writes the values of a coordinate behind those that are there.
pub(super) async fn extend(
    transaction: &mut Transaction,
    variable: &Arc<Variable>,
    encoding: &Encoding,
    added: &ArrayRef,
) -> Result<()> {
    let before = variable.shape().first().copied().unwrap_or(0);
    let piece = transaction.piece(&variable.path)?;
    let extent = piece.first().copied().unwrap_or(1).max(1);
    let start = before / extent * extent;
    let mut cells = Vec::new();
    if start < before {
        let selection = Selection {
            dims: vec![IndexSet::range(start..before)],
        };
        let store = transaction.store();
        let old = read::read(store, variable, selection, &mut Buffers::default()).await?;
        if let SlabData::Fixed(old) = old.data {
            cells.extend_from_slice(&old);
        }
    }
    encoding
        .encode(added, &mut cells)
        .within(|| transaction.store().location().to_owned())?;
    let region = Region {
        variable: variable.path.clone(),
        start: vec![start],
        shape: vec![before - start + added.len() as u64],
        cells,
        old: OldCells::Kept,
    };
    transaction.write(region).await
}

fn whole(extents: &[usize]) -> Crop {
    let run = |extent: &usize| {
        vec![Run {
            from: 0,
            to: 0,
            length: *extent,
        }]
    };
    Crop(extents.iter().map(run).collect())
}
