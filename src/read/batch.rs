//! Slabs to columns: the rows of a hyperslab are its cells in C order; each column is built by its pattern, never by
//! looking up a cell.
//!
//! ```text
//! selection 2 × 3:  row   0 1 2 3 4 5
//!                   d0    a a a b b b      stride 3: runs
//!                   d1    x y z x y z      stride 1: a repeated vector
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, Int64Array, PrimitiveArray, UInt32Array,
    downcast_primitive_array,
};
use arrow::buffer::MutableBuffer;
use arrow::compute::{concat, take};
use arrow::error::ArrowError;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::slab::{Slab, SlabData};
use crate::error::{Error, Result};

/// Repeated vectors are kept and sliced up to this many batches of rows; longer ones are built batch by batch, because
/// operators that buffer batches are charged the whole buffer behind a slice.
const PATTERN_BATCHES: usize = 4;

/// The rows of a hyperslab.
#[derive(Clone, Debug)]
pub struct Rows {
    counts: Vec<usize>,
    strides: Vec<usize>,
    rows: usize,
}

impl Rows {
    /// The rows of `selection`.
    ///
    /// # Errors
    /// `Exhausted` when there are more rows than this machine can address.
    pub fn new(selection: &Selection) -> Result<Self> {
        let counts: Vec<usize> = selection
            .dims
            .iter()
            .map(|dim| usize::try_from(dim.count()).map_err(|_| too_many()))
            .collect::<Result<_>>()?;
        let mut strides = vec![1usize; counts.len()];
        let mut rows = 1usize;
        for (stride, count) in strides.iter_mut().zip(&counts).rev() {
            *stride = rows;
            rows = rows.checked_mul(*count).ok_or_else(too_many)?;
        }
        Ok(Self {
            counts,
            strides,
            rows,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn geometry(&self, dim: usize) -> (usize, usize) {
        (
            self.strides.get(dim).copied().unwrap_or(1),
            self.counts.get(dim).copied().unwrap_or(1).max(1),
        )
    }

    /// The column of dimension `dim` for some rows: `values` holds one value for each selected index of it.
    ///
    /// # Errors
    /// When the values cannot be gathered (of an unusual type).
    pub fn dimension(
        &self,
        dim: usize,
        values: &ArrayRef,
        rows: Range<usize>,
    ) -> Result<ArrayRef, ArrowError> {
        let (stride, count) = self.geometry(dim);
        if values.null_count() == 0 {
            let spread: Option<ArrayRef> = downcast_primitive_array! {
                values => Some(Arc::new(spread(values, stride, count, rows.clone()))),
                _ => None
            };
            if let Some(spread) = spread {
                return Ok(spread);
            }
        }
        take(values, &self.positions(&[dim], rows), None)
    }

    /// For some rows, the C-order position of each in a box that has only the dimensions `axes`, in that order.
    #[must_use]
    pub fn positions(&self, axes: &[usize], rows: Range<usize>) -> UInt32Array {
        let mut positions = vec![0u32; rows.len()];
        for axis in axes {
            let (stride, count) = self.geometry(*axis);
            let extent = u32::try_from(count).unwrap_or(u32::MAX);
            let mut at = 0usize;
            let mut row = rows.start;
            while at < positions.len() {
                let index = u32::try_from((row / stride) % count).unwrap_or(u32::MAX);
                let run = (stride - row % stride).min(positions.len() - at);
                for position in positions.iter_mut().skip(at).take(run) {
                    *position = position.wrapping_mul(extent).wrapping_add(index);
                }
                at += run;
                row += run;
            }
        }
        positions.into()
    }

    /// The column of a variable on the dimensions `axes` for some rows: `values` holds its cells in C order of `axes`.
    ///
    /// # Errors
    /// When the values cannot be gathered (of an unusual type).
    pub fn broadcast(
        &self,
        axes: &[usize],
        values: &ArrayRef,
        rows: Range<usize>,
    ) -> Result<ArrayRef, ArrowError> {
        if rows.is_empty() {
            return Ok(values.slice(0, 0));
        }
        let fastest = self.counts.len() - axes.len().min(self.counts.len());
        if axes.iter().copied().eq(fastest..self.counts.len()) && values.len() * 16 > rows.len() {
            // The fastest dimensions, in order: the values repeat as they are.
            let period = values.len();
            let mut pieces: Vec<ArrayRef> = Vec::new();
            let mut row = rows.start;
            while row < rows.end {
                let start = row % period;
                let length = (period - start).min(rows.end - row);
                pieces.push(values.slice(start, length));
                row += length;
            }
            if pieces.len() <= 16 {
                let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
                return concat(&pieces);
            }
        }
        take(values, &self.positions(axes, rows), None)
    }
}

/// Some rows of a slab as a slab of its own memory, as small as they are.
#[must_use]
pub fn slice(slab: &Slab, rows: Range<usize>) -> Slab {
    let mut part = view(slab, rows);
    if let SlabData::Fixed(buffer) = &mut part.data {
        let mut copy = MutableBuffer::new(buffer.len());
        copy.extend_from_slice(buffer);
        *buffer = copy.into();
    }
    part
}

/// Some rows of a slab in its memory.
#[must_use]
pub fn view(slab: &Slab, rows: Range<usize>) -> Slab {
    let data = match (&slab.data, slab.element.size()) {
        (SlabData::Fixed(buffer), Some(size)) => {
            let end = (rows.end * size).min(buffer.len());
            let start = (rows.start * size).min(end);
            SlabData::Fixed(buffer.slice_with_length(start, end - start))
        }
        (SlabData::Fixed(buffer), None) => SlabData::Fixed(buffer.clone()),
        (SlabData::Text(words), _) => SlabData::Text(words.slice(rows.start, rows.len())),
    };
    Slab {
        element: slab.element,
        cells: rows.len(),
        data,
    }
}

/// The values of the selected indices of a coordinate vector.
///
/// # Errors
/// When the values cannot be gathered (of an unusual type).
pub fn select(values: &ArrayRef, set: &IndexSet) -> Result<ArrayRef, ArrowError> {
    let pieces: Vec<ArrayRef> = set
        .runs()
        .iter()
        .filter_map(|run| {
            let start = usize::try_from(run.start).ok()?;
            let length = usize::try_from(run.end - run.start).ok()?;
            (start + length <= values.len()).then(|| values.slice(start, length))
        })
        .collect();
    match pieces.as_slice() {
        [] => Ok(values.slice(0, 0)),
        [piece] => Ok(Arc::clone(piece)),
        pieces => concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
    }
}

/// The selected indices themselves, as a column.
#[must_use]
pub fn indices(set: &IndexSet) -> ArrayRef {
    let values: Vec<i64> = set
        .iter()
        .map(|index| i64::try_from(index).unwrap_or(i64::MAX))
        .collect();
    Arc::new(Int64Array::from(values))
}

/// The column of one dimension over the batches of many hyperslabs, with the pattern of the last one kept.
#[derive(Debug, Default)]
pub struct DimensionColumn {
    set: IndexSet,
    values: Option<ArrayRef>,
    /// Rows `0..` of a repeated vector, or one repeated value (`constant` is its place).
    pattern: Option<(usize, usize, ArrayRef)>,
    constant: Option<(usize, ArrayRef)>,
}

impl DimensionColumn {
    /// The column of dimension `dim`, whose selected indices are `set`, for the rows `range` of `rows`. `vector` gives
    /// the whole coordinate vector, or `None` where the index itself is the coordinate. `batch` is the largest number
    /// of rows ever asked for.
    ///
    /// # Errors
    /// When the values cannot be gathered (of an unusual type).
    pub fn build(
        &mut self,
        rows: &Rows,
        (dim, set, vector): (usize, &IndexSet, Option<&ArrayRef>),
        range: Range<usize>,
        batch: usize,
    ) -> Result<ArrayRef, ArrowError> {
        if self.set != *set || self.values.is_none() {
            self.set = set.clone();
            self.values = Some(match vector {
                Some(vector) => select(vector, set)?,
                None => indices(set),
            });
            self.pattern = None;
            self.constant = None;
        }
        let Some(values) = &self.values else {
            return Err(ArrowError::ComputeError("no coordinate vector".into()));
        };
        let (stride, count) = rows.geometry(dim);
        let place = range.start / stride;
        if (range.end - 1) / stride == place {
            // All rows lie in one run.
            if let Some((at, constant)) = &self.constant
                && *at == place % count
                && constant.len() >= range.len()
            {
                return Ok(constant.slice(0, range.len()));
            }
            let whole = batch.max(range.len()).min(stride);
            let first = place * stride;
            let constant = rows.dimension(dim, values, first..first + whole)?;
            let column = constant.slice(0, range.len());
            self.constant = Some((place % count, constant));
            return Ok(column);
        }
        let period = stride * count;
        if period > PATTERN_BATCHES * batch {
            return rows.dimension(dim, values, range);
        }
        let phase = range.start % period;
        if let Some((at, of, pattern)) = &self.pattern
            && (*at, *of) == (stride, count)
            && pattern.len() >= phase + range.len()
        {
            return Ok(pattern.slice(phase, range.len()));
        }
        let pattern = rows.dimension(dim, values, 0..period + batch.max(range.len()))?;
        let column = pattern.slice(phase, range.len());
        self.pattern = Some((stride, count, pattern));
        Ok(column)
    }
}

/// Row `r` has value `(r / stride) % count`.
fn spread<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    stride: usize,
    count: usize,
    rows: Range<usize>,
) -> PrimitiveArray<T> {
    let values_slice = values.values();
    let mut column: Vec<T::Native> = Vec::with_capacity(rows.len());
    let mut row = rows.start;
    while row < rows.end {
        let place = (row / stride) % count;
        let left = rows.end - row;
        if stride == 1 {
            let run = (count - place).min(left);
            column.extend_from_slice(values_slice.get(place..place + run).unwrap_or_default());
            row += run;
        } else {
            let run = (stride - row % stride).min(left);
            if let Some(value) = values_slice.get(place) {
                column.resize(column.len() + run, *value);
            }
            row += run;
        }
    }
    PrimitiveArray::<T>::new(column.into(), None).with_data_type(values.data_type().clone())
}

fn too_many() -> Error {
    Error::Exhausted("the hyperslab has more cells than this machine can address".into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::Int64Type;

    fn rows() -> (Selection, Rows) {
        let selection = Selection {
            dims: vec![
                IndexSet::range(4..6),
                IndexSet::from_mask(0, [true, false, true, true]),
            ],
        };
        let rows = Rows::new(&selection).unwrap();
        (selection, rows)
    }

    fn numbers(array: &ArrayRef) -> Vec<i64> {
        array.as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn dimension_columns_follow_c_order() {
        let (selection, rows) = rows();
        assert_eq!(rows.len(), 6);
        let mut columns = [DimensionColumn::default(), DimensionColumn::default()];
        for range in [0..6, 1..4, 2..6, 0..2, 3..6] {
            let expected_slow = [4, 4, 4, 5, 5, 5];
            let expected_fast = [0, 2, 3, 0, 2, 3];
            for (dim, expected) in [(0, expected_slow), (1, expected_fast)] {
                let column = columns[dim]
                    .build(&rows, (dim, &selection.dims[dim], None), range.clone(), 4)
                    .unwrap();
                assert_eq!(numbers(&column), expected[range.clone()], "{dim} {range:?}");
            }
        }
    }

    #[test]
    fn lower_rank_values_are_repeated() {
        let (_, rows) = rows();
        let slow: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let column = rows.broadcast(&[0], &slow, 2..5).unwrap();
        assert_eq!(
            column
                .as_string::<i32>()
                .iter()
                .flatten()
                .collect::<Vec<_>>(),
            ["a", "b", "b"]
        );
        let fast: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
        assert_eq!(
            numbers(&rows.broadcast(&[1], &fast, 1..6).unwrap()),
            [8, 9, 7, 8, 9]
        );
        // Stored with its dimensions the other way round: cells (fast, slow).
        let turned: ArrayRef = Arc::new(Int64Array::from(vec![0, 10, 1, 11, 2, 12]));
        assert_eq!(
            numbers(&rows.broadcast(&[1, 0], &turned, 0..6).unwrap()),
            [0, 1, 2, 10, 11, 12]
        );
        let scalar: ArrayRef = Arc::new(Int64Array::from(vec![5]));
        assert_eq!(
            numbers(&rows.broadcast(&[], &scalar, 0..3).unwrap()),
            [5, 5, 5]
        );
    }
}
