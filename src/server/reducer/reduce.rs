//! The reduction of a strided n-dimensional selection of decoded bytes.
//!
//! ```text
//! shape, order, selection, axes  ->  Plan        which elements there are, and which element of the result each belongs to
//! Plan, bytes, missing           ->  Reduced     one pass in the order of memory
//! ```

use serde::Deserialize;

use super::fold::{Extreme, Fold, Nothing, Total, counted, finished};
use super::missing::{Absent, Missing};
use super::number::{Element, Number, with_number};
use crate::error::{Error, Result};

/// Most dimensions of an array, as of NumPy.
const RANK: usize = 64;

/// What is made of the elements that are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Count,
    Max,
    Min,
    Select,
    Sum,
}

/// The order of elements in memory.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum Order {
    /// The last index varies fastest.
    #[default]
    C,
    /// The first index varies fastest.
    F,
}

/// Indices of one dimension, as NumPy understands `start:end:stride`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) stride: i64,
}

/// Which axes are reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Axes {
    All,
    /// These, in ascending order; none leaves every element to itself.
    Some(Vec<usize>),
}

/// What a reduction gave.
#[derive(Debug, PartialEq)]
pub(super) struct Reduced {
    /// Elements in the byte order of this machine.
    pub(super) bytes: Vec<u8>,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    /// How many elements counted, for each of the result; for a selection, one number for all.
    pub(super) counts: Vec<i64>,
}

/// Which elements are selected, and where in the result they go.
#[derive(Debug)]
pub(super) struct Plan {
    /// The dimensions that have to be walked; the last varies fastest in memory.
    dims: Vec<Dim>,
    /// Place of the first element.
    first: usize,
    /// Elements of the array.
    cells: usize,
    /// Elements that are selected.
    selected: usize,
    /// The shape of the result.
    shape: Vec<usize>,
    /// Elements of the result of a reduction.
    slots: usize,
}

#[derive(Clone, Copy, Debug)]
struct Dim {
    count: usize,
    /// From one element to the next, in elements of the array.
    stride: isize,
    /// And in elements of the result.
    slot: usize,
}

impl Plan {
    /// Finds the elements of an array of this shape.
    ///
    /// # Errors
    /// `Invalid` when shape, selection and axes do not fit each other.
    pub(super) fn new(
        operation: Operation,
        shape: &[usize],
        order: Order,
        selection: Option<&[Slice]>,
        axes: &Axes,
    ) -> Result<Self> {
        let cells = cells(shape)?;
        let rank = shape.len();
        if let Some(selection) = selection.filter(|selection| selection.len() != rank) {
            return Err(Error::Invalid(format!(
                "the selection has {} dimensions, and the shape has {rank}",
                selection.len()
            )));
        }
        let axes = match axes {
            Axes::Some(axes) if operation != Operation::Select => Some(axes),
            _ => None,
        };
        if let Some(axis) = axes.into_iter().flatten().find(|axis| **axis >= rank) {
            return Err(Error::Invalid(format!(
                "there is no axis {axis} in {rank} dimensions"
            )));
        }
        let mut dims = Vec::with_capacity(rank);
        let (mut first, mut stride) = (0, 1);
        for at in in_memory(rank, order).rev() {
            let length = shape.get(at).copied().unwrap_or(1);
            let whole = Slice::whole(length);
            let slice = selection.and_then(|all| all.get(at)).unwrap_or(&whole);
            let (start, count) = slice.indices(length)?;
            // A stride that is too long for this is of one index only.
            let step = isize::try_from(slice.stride).unwrap_or(0);
            first += start * stride;
            dims.push(Dim {
                count,
                stride: step.saturating_mul(stride.cast_signed()),
                slot: 0,
            });
            stride *= length;
        }
        dims.reverse();
        let counts: Vec<usize> = (0..rank)
            .filter_map(|at| dims.get(position(at, rank, order)).map(|dim| dim.count))
            .collect();
        let mut slots = 1;
        let mut kept = Vec::new();
        for at in (0..rank).rev() {
            let is_reduced = axes.is_none_or(|axes| axes.contains(&at));
            if let Some(dim) = dims.get_mut(position(at, rank, order))
                && !is_reduced
            {
                dim.slot = slots;
                slots *= dim.count;
                kept.push(dim.count);
            }
        }
        kept.reverse();
        Ok(Self {
            selected: counts.iter().product(),
            dims: merged(&dims),
            first,
            cells,
            shape: match operation {
                Operation::Select => counts,
                _ => kept,
            },
            slots,
        })
    }

