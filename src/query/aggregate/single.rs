//! The engine's accumulators of all rows, in the place of accumulators of many groups.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// An accumulator of one group. The engine aggregates without keys by accumulators of this kind, whose states and
/// answers are not always those of accumulators of many groups.
pub(super) struct Single(pub(super) Box<dyn Accumulator>);

impl GroupsAccumulator for Single {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        _: &[usize],
        kept: Option<&BooleanArray>,
        _: usize,
    ) -> Result<()> {
        let Some(kept) = kept else {
            return self.0.update_batch(values);
        };
        let values = values
            .iter()
            .map(|values| Ok(filter(values, kept)?))
            .collect::<Result<Vec<_>>>()?;
        self.0.update_batch(&values)
    }

    fn evaluate(&mut self, _: EmitTo) -> Result<ArrayRef> {
        self.0.evaluate()?.to_array_of_size(1)
    }

    fn state(&mut self, _: EmitTo) -> Result<Vec<ArrayRef>> {
        let state = self.0.state()?.into_iter();
        state
            .map(|value: ScalarValue| value.to_array_of_size(1))
            .collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef], _: &[usize], _: usize) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        internal_err!("rows are not made into states")
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
