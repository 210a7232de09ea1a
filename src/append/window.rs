//! Windows: boxes of cells that are gathered before they are written, because pieces are written whole.

use crate::append::{OldCells, Region};
use crate::array::slab::{Crop, Run, copy_cells, fill_cells, strides};
use crate::error::{Error, Result};

/// A box of cells of a variable.
#[derive(Clone, Debug)]
pub struct Window {
    start: Vec<u64>,
    shape: Vec<usize>,
    /// Bytes of an element.
    size: usize,
    /// The elements in C order.
    cells: Vec<u8>,
}

impl Window {
    /// The box of `shape` indices from `start` on, in which every cell is `element`; an empty one stands for zero bytes.
    ///
    /// # Errors
    /// `Exhausted` when it does not fit memory.
    pub fn filled(start: Vec<u64>, shape: &[u64], element: &[u8], size: usize) -> Result<Self> {
        let too_large =
            || Error::Exhausted(format!("a window of {shape:?} cells does not fit memory"));
        let shape: Vec<usize> = shape
            .iter()
            .map(|extent| usize::try_from(*extent))
            .collect::<Result<_, _>>()
            .map_err(|_| too_large())?;
        let bytes = shape
            .iter()
            .try_fold(size, |bytes, extent| bytes.checked_mul(*extent))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or_else(too_large)?;
        let mut cells = vec![0; bytes];
        if element.iter().any(|byte| *byte != 0) {
            fill_cells(
                element,
                &mut cells,
                &strides(&shape),
                &Crop::all(&shape),
                size,
            )?;
        }
        Ok(Self {
            start,
            shape,
            size,
            cells,
        })
    }

    /// First index of each dimension.
    #[must_use]
    pub fn start(&self) -> &[u64] {
        &self.start
    }

    /// Extents.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in C order.
    pub fn cells_mut(&mut self) -> &mut [u8] {
        &mut self.cells
    }

    /// The elements of `count` cells from cell `at` on.
    #[must_use]
    pub fn cells(&self, at: usize, count: usize) -> Option<&[u8]> {
        let first = at.checked_mul(self.size)?;
        let end = at.checked_add(count)?.checked_mul(self.size)?;
        self.cells.get(first..end)
    }

    /// Copies the cells of another box that lies within this one.
    ///
    /// # Errors
    /// `Invalid` when it does not.
    pub fn place(&mut self, start: &[u64], shape: &[u64], cells: &[u8]) -> Result<()> {
        let outside = || Error::Invalid(format!("{shape:?} cells from {start:?} on lie outside"));
        let mut runs = Vec::with_capacity(self.shape.len());
        let mut from = Vec::with_capacity(self.shape.len());
        for (((start, extent), own), length) in
            start.iter().zip(shape).zip(&self.start).zip(&self.shape)
        {
            let to = start
                .checked_sub(*own)
                .and_then(|to| usize::try_from(to).ok());
            let extent = usize::try_from(*extent).ok();
            let (Some(to), Some(extent)) = (to, extent) else {
                return Err(outside());
            };
            if to.checked_add(extent).is_none_or(|end| end > *length) {
                return Err(outside());
            }
            runs.push(vec![Run {
                from: 0,
                to,
                length: extent,
            }]);
            from.push(extent);
        }
        if from.contains(&0) {
            return Ok(());
        }
        let to = strides(&self.shape);
        let crop = Crop(runs);
        copy_cells(
            cells,
            &strides(&from),
            &mut self.cells,
            &to,
            &crop,
            self.size,
        )
    }

    /// The same up to index `end` of an axis.
    ///
    /// # Errors
    /// `Invalid` when it has no such axis.
    pub fn cut(mut self, axis: usize, end: u64) -> Result<Self> {
        let first = self.start.get(axis).copied().unwrap_or(0);
        let rows = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        if self.shape.get(axis).is_none_or(|extent| *extent <= rows) {
            return Ok(self);
        }
        let from = strides(&self.shape);
        let mut shape = self.shape.clone();
        if let Some(extent) = shape.get_mut(axis) {
            *extent = rows;
        }
        let mut cells = vec![0; shape.iter().product::<usize>() * self.size];
        if !cells.is_empty() {
            let to = strides(&shape);
            copy_cells(
                &self.cells,
                &from,
                &mut cells,
                &to,
                &Crop::all(&shape),
                self.size,
            )?;
        }
        self.shape = shape;
        self.cells = cells;
        Ok(self)
    }

    /// The region of `variable` that it is.
    #[must_use]
    pub fn into_region(self, variable: &str, old: OldCells) -> Region {
        Region {
            variable: variable.to_owned(),
            start: self.start,
            shape: self.shape.iter().map(|extent| *extent as u64).collect(),
            cells: self.cells,
            old,
        }
    }
}