    /// Elements of the array.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// Bytes that a reduction of elements of this size holds, with those of its answer.
    pub(super) fn memory(&self, operation: Operation, size: usize) -> usize {
        /// For each element of a result: its accumulator, itself and its count, and both once more in the answer.
        const SLOT: usize = 96;
        match operation {
            Operation::Select => self.selected.saturating_mul(2 * size),
            _ => self.slots.saturating_mul(SLOT),
        }
    }

    /// Reduces the elements, whose bytes have the byte order of this machine.
    ///
    /// # Errors
    /// `Invalid` when the bytes are not those of the array, a missing value is no element, or a sum of integers is out
    /// of the range of elements.
    pub(super) fn reduce(
        &self,
        operation: Operation,
        element: Element,
        bytes: &[u8],
        missing: Option<&Missing>,
    ) -> Result<Reduced> {
        if self.cells.checked_mul(element.size()) != Some(bytes.len()) {
            return Err(Error::Invalid(format!(
                "there are {} bytes, and {} elements of {}",
                bytes.len(),
                self.cells,
                element.name()
            )));
        }
        let reduced: Result<Reduced> = with_number!(element, T => {
            let absent = Absent::<T>::new(element, missing)?;
            match operation {
                Operation::Count => Ok(counted(&self.folded::<T, Nothing>(bytes, &absent))),
                Operation::Max => finished(element, &self.folded::<T, Extreme<T, true>>(bytes, &absent)),
                Operation::Min => finished(element, &self.folded::<T, Extreme<T, false>>(bytes, &absent)),
                Operation::Sum => finished(element, &self.folded::<T, Total<T>>(bytes, &absent)),
                Operation::Select => Ok(self.select::<T>(element, bytes, &absent)),
            }
        });
        reduced.map(|reduced| Reduced {
            shape: self.shape.clone(),
            ..reduced
        })
    }

    /// The accumulators of the result in C order, each with the number of elements that counted.
    fn folded<T: Number, F: Fold<T>>(&self, bytes: &[u8], absent: &Absent<T>) -> Vec<(i64, F)> {
        let mut slots = vec![(0, F::first()); self.slots];
        self.rows(|at, slot, dim| {
            if dim.slot == 0 {
                let Some(reduced) = slots.get_mut(slot) else {
                    return;
                };
                let (mut count, mut fold) = *reduced;
                each::<T>(bytes, at, dim, |value, _| {
                    if !absent.has(value) {
                        count += 1;
                        fold.take(value);
                    }
                });
                *reduced = (count, fold);
            } else {
                each::<T>(bytes, at, dim, |value, index| {
                    if let Some((count, fold)) = slots.get_mut(slot + index * dim.slot)
                        && !absent.has(value)
                    {
                        *count += 1;
                        fold.take(value);
                    }
                });
            }
        });
        slots
    }

    /// The elements in the order of memory, those that are missing too.
    fn select<T: Number>(&self, element: Element, bytes: &[u8], absent: &Absent<T>) -> Reduced {
        let mut selected = Vec::with_capacity(self.selected.saturating_mul(T::SIZE));
        let mut count = 0;
        self.rows(|at, _, dim| {
            each::<T>(bytes, at, dim, |value, _| {
                count += i64::from(!absent.has(value));
                value.write(&mut selected);
            });
        });
        Reduced {
            bytes: selected,
            element,
            shape: Vec::new(),
            counts: vec![count],
        }
    }

