//! Windows of a variable: the cells between two cuts of its pieces along the dimension that grows, gathered before they
//! are written.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::append::window::Window;
use crate::append::{OldCells, Region, Transaction};
use crate::array::Variable;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::slab::{SlabData, strides};
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
    open: Option<Open>,
    /// Up to which index everything has been written.
    written: u64,
    encoded: Vec<u8>,
}

/// The window that takes cells.
#[derive(Debug)]
struct Open {
    /// First index along the dimension that grows.
    start: u64,
    window: Window,
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
            open: None,
            written: variable.shape().get(along).copied().unwrap_or(0),
            encoded: Vec::new(),
            variable: Arc::clone(variable),
            encoding,
            axes,
        })
    }

    /// Bytes of a window.
    pub(super) fn memory(&self) -> usize {
        let cells = self.extents().iter().product::<u64>();
        let cells = usize::try_from(cells).unwrap_or(usize::MAX);
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
        if self.open.as_ref().is_none_or(|open| open.start != start) {
            self.flush(transaction, length).await?;
            self.open(transaction, start, before).await?;
        }
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        if segment.index < before {
            open.old = OldCells::Changed;
        }
        let placed = self.place(&mut open, segment);
        self.open = Some(open);
        placed
    }

    /// Writes what has been gathered; `length` is the length of the dimension so far.
    pub(super) async fn flush(&mut self, transaction: &mut Transaction, length: u64) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let end = (open.start + self.extent).min(length);
        self.written = self.written.max(end);
        let window = open.window.cut(self.along, end)?;
        let region = window.into_region(&self.variable.path, open.old);
        transaction.write(region).await
    }

    /// Writes from where it was written up to `length` the missing value; where the variable has none, that of cells that
    /// were never written.
    pub(super) async fn fill_up(
        &mut self,
        transaction: &mut Transaction,
        length: u64,
        before: u64,
    ) -> Result<()> {
        while self.written < length {
            let start = self.written / self.extent * self.extent;
            self.open(transaction, start, before).await?;
            self.flush(transaction, length).await?;
        }
        Ok(())
    }

    /// Checks that there is a value for cells without one.
    pub(super) fn check_fill(&self) -> Result<()> {
        self.encoding.fill().map(drop)
    }

    async fn open(&mut self, transaction: &Transaction, start: u64, before: u64) -> Result<()> {
        let extents = self.extents();
        let mut first = vec![0; extents.len()];
        if let Some(first) = first.get_mut(self.along) {
            *first = start;
        }
        let unwritten = self.variable.layout.fill.as_slice();
        let fill = self.fill.as_deref().unwrap_or(unwritten);
        let mut window = Window::filled(first, &extents, fill, self.size)?;
        let kept = before.min(start + self.extent);
        if start < kept {
            self.read(transaction, &mut window, start..kept).await?;
        }
        let shared = if self.shared {
            window.shape().iter().product()
        } else {
            0
        };
        self.open = Some(Open {
            start,
            window,
            seen: vec![false; shared],
            old: OldCells::Kept,
        });
        Ok(())
    }

    /// Brings the cells of these indices, which are there already, into a window.
    async fn read(
        &self,
        transaction: &Transaction,
        window: &mut Window,
        kept: Range<u64>,
    ) -> Result<()> {
        let mut shape = self.extents();
        if let Some(extent) = shape.get_mut(self.along) {
            *extent = kept.end - kept.start;
        }
        let dims = window.start().iter().zip(&shape);
        let selection = Selection {
            dims: dims
                .map(|(start, extent)| IndexSet::range(*start..start + extent))
                .collect(),
        };
        let store = transaction.store();
        let slab = read::read(store, &self.variable, selection, &mut Buffers::default()).await?;
        let SlabData::Fixed(old) = slab.data else {
            return Ok(());
        };
        let start = window.start().to_vec();
        window.place(&start, &shape, &old)
    }

    fn place(&self, open: &mut Open, segment: &Segment<'_>) -> Result<()> {
        let (first, end) = segment.rows;
        let row = usize::try_from(segment.index - open.start).unwrap_or(usize::MAX);
        let strides = strides(open.window.shape());
        if self.in_order {
            let slice = strides.first().copied().unwrap_or(1);
            let base = row.saturating_mul(slice);
            if segment.is_run {
                let at = base + segment.cells.get(first).copied().unwrap_or(0);
                return self.copy(open, at, first, end - first);
            }
            for row in first..end {
                let at = base + segment.cells.get(row).copied().unwrap_or(0);
                self.copy(open, at, row, 1)?;
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
            if self.shared && open.seen.get(at) == Some(&true) {
                self.compare(open, at, of_batch)?;
                continue;
            }
            if let Some(seen) = open.seen.get_mut(at) {
                *seen = true;
            }
            self.copy(open, at, of_batch, 1)?;
        }
        Ok(())
    }

    /// Copies encoded elements of `count` rows from `row` on to the cells from `at` on.
    fn copy(&self, open: &mut Open, at: usize, row: usize, count: usize) -> Result<()> {
        let size = self.size;
        let cells = open.window.cells_mut();
        let to = cells.get_mut(at * size..(at + count) * size);
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
    fn compare(&self, open: &Open, at: usize, row: usize) -> Result<()> {
        let size = self.size;
        let there = open.window.cells(at, 1);
        if there == self.encoded.get(row * size..(row + 1) * size) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "rows give different values of {} where there is one cell for all of them",
            self.variable.path
        )))
    }

    /// Extents of a window.
    fn extents(&self) -> Vec<u64> {
        let mut extents = self.variable.shape().to_vec();
        if let Some(extent) = extents.get_mut(self.along) {
            *extent = self.extent;
        }
        extents
    }
}

/// Writes the values of a coordinate behind the `before` that are there.
pub(in crate::query) async fn extend(
    transaction: &mut Transaction,
    variable: &Arc<Variable>,
    encoding: &Encoding,
    added: &ArrayRef,
    before: u64,
) -> Result<()> {
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
