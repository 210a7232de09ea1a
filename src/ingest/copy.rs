//! Copies variables of a slice into the target, box by box.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::check;
use super::config::AppendConfig;
use super::slice::{SliceVariable, selection};
use crate::append::window::Window;
use crate::append::{OldCells, Region, Transaction};
use crate::array::Variable;
use crate::array::slab::SlabData;
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::cf::encode::Encoding;
use crate::error::{Error, Result};
use crate::read::{self, Buffers};

/// Bytes of a box, unless the pieces of a variable are larger.
const BOX: u64 = 32 << 20;

/// The way from a variable of slices, one behind the other, to one of the target.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    target: Arc<Variable>,
    parts: Vec<Part<'a>>,
    encoding: Encoding,
    /// The axis along which slices are appended, and the length before and after; without it there is one slice, and it is
    /// everything.
    along: Option<Along>,
    size: usize,
}

/// What comes from one slice.
#[derive(Debug)]
struct Part<'a> {
    /// Where the cells come from; without it they are missing values.
    source: Option<&'a SliceVariable>,
    /// Whether stored elements mean the same on both sides.
    verbatim: bool,
    /// Factor and summand for other units.
    conversion: Option<(f64, f64)>,
    /// First index along the axis.
    start: u64,
    /// Index behind the last one.
    end: u64,
}

/// Where slices are appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Along {
    pub(super) axis: usize,
    pub(super) before: u64,
    pub(super) after: u64,
}

/// What went wrong, and with which of the slices, if it was one of them.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) slice: Option<usize>,
    pub(super) error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { slice: None, error }
    }
}

impl<'a> Copy<'a> {
    /// Nothing yet of what goes to `target`.
    pub(super) fn new(
        target: &Arc<Variable>,
        along: Option<Along>,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let element = target.layout.element;
        let size = element.size().ok_or_else(|| {
            Error::Unsupported(format!(
                "variable {}: text of any length cannot be written",
                target.path
            ))
        })?;
        Ok(Self {
            target: Arc::clone(target),
            parts: Vec::new(),
            encoding: Encoding::of_variable(target, decode)?,
            along,
            size,
        })
    }

    /// Adds a slice of `length` indices along the axis, behind those before.
    pub(super) fn add(
        &mut self,
        source: Option<&'a SliceVariable>,
        length: u64,
        config: &AppendConfig,
        decode: &DecodeOptions,
    ) -> Result<()> {
        let decoding = Decoding::new(&self.target, decode)?;
        let conversion = match source {
            Some(source) => check::conversion(source, &self.target, config)?,
            None => None,
        };
        let verbatim = source.is_some_and(|source| {
            source.is_stored() && conversion.is_none() && source.decoding.means_the_same(&decoding)
        });
        let before = self.along.map_or(0, |along| along.before);
        let start = self.parts.last().map_or(before, |part| part.end);
        self.parts.push(Part {
            source,
            verbatim,
            conversion,
            start,
            end: start.saturating_add(length),
        });
        Ok(())
    }

    /// Writes all cells of the slices, each piece of the target once.
    ///
    /// # Errors
    /// What the slice cannot be read for, or the target not hold; with which slice it was.
    pub(super) async fn run(&self, transaction: &mut Transaction) -> Result<(), Failed> {
        let piece = transaction.piece(&self.target.path)?;
        let (start, end) = self.bounds();
        for (start, shape) in boxes(&start, &end, &piece, self.size as u64) {
            let region = self.region(transaction, start, &shape).await?;
            transaction.write(region).await?;
        }
        Ok(())
    }

    /// First indices of the slices in the target, and those behind the last.
    fn bounds(&self) -> (Vec<u64>, Vec<u64>) {
        let mut start = vec![0; self.target.shape().len()];
        let mut end = self.target.shape().to_vec();
        if let Some(along) = self.along
            && let (Some(start), Some(end)) = (start.get_mut(along.axis), end.get_mut(along.axis))
        {
            *start = along.before;
            *end = along.after;
        }
        (start, end)
    }