    /// Calls `visit` with the places of the first elements of all rows, in the array and in the result.
    fn rows(&self, mut visit: impl FnMut(usize, usize, &Dim)) {
        let Some((inner, outer)) = self.dims.split_last() else {
            return;
        };
        if self.selected == 0 {
            return;
        }
        let mut indices = vec![0; outer.len()];
        let (mut at, mut slot) = (self.first, 0);
        loop {
            visit(at, slot, inner);
            // The last index that can grow grows; those after it begin anew.
            let mut grown = false;
            for (index, dim) in indices.iter_mut().zip(outer).rev() {
                if *index + 1 < dim.count {
                    *index += 1;
                    at = at.saturating_add_signed(dim.stride);
                    slot += dim.slot;
                    grown = true;
                    break;
                }
                let back = isize::try_from(*index).unwrap_or(0);
                at = at.saturating_add_signed(-dim.stride * back);
                slot -= dim.slot * *index;
                *index = 0;
            }
            if !grown {
                return;
            }
        }
    }
}

impl Slice {
    fn whole(length: usize) -> Self {
        Self {
            start: 0,
            end: i64::try_from(length).unwrap_or(i64::MAX),
            stride: 1,
        }
    }

    /// The first index, and how many there are.
    fn indices(&self, length: usize) -> Result<(usize, usize)> {
        if self.stride == 0 {
            return Err(Error::Invalid("a stride of 0 selects nothing".to_owned()));
        }
        let length = i128::try_from(length).unwrap_or(i128::MAX);
        let stride = i128::from(self.stride);
        // One before the first index stands for an end that is never reached.
        let (least, most) = if stride > 0 {
            (0, length)
        } else {
            (-1, length - 1)
        };
        let within = |index: i64| {
            let index = i128::from(index);
            let index = if index < 0 { index + length } else { index };
            index.clamp(least, most)
        };
        let (start, end) = (within(self.start), within(self.end));
        let distance = if stride > 0 { end - start } else { start - end };
        let count = (distance.max(0) + stride.abs() - 1) / stride.abs();
        let index = |value: i128| usize::try_from(value).unwrap_or(0);
        Ok((if count > 0 { index(start) } else { 0 }, index(count)))
    }
}

/// Elements of an array of this shape.
///
/// # Errors
/// `Invalid` when there are no dimensions, too many, or too long ones.
pub(super) fn cells(shape: &[usize]) -> Result<usize> {
    if shape.is_empty() || shape.contains(&0) {
        return Err(Error::Invalid(
            "a shape has at least one dimension, and each at least one index".to_owned(),
        ));
    }
    if shape.len() > RANK {
        return Err(Error::Invalid(format!(
            "the shape has {} dimensions, and may have {RANK}",
            shape.len()
        )));
    }
    // Places are signed, and bytes have to be counted, too.
    let most = isize::MAX.cast_unsigned() / 16;
    shape
        .iter()
        .try_fold(1usize, |cells, length| cells.checked_mul(*length))
        .filter(|cells| *cells <= most)
        .ok_or_else(|| Error::Invalid("an array of this shape does not fit any memory".to_owned()))
}

/// The axes in the order of memory, slowest first.
fn in_memory(rank: usize, order: Order) -> impl DoubleEndedIterator<Item = usize> {
    (0..rank).map(move |at| position(at, rank, order))
}

/// Where an axis is in the order of memory, and the other way round.
fn position(at: usize, rank: usize, order: Order) -> usize {
    match order {
        Order::C => at,
        Order::F => rank - 1 - at,
    }
}

