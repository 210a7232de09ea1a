//! Variables that do not grow: rows repeat what they hold.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::take;

use crate::append::{OldCells, Region, Transaction};
use crate::array::Variable;
use crate::array::hyperslab::Selection;
use crate::array::slab::SlabData;
use crate::cf::encode::Encoding;
use crate::error::{Error, Result};
use crate::query::show;
use crate::read::{self, Buffers};
use crate::store::Store;

/// A variable along none of the dimension that grows.
#[derive(Debug)]
pub(super) struct Fixed {
    variable: Arc<Variable>,
    encoding: Encoding,
    /// Which dimension of the table each of its dimensions is.
    axes: Vec<usize>,
    /// Bytes of an element.
    size: usize,
    stored: Vec<u8>,
    /// Which cells rows have given, if nothing is stored yet.
    given: Option<Vec<bool>>,
}

impl Fixed {
    /// A variable with what it holds; `None` for one whose elements are not all of a size, which is left alone.
    pub(super) async fn open(
        store: &Store,
        variable: &Arc<Variable>,
        encoding: Encoding,
        axes: Vec<usize>,
    ) -> Result<Option<Self>> {
        let selection = Selection::all(variable.shape());
        let mut buffers = Buffers::default();
        let slab = read::read(store, variable, selection, &mut buffers).await?;
        let (SlabData::Fixed(stored), Some(size)) = (slab.data, variable.layout.element.size())
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            stored: stored.to_vec(),
            given: None,
            variable: Arc::clone(variable),
            encoding,
            axes,
            size,
        }))
    }

    /// A variable that holds nothing yet.
    pub(super) fn new(
        variable: &Arc<Variable>,
        encoding: Encoding,
        axes: Vec<usize>,
    ) -> Result<Self> {
        let size = variable.layout.element.size();
        let cells = usize::try_from(variable.cells()).ok();
        let (Some(size), Some(cells)) = (size, cells) else {
            return Err(Error::Unsupported(format!(
                "{}: text of any length cannot be written",
                variable.path
            )));
        };
        // Where there is no missing value, every cell has to be given.
        let fill = encoding.fill().unwrap_or_else(|_| vec![0; size]);
        Ok(Self {
            stored: fill.repeat(cells),
            given: Some(vec![false; cells]),
            variable: Arc::clone(variable),
            encoding,
            axes,
            size,
        })
    }

    /// Takes what rows say of it: it has to be what it holds, or what the rows before have said.
    pub(super) fn take(&mut self, values: &ArrayRef, indices: &[Vec<u64>]) -> Result<()> {
        // NULL says nothing of a value that is there.
        let valid: Vec<usize> = (0..values.len())
            .filter(|row| values.is_valid(*row))
            .collect();
        let rows = UInt64Array::from_iter_values(valid.iter().map(|row| *row as u64));
        let values = take(values, &rows, None).map_err(|e| Error::Invalid(e.to_string()))?;
        let mut encoded = Vec::new();
        self.encoding.encode(&values, &mut encoded)?;
        let size = self.size;
        for ((at, row), element) in valid.iter().enumerate().zip(encoded.chunks_exact(size)) {
            let mut cell = 0usize;
            for (axis, length) in self.axes.iter().zip(self.variable.shape()) {
                let index = indices.get(*axis).and_then(|indices| indices.get(*row));
                let index = usize::try_from(index.copied().unwrap_or(0)).unwrap_or(0);
                let length = usize::try_from(*length).unwrap_or(usize::MAX);
                cell = cell.saturating_mul(length).saturating_add(index);
            }
            let stored = self.stored.get_mut(cell * size..(cell + 1) * size);
            let given = self.given.as_mut().and_then(|given| given.get_mut(cell));
            match (stored, given) {
                (Some(stored), Some(given)) if !*given => {
                    stored.copy_from_slice(element);
                    *given = true;
                }
                (Some(stored), _) if *stored == *element => {}
                _ => {
                    return Err(Error::Invalid(format!(
                        "{} does not grow, and holds another value than {} where a row says so",
                        self.variable.path,
                        show(&values, at)
                    )));
                }
            }
        }
        Ok(())
    }

    /// Writes what rows have said of a variable that held nothing.
    pub(super) async fn finish(&self, transaction: &mut Transaction) -> Result<()> {
        let Some(given) = &self.given else {
            return Ok(());
        };
        if given.contains(&false) {
            self.encoding.fill()?;
        }
        transaction
            .write(Region {
                variable: self.variable.path.clone(),
                start: vec![0; self.axes.len()],
                shape: self.variable.shape().to_vec(),
                cells: self.stored.clone(),
                old: OldCells::Kept,
            })
            .await
    }
}