    /// The region of a box that begins where a piece does, with the cells that were there already.
    async fn region(
        &self,
        transaction: &Transaction,
        start: Vec<u64>,
        shape: &[u64],
    ) -> Result<Region, Failed> {
        let at = |extents: &[u64], axis: usize| extents.get(axis).copied().unwrap_or(0);
        let (mut new_start, mut new_shape) = (start.clone(), shape.to_vec());
        let mut kept = 0;
        if let Some(along) = self.along {
            kept = along.before.saturating_sub(at(&start, along.axis));
            if let (Some(first), Some(extent)) =
                (new_start.get_mut(along.axis), new_shape.get_mut(along.axis))
            {
                *first += kept;
                *extent -= kept;
            }
        }
        let cells = self.cells(&new_start, &new_shape).await?;
        if kept == 0 {
            return Ok(Region {
                variable: self.target.path.clone(),
                start,
                shape: shape.to_vec(),
                cells,
                old: OldCells::Kept,
            });
        }
        let mut window = Window::filled(start.clone(), shape, &[], self.size)?;
        window.place(&new_start, &new_shape, &cells)?;
        let mut old_shape = shape.to_vec();
        if let Some(extent) = self.along.and_then(|along| old_shape.get_mut(along.axis)) {
            *extent = kept;
        }
        let old = selection(&start, &old_shape);
        let store = transaction.store();
        let slab = read::read(store, &self.target, old, &mut Buffers::default()).await?;
        if let SlabData::Fixed(old) = slab.data {
            window.place(&start, &old_shape, &old)?;
        }
        Ok(window.into_region(&self.target.path, OldCells::Kept))
    }

    /// The elements of a box of the target, all of it within the slices.
    async fn cells(&self, start: &[u64], shape: &[u64]) -> Result<Vec<u8>, Failed> {
        let of = |slice: usize| {
            move |error| Failed {
                slice: Some(slice),
                error,
            }
        };
        let Some(along) = self.along else {
            return match self.parts.first() {
                Some(part) => self.part(part, start, shape).await.map_err(of(0)),
                None => Ok(Vec::new()),
            };
        };
        let first = start.get(along.axis).copied().unwrap_or(0);
        let end = first.saturating_add(shape.get(along.axis).copied().unwrap_or(0));
        let mut window: Option<Window> = None;
        for (number, part) in self.parts.iter().enumerate() {
            let (from, to) = (part.start.max(first), part.end.min(end));
            if from >= to {
                continue;
            }
            let (mut own_start, mut own_shape) = (start.to_vec(), shape.to_vec());
            if let (Some(start), Some(extent)) =
                (own_start.get_mut(along.axis), own_shape.get_mut(along.axis))
            {
                (*start, *extent) = (from, to - from);
            }
            let mut inner = own_start.clone();
            if let Some(start) = inner.get_mut(along.axis) {
                *start -= part.start;
            }
            let cells = self.part(part, &inner, &own_shape).await;
            let cells = cells.map_err(of(number))?;
            if own_shape == shape {
                return Ok(cells);
            }
            let gathered = match window.take() {
                Some(window) => window,
                None => Window::filled(start.to_vec(), shape, &[], self.size)?,
            };
            let gathered = window.insert(gathered);
            gathered.place(&own_start, &own_shape, &cells)?;
        }
        Ok(window.map_or_else(Vec::new, |window| {
            window.into_region("", OldCells::Kept).cells
        }))
    }

    /// The elements of a box of one slice, as the target holds them.
    async fn part(&self, part: &Part<'_>, start: &[u64], shape: &[u64]) -> Result<Vec<u8>> {
        let Some(source) = part.source else {
            let fill = self
                .encoding
                .fill()
                .unwrap_or_else(|_| self.target.layout.fill.clone());
            let window = Window::filled(start.to_vec(), shape, &fill, self.size)?;
            return Ok(window.into_region("", OldCells::Kept).cells);
        };
        if part.verbatim
            && let Some(elements) = source.elements(start, shape).await?
        {
            return Ok(elements);
        }
        let mut values = source.values(start, shape).await?;
        if let Some((factor, summand)) = part.conversion {
            values = converted(&values, factor, summand)?;
        }
        let mut cells = Vec::with_capacity(values.len() * self.size);
        self.encoding
            .encode(&values, &mut cells)
            .map_err(|error| self.advised(error))?;
        Ok(cells)
    }