/// The same walk by fewer dimensions.
fn merged(dims: &[Dim]) -> Vec<Dim> {
    let mut fewer: Vec<Dim> = Vec::with_capacity(dims.len());
    for dim in dims.iter().filter(|dim| dim.count != 1) {
        let count = isize::try_from(dim.count).unwrap_or(isize::MAX);
        match fewer.last_mut() {
            Some(outer)
                if dim.stride.checked_mul(count) == Some(outer.stride)
                    && dim.slot.checked_mul(dim.count) == Some(outer.slot) =>
            {
                *outer = Dim {
                    count: outer.count * dim.count,
                    ..*dim
                };
            }
            _ => fewer.push(*dim),
        }
    }
    if fewer.is_empty() {
        fewer.push(Dim {
            count: 1,
            stride: 1,
            slot: 0,
        });
    }
    fewer
}

/// Calls `take` with the elements of a row.
#[inline]
fn each<T: Number>(bytes: &[u8], at: usize, dim: &Dim, mut take: impl FnMut(T, usize)) {
    if dim.stride == 1 {
        let row = bytes.get(at * T::SIZE..(at + dim.count) * T::SIZE);
        let row = row.unwrap_or_default().chunks_exact(T::SIZE);
        row.enumerate()
            .for_each(|(index, bytes)| take(T::read(bytes), index));
        return;
    }
    let mut at = at;
    for index in 0..dim.count {
        take(
            T::read(bytes.get(at * T::SIZE..).unwrap_or_default()),
            index,
        );
        at = at.saturating_add_signed(dim.stride);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::Number as Written;

    use super::*;

    fn bytes<T: Number>(values: &[T]) -> Vec<u8> {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.write(&mut bytes));
        bytes
    }

    fn values<T: Number>(bytes: &[u8]) -> Vec<T> {
        bytes.chunks_exact(T::SIZE).map(T::read).collect()
    }

    fn slice(start: i64, end: i64, stride: i64) -> Slice {
        Slice { start, end, stride }
    }

    /// 0, 1, 2, … in this shape, reduced.
    fn reduced(
        operation: Operation,
        shape: &[usize],
        order: Order,
        selection: Option<&[Slice]>,
        axes: &Axes,
    ) -> (Vec<i32>, Vec<usize>, Vec<i64>) {
        let count = i32::try_from(shape.iter().product::<usize>()).unwrap();
        let array: Vec<i32> = (0..count).collect();
        let plan = Plan::new(operation, shape, order, selection, axes).unwrap();
        let reduced = plan.reduce(operation, Element::Int32, &bytes(&array), None);
        let reduced = reduced.unwrap();
        (values(&reduced.bytes), reduced.shape, reduced.counts)
    }

    #[test]
    fn indices_are_those_of_numpy() {
        // From range(7)[start:end:stride].
        for (given, first, count) in [
            (slice(0, 7, 1), 0, 7),
            (slice(-3, -1, 1), 4, 2),
            (slice(5, 2, -1), 5, 3),
            (slice(100, -100, -3), 6, 3),
            (slice(2, 2, 1), 0, 0),
            (slice(3, 1, 1), 0, 0),
            (slice(1, 3, -1), 0, 0),
            (slice(1, 7, i64::MAX), 1, 1),
            (slice(6, -8, i64::MIN), 6, 1),
            (slice(i64::MIN, i64::MAX, 3), 0, 3),
        ] {
            assert_eq!(given.indices(7).unwrap(), (first, count), "{given:?}");
        }
        assert!(slice(0, 7, 0).indices(7).is_err());
    }

    #[test]
    fn every_element_goes_where_its_kept_indices_say() {
        use Operation::{Max, Min, Select, Sum};
        let all = Axes::All;
        let of = |axes: &[usize]| Axes::Some(axes.to_vec());
        assert_eq!(
            reduced(Sum, &[2, 3], Order::C, None, &all),
            (vec![15], vec![], vec![6])
        );
        assert_eq!(
            reduced(Sum, &[2, 3], Order::C, None, &of(&[0])),
            (vec![3, 5, 7], vec![3], vec![2, 2, 2])
        );
        // In F order the array is [[0, 2, 4], [1, 3, 5]].
        assert_eq!(
            reduced(Max, &[2, 3], Order::F, None, &of(&[1])),
            (vec![4, 5], vec![2], vec![3, 3])
        );
        assert_eq!(
            reduced(Min, &[2, 3], Order::F, None, &of(&[])),
            (vec![0, 2, 4, 1, 3, 5], vec![2, 3], vec![1; 6])
        );
        let backwards = [slice(0, 2, 1), slice(2, -4, -2)];
        assert_eq!(
            reduced(Select, &[2, 3], Order::C, Some(&backwards), &of(&[0])),
            (vec![2, 0, 5, 3], vec![2, 2], vec![4])
        );
        // The bytes of a selection are in the order of memory.
        assert_eq!(
            reduced(Select, &[2, 3], Order::F, Some(&backwards), &all),
            (vec![4, 5, 0, 1], vec![2, 2], vec![4])
        );
        let none = [slice(0, 2, 1), slice(1, 1, 1)];
        assert_eq!(
            reduced(Sum, &[2, 3], Order::C, Some(&none), &of(&[1])),
            (vec![0, 0], vec![2], vec![0, 0])
        );
        assert_eq!(
            reduced(Min, &[2, 3], Order::C, Some(&none), &all),
            (vec![i32::MAX], vec![], vec![0])
        );
        assert_eq!(
            reduced(Max, &[2, 3], Order::C, Some(&none), &of(&[0])),
            (vec![], vec![0], vec![])
        );
    }

    #[test]
    fn what_is_missing_does_not_count_and_what_is_no_number_does() {
        let array = [1.0f32, f32::NAN, 3.0, -999.0];
        let plan = Plan::new(Operation::Min, &[4], Order::C, None, &Axes::All).unwrap();
        let min = |missing: Option<Missing>| {
            let bytes = bytes(&array);
            let reduced = plan.reduce(Operation::Min, Element::Float32, &bytes, missing.as_ref());
            let reduced = reduced.unwrap();
            (values::<f32>(&reduced.bytes), reduced.counts)
        };
        assert!(min(None).0.iter().all(|value| value.is_nan()));
        let number = |value: f64| Written::from_f64(value).unwrap();
        let (least, counts) = min(Some(Missing::Below(number(0.0))));
        assert!(least.iter().all(|value| value.is_nan()));
        assert_eq!(counts, [3]);
        let absent = Absent::<f32>::new(
            Element::Float32,
            Some(&Missing::Outside(number(0.0), number(2.0))),
        );
        let absent = absent.unwrap();
        assert_eq!(
            array.map(|value| absent.has(value)),
            [false, false, true, true]
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let plan = |shape: &[usize], selection: Option<&[Slice]>, axes| {
            Plan::new(Operation::Sum, shape, Order::C, selection, &axes).map(drop)
        };
        for (shape, selection, axes) in [
            (&[][..], None, Axes::All),
            (&[2, 0], None, Axes::All),
            (&[usize::MAX, usize::MAX], None, Axes::All),
            (&[usize::MAX], None, Axes::All),
            (&[1; 65], None, Axes::All),
            (&[2, 2], Some(&[slice(0, 1, 1)][..]), Axes::All),
            (&[2], Some(&[slice(0, 1, 0)][..]), Axes::All),
            (&[2, 2], None, Axes::Some(vec![2])),
        ] {
            let refused = plan(shape, selection, axes);
            assert!(matches!(refused, Err(Error::Invalid(_))), "{shape:?}");
        }
        let plan = Plan::new(Operation::Sum, &[4], Order::C, None, &Axes::All).unwrap();
        let sum = |array: &[i32]| {
            plan.reduce(Operation::Sum, Element::Int32, &bytes(array), None)
                .map_err(|error| error.to_string())
        };
        let refused = sum(&[i32::MAX; 4]).unwrap_err();
        assert!(
            refused.starts_with("the sum is 8589934588, which is out of"),
            "{refused}"
        );
        assert!(sum(&[1; 3]).is_err());
        // What is in between may be out of range.
        assert!(sum(&[i32::MAX, 1, -1, 0]).is_ok());
    }
}
