//! The engine's partial states from the accumulators of a reduction.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

use crate::array::slab::{Slab, SlabData};
use crate::cf::number::Number;
use crate::error::{Error, Result};
use crate::read::reduce::dense::Dense;
use crate::read::reduce::kernels::Lane;
use crate::read::reduce::{Aggregate, Argument, Partial, Reduction};

/// The partial states of every group.
pub(super) fn partial<T: Lane + Number>(
    dense: &Dense<T>,
    reduction: &Reduction,
) -> Result<Partial> {
    let slots = &dense.slots;
    let selective = dense.quantities.selective;
    let rows = if selective {
        slots.counts.clone()
    } else {
        reduction.labels.cells(&reduction.plan.selection)
    };
    let counts: Vec<u64> = if selective || slots.counts.is_empty() {
        rows.clone()
    } else {
        let pairs = rows.iter().zip(&slots.counts);
        pairs
            .map(|(rows, rejected)| rows.saturating_sub(*rejected))
            .collect()
    };
    let group = Group {
        seen: NullBuffer::from_iter(counts.iter().map(|count| *count > 0)),
        counts,
        packing: reduction.decoding.packing().unwrap_or((1.0, 0.0)),
    };
    let mut states = Vec::with_capacity(reduction.aggregates.len());
    for aggregate in &reduction.aggregates {
        states.push(match aggregate {
            Aggregate::Rows => vec![int64(&rows)],
            Aggregate::Count => vec![int64(&group.counts)],
            Aggregate::Sum(Argument::Exact) => vec![group.exact(dense)],
            Aggregate::Sum(argument) => vec![group.floats(group.sums(dense, *argument)?)],
            Aggregate::Mean(argument) => vec![
                Arc::new(UInt64Array::new(
                    group.counts.clone().into(),
                    Some(group.seen.clone()),
                )) as ArrayRef,
                group.floats(group.sums(dense, *argument)?),
            ],
            Aggregate::Min | Aggregate::Max => {
                let least = matches!(aggregate, Aggregate::Min);
                let stored = if least == reduction.decoding.is_descending() {
                    &slots.max
                } else {
                    &slots.min
                };
                vec![group.values(stored, reduction)?]
            }
            Aggregate::Variance { scale, offset } => {
                let (packing, shift) = group.packing;
                let factor = scale * packing;
                let moments = &slots.moments;
                let means = moments
                    .mean
                    .iter()
                    .zip(&moments.count)
                    .map(|(mean, count)| {
                        let empty = *count == 0;
                        if empty {
                            0.0
                        } else {
                            scale * (packing * mean + shift) + offset
                        }
                    });
                let m2 = moments.m2.iter().map(|m2| m2 * factor * factor);
                vec![
                    Arc::new(UInt64Array::from(moments.count.clone())) as ArrayRef,
                    Arc::new(Float64Array::from_iter_values(means)),
                    Arc::new(Float64Array::from_iter_values(m2)),
                ]
            }
        });
    }
    Ok(Partial { rows, states })
}

struct Group {
    counts: Vec<u64>,
    /// Groups with a value.
    seen: NullBuffer,
    packing: (f64, f64),
}

impl Group {
    /// The sum of the argument in each group.
    fn sums<T: Lane>(&self, dense: &Dense<T>, argument: Argument) -> Result<Vec<f64>> {
        let slots = &dense.slots;
        let (packing, shift) = self.packing;
        match argument {
            Argument::Exact | Argument::Affine { .. } => {
                let (scale, offset) = match argument {
                    Argument::Affine { scale, offset } => (scale, offset),
                    Argument::Exact | Argument::Weighted(_) => (1.0, 0.0),
                };
                let factor = scale * packing;
                let each = scale * shift + offset;
                let counts = self.counts.iter().map(|count| Lane::to_f64(*count));
                let of = |(sum, count): (f64, f64)| match each == 0.0 {
                    true => factor * sum,
                    false => factor * sum + count * each,
                };
                Ok(if slots.sum.is_empty() {
                    let sums = slots.exact.iter().map(|sum| Lane::to_f64(*sum));
                    sums.zip(counts).map(of).collect()
                } else {
                    slots.sum.iter().copied().zip(counts).map(of).collect()
                })
            }
            Argument::Weighted(at) => slots
                .weighted
                .get(at)
                .map(|sums| sums.iter().map(|sum| packing * sum).collect())
                .ok_or_else(|| Error::Invalid(format!("a reduction has no weights {at}"))),
        }
    }

    fn floats(&self, values: Vec<f64>) -> ArrayRef {
        Arc::new(Float64Array::new(values.into(), Some(self.seen.clone())))
    }

    /// Exact sums in the type that the engine sums integers in.
    fn exact<T: Lane>(&self, dense: &Dense<T>) -> ArrayRef {
        let seen = Some(self.seen.clone());
        let sums = &dense.slots.exact;
        if Lane::to_f64(T::LOWEST) < 0.0 {
            Arc::new(Int64Array::new(sums.clone().into(), seen))
        } else {
            let sums = sums.iter().map(|sum| u64::from_ne_bytes(sum.to_ne_bytes()));
            Arc::new(UInt64Array::new(sums.collect(), seen))
        }
    }

    /// Decoded values, NULL in groups without one.
    fn values<T: Lane + Number>(&self, stored: &[T], reduction: &Reduction) -> Result<ArrayRef> {
        // The least of no value stands for nothing and may not be decodable.
        let stored: ScalarBuffer<T> = stored
            .iter()
            .zip(self.seen.iter())
            .map(|(value, seen)| if seen { *value } else { T::default() })
            .collect();
        let buffer: Buffer = stored.into_inner();
        let decoded = reduction.decoding.apply(Slab {
            element: reduction.plan.layout.element,
            cells: self.counts.len(),
            data: SlabData::Fixed(buffer),
        })?;
        let data = decoded
            .to_data()
            .into_builder()
            .nulls(Some(self.seen.clone()))
            .build()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(arrow::array::make_array(data))
    }
}

fn int64(counts: &[u64]) -> ArrayRef {
    let counts = counts
        .iter()
        .map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(counts))
}
