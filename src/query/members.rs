//! Variables that are continued from file to file: which part of a selection is read from which of them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, MutableArrayData, make_array, new_empty_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::array::Variable;
use crate::array::hyperslab::Selection;
use crate::array::members;
use crate::array::slab::Slab;
use crate::cf::decode::Decoding;
use crate::error::{Error, Result, Within};
use crate::query::grid::VariableColumn;
use crate::read::{self, Buffers, count_touched_chunks};
use crate::store::Store;

/// The files that a variable is continued in.
#[derive(Debug)]
pub struct Members {
    /// Its parts, and along which of its dimensions they lie one behind the other.
    parts: Arc<members::Members>,
    /// Of each part, its decoding and where it is read from.
    sources: Vec<(Arc<Decoding>, Store)>,
    /// Whether all are decoded in the same way.
    uniform: bool,
    /// The type of the column, if it is not that of all files.
    wider: Option<DataType>,
}

/// What of the selected cells of a variable is in one file.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The variable there.
    pub variable: &'a Arc<Variable>,
    /// How its stored values become values of the column.
    pub decoding: &'a Arc<Decoding>,
    /// Where its chunks are read from.
    pub store: &'a Store,
    /// The cells, by the indices that the variable has there.
    pub selection: Selection,
    /// Positions of its indices among all selected ones, along the dimension on which files follow each other.
    pub place: Range<usize>,
    /// The type of the column, if that of its values may be another one.
    pub wider: Option<&'a DataType>,
}

impl Piece<'_> {
    /// The values of cells that have been read.
    ///
    /// # Errors
    /// As [`Decoding::apply`]; they name the file.
    pub fn values(&self, cells: Slab) -> Result<ArrayRef> {
        values(self.decoding, self.wider, cells).within(|| self.store.location())
    }
}

/// The values of cells, in the type of a column if that is another one.
pub(super) fn values(
    decoding: &Decoding,
    wider: Option<&DataType>,
    cells: Slab,
) -> Result<ArrayRef> {
    let values = decoding.apply(cells)?;
    match wider {
        Some(wider) if wider != values.data_type() => {
            cast(&values, wider).map_err(|error| Error::Invalid(error.to_string()))
        }
        _ => Ok(values),
    }
}

/// How many bytes a floating-point number has; `None` for another type.
fn float_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => data_type.primitive_width(),
        _ => None,
    }
}

impl Members {
    /// The parts of a variable with the decoding and the store of each.
    ///
    /// # Errors
    /// `Unsupported` when their values are of types that no column can have, naming two of the files.
    pub fn new(parts: Arc<members::Members>, sources: Vec<(Arc<Decoding>, Store)>) -> Result<Self> {
        let uniform = sources
            .iter()
            .zip(sources.iter().skip(1))
            .all(|((decoding, _), (next, _))| decoding == next);
        let mut widest: Option<(DataType, &Store)> = None;
        let mut differ = false;
        for (decoding, store) in &sources {
            let data_type = decoding.data_type();
            let Some((known, place)) = &widest else {
                widest = Some((data_type, store));
                continue;
            };
            if data_type == *known {
                continue;
            }
            differ = true;
            match (float_width(known), float_width(&data_type)) {
                (Some(known), Some(own)) if own > known => widest = Some((data_type, store)),
                (Some(_), Some(_)) => {}
                _ => {
                    return Err(Error::Unsupported(format!(
                        "it is {data_type} in {}, and {known} in {}",
                        store.location(),
                        place.location()
                    )));
                }
            }
        }
        let wider = widest.filter(|_| differ).map(|(data_type, _)| data_type);
        Ok(Self {
            parts,
            sources,
            uniform,
            wider,
        })
    }

    /// The type of the values of the column.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        let first = || {
            self.sources
                .first()
                .map(|(decoding, _)| decoding.data_type())
        };
        self.wider.clone().or_else(first).unwrap_or(DataType::Null)
    }

    /// Whether a value can be NULL in one of the files.
    #[must_use]
    pub fn nullable(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|(decoding, _)| decoding.nullable())
    }

    /// Along which of the dimensions of the variable files follow each other.
    #[must_use]
    pub fn axis(&self) -> usize {
        self.parts.axis
    }

    /// Whether stored values mean the same in all files.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.uniform
    }

    /// Where each file begins; where the chunks of all are one index long, no cut is worth it.
    #[must_use]
    pub fn cuts(&self) -> Vec<u64> {
        let extent = |part: &members::Member| {
            let chunk = part.variable.layout.grid.chunk_shape();
            chunk.get(self.parts.axis).copied().unwrap_or(1)
        };
        let parts = &self.parts.parts;
        if parts.iter().all(|part| extent(part) <= 1) {
            return Vec::new();
        }
        parts.iter().map(|part| part.range.start).collect()
    }

    /// The stores of all files.
    pub fn stores(&self) -> impl Iterator<Item = &Store> {
        self.sources.iter().map(|(_, store)| store)
    }

    fn pieces(&self, selection: &Selection) -> Vec<Piece<'_>> {
        self.parts
            .split(selection)
            .filter_map(|(at, selection, place)| {
                let (decoding, store) = self.sources.get(at)?;
                Some(Piece {
                    variable: &self.parts.parts.get(at)?.variable,
                    decoding,
                    store,
                    selection,
                    place,
                    wider: self.wider.as_ref(),
                })
            })
            .collect()
    }
}