    /// What can be done about values that the variable cannot hold.
    fn advised(&self, error: Error) -> Error {
        if self.encoding.fill().is_ok() {
            return error;
        }
        match error {
            Error::Invalid(text) if text.contains("NULL") || text.contains("missing value") => {
                Error::Invalid(format!(
                    "{text}; fill_value in the encoding of a target that is created gives it one"
                ))
            }
            other => other,
        }
    }
}

fn converted(values: &ArrayRef, factor: f64, summand: f64) -> Result<ArrayRef> {
    let values = cast(values, &DataType::Float64)
        .map_err(|error| Error::Invalid(format!("values in other units: {error}")))?;
    let values: Float64Array = values
        .as_primitive::<Float64Type>()
        .unary(|value| value * factor + summand);
    Ok(Arc::new(values))
}

/// Boxes of whole pieces that cover all cells from `start` to `end`, each with its first indices and extents.
fn boxes(start: &[u64], end: &[u64], piece: &[u64], size: u64) -> Vec<(Vec<u64>, Vec<u64>)> {
    if start.iter().zip(end).any(|(start, end)| start >= end) {
        return Vec::new();
    }
    let aligned = |at: u64, piece: u64| at / piece.max(1) * piece.max(1);
    let mut extents: Vec<u64> = start
        .iter()
        .zip(end)
        .zip(piece)
        .map(|((start, end), piece)| end - aligned(*start, *piece))
        .collect();
    // Cut from the slowest dimension on, until a box is small enough, but never a piece.
    for (at, piece) in piece.iter().enumerate() {
        let bytes = extents
            .iter()
            .fold(size, |bytes, extent| bytes.saturating_mul(*extent));
        if bytes <= BOX {
            break;
        }
        if let Some(extent) = extents.get_mut(at) {
            let row = bytes / (*extent).max(1);
            let rows = (BOX / row.max(1)).max(1);
            *extent = aligned(rows, *piece).max(*piece).min(*extent);
        }
    }
    let mut all: Vec<(Vec<u64>, Vec<u64>)> = vec![(Vec::new(), Vec::new())];
    for (((start, end), piece), extent) in start.iter().zip(end).zip(piece).zip(&extents) {
        let mut parts = Vec::new();
        let mut first = aligned(*start, *piece);
        while first < *end {
            let behind = first.saturating_add(*extent).min(*end);
            parts.push((first, behind - first));
            first = behind;
        }
        all = all
            .iter()
            .flat_map(|(starts, shapes)| {
                parts.iter().map(move |(first, extent)| {
                    let (mut starts, mut shapes) = (starts.clone(), shapes.clone());
                    starts.push(*first);
                    shapes.push(*extent);
                    (starts, shapes)
                })
            })
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_begin_with_pieces_and_cover_everything() {
        assert_eq!(
            boxes(&[5, 0], &[9, 7], &[4, 3], 4),
            [(vec![4, 0], vec![5, 7])]
        );
        let large = boxes(&[1, 0], &[3, 6000], &[1, 2500], 4000);
        let covered: u64 = large.iter().map(|(_, shape)| shape[0] * shape[1]).sum();
        assert_eq!(covered, 2 * 6000);
        for (start, shape) in &large {
            assert_eq!(start[1] % 2500, 0);
            assert!(shape[0] * shape[1] * 4000 <= BOX || shape == &[1, 2500]);
        }
        assert_eq!(boxes(&[], &[], &[], 8), [(vec![], vec![])]);
        assert!(boxes(&[3], &[3], &[1], 8).is_empty());
    }
}