impl VariableColumn {
    /// What of the selected cells, given by its own indices, is in which file.
    #[must_use]
    pub fn pieces(&self, own: &Selection) -> Vec<Piece<'_>> {
        match &self.members {
            Some(members) => members.pieces(own),
            None => vec![Piece {
                variable: &self.variable,
                decoding: &self.decoding,
                store: &self.store,
                selection: own.clone(),
                place: 0..0,
                wider: None,
            }],
        }
    }

    /// Number of chunks that hold one of the selected cells, given by its own indices.
    #[must_use]
    pub fn touched_chunks(&self, own: &Selection) -> u64 {
        let pieces = self.pieces(own).into_iter();
        let counts =
            pieces.map(|piece| count_touched_chunks(&piece.variable.layout.grid, &piece.selection));
        counts.fold(0, u64::saturating_add)
    }

    /// Number of all its chunks.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        match &self.members {
            Some(members) => {
                let parts = members.parts.parts.iter();
                let counts = parts.map(|part| part.variable.layout.grid.len());
                counts.fold(0, u64::saturating_add)
            }
            None => self.variable.layout.grid.len(),
        }
    }

    /// Reads and decodes cells, given by its own indices, in C order.
    ///
    /// # Errors
    /// As [`read::read`] and [`Decoding::apply`]; they name the file.
    pub async fn read(&self, own: &Selection, buffers: &mut Buffers) -> Result<ArrayRef> {
        let mut values = Vec::new();
        for piece in self.pieces(own) {
            let selection = piece.selection.clone();
            let slab = read::read(piece.store, piece.variable, selection, buffers).await;
            let slab = slab.within(|| piece.store.location())?;
            values.push((piece.values(slab)?, piece.place));
        }
        self.joined(own, values)
    }

    /// The values of pieces as those of the whole, in C order.
    ///
    /// # Errors
    /// `Invalid` when they are not of one type.
    pub fn joined(
        &self,
        own: &Selection,
        mut pieces: Vec<(ArrayRef, Range<usize>)>,
    ) -> Result<ArrayRef> {
        let Some(members) = self.members.as_ref().filter(|_| pieces.len() != 1) else {
            let only = pieces.pop().map(|(values, _)| values);
            return Ok(only.unwrap_or_else(|| new_empty_array(&self.decoding.data_type())));
        };
        if pieces.is_empty() {
            return Ok(new_empty_array(&members.data_type()));
        }
        let outer = own.dims.iter().take(members.axis());
        let outer: u64 = outer
            .map(crate::array::hyperslab::IndexSet::count)
            .product();
        let outer = usize::try_from(outer).unwrap_or(usize::MAX);
        joined(&pieces, outer).map_err(|error| {
            Error::Invalid(format!("{}: its files differ: {error}", self.variable.path))
        })
    }
}

/// Arrays of `outer` rows each, which follow each other within each row.
fn joined(pieces: &[(ArrayRef, Range<usize>)], outer: usize) -> Result<ArrayRef, ArrowError> {
    if outer <= 1 {
        let arrays: Vec<&dyn Array> = pieces.iter().map(|(values, _)| values.as_ref()).collect();
        return concat(&arrays);
    }
    let data: Vec<_> = pieces.iter().map(|(values, _)| values.to_data()).collect();
    let types: Vec<_> = data.iter().map(|data| data.data_type()).collect();
    if types.iter().any(|other| types.first() != Some(other)) {
        return Err(ArrowError::InvalidArgumentError(
            "they are not of one type".into(),
        ));
    }
    let length = data.iter().map(arrow::array::ArrayData::len).sum();
    let mut whole = MutableArrayData::new(data.iter().collect(), false, length);
    for row in 0..outer {
        for (at, data) in data.iter().enumerate() {
            let cells = data.len() / outer;
            whole.try_extend(at, row * cells, (row + 1) * cells)?;
        }
    }
    Ok(make_array(whole.freeze()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    #[test]
    fn files_follow_each_other_within_each_row() {
        let piece = |values: Vec<i32>| (Arc::new(Int32Array::from(values)) as ArrayRef, 0..0);
        let pieces = [piece(vec![0, 1, 10, 11]), piece(vec![2, 12])];
        let whole = joined(&pieces, 2).unwrap();
        assert_eq!(
            whole.as_primitive::<Int32Type>().values(),
            &[0, 1, 2, 10, 11, 12]
        );
        let whole = joined(&pieces, 1).unwrap();
        assert_eq!(
            whole.as_primitive::<Int32Type>().values(),
            &[0, 1, 10, 11, 2, 12]
        );
    }
}
