//! Predicates on stored numbers: which of them a comparison holds for is found by asking the engine, not by turning
//! its constants around.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::buffer::Buffer;
use datafusion::common::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column as ColumnExpr};

use crate::array::dtype::ElementType;
use crate::array::slab::{Slab, SlabData};
use crate::query::engine_error;
use crate::query::grid::{Grid, VariableColumn};
use crate::query::lowrank::{Bound, columns_of};

/// The column that all of `terms` compare with constants, if there is one.
pub(super) fn column(terms: &[Arc<dyn PhysicalExpr>]) -> Option<usize> {
    let first = columns_of(terms.first()?);
    let [column] = first.as_slice() else {
        return None;
    };
    let same = terms
        .iter()
        .all(|term| columns_of(term) == [*column] && comparison(term).is_some());
    same.then_some(*column)
}

/// The bits of the least and the greatest stored number of `variable` for which all of `terms` hold; `None` if it is
/// not all numbers between two.
pub(super) fn bits(
    grid: &Grid,
    variable: &VariableColumn,
    terms: &[Arc<dyn PhysicalExpr>],
) -> Result<Option<(u64, u64)>> {
    let Some(number) = variable.decoding.number() else {
        return Ok(None);
    };
    let line = Line {
        element: variable.variable.layout.element,
        number,
    };
    let (mut low, mut high) = line.ends();
    for term in terms {
        let Some(terms) = comparison(term) else {
            return Ok(None);
        };
        for term in terms {
            let Some((first, last)) = line.holds(grid, variable, &term)? else {
                return Ok(None);
            };
            low = low.max(first);
            high = high.min(last);
        }
    }
    if low > high {
        // Nothing: an interval that ends before it begins.
        let (first, last) = line.ends();
        return Ok(Some((line.bits(last), line.bits(first))));
    }
    Ok(Some((line.bits(low), line.bits(high))))
}

/// The comparisons of a column with a constant that `term` is: each holds on one side of some value.
fn comparison(term: &Arc<dyn PhysicalExpr>) -> Option<Vec<Arc<dyn PhysicalExpr>>> {
    let binary = term.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (binary.left(), binary.right());
    let sides = (
        is_column(left),
        columns_of(left).is_empty(),
        is_column(right),
        columns_of(right).is_empty(),
    );
    if !matches!(sides, (true, _, _, true) | (_, true, true, _)) {
        return None;
    }
    let with = |op: Operator| {
        Arc::new(BinaryExpr::new(Arc::clone(left), op, Arc::clone(right))) as Arc<dyn PhysicalExpr>
    };
    match binary.op() {
        Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
            Some(vec![Arc::clone(term)])
        }
        Operator::Eq => Some(vec![with(Operator::LtEq), with(Operator::GtEq)]),
        _ => None,
    }
}

/// A column, possibly as a wider number.
fn is_column(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if expr.downcast_ref::<ColumnExpr>().is_some() {
        return true;
    }
    expr.downcast_ref::<CastExpr>()
        .is_some_and(|cast| cast.cast_type().is_numeric() && is_column(cast.expr()))
}

/// The stored numbers of a type in increasing order, numbered.
struct Line {
    element: ElementType,
    number: ElementType,
}

impl Line {
    /// The numbers of the least and of the greatest: the infinities, for floating-point numbers.
    fn ends(&self) -> (i128, i128) {
        match self.number {
            ElementType::Float32 => {
                let last = i128::from(f32::INFINITY.to_bits());
                (-last, last)
            }
            ElementType::Float64 => {
                let last = i128::from(f64::INFINITY.to_bits());
                (-last, last)
            }
            other => other.integers().map_or((0, -1), |range| range.into_inner()),
        }
    }

    /// The bits of a stored number, as a decoding keeps them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "places are within the ends of the type; the bits are what is asked for"
    )]
    fn bits(&self, place: i128) -> u64 {
        match self.number {
            // Sign and magnitude: the order of the bits of positive numbers is that of the numbers.
            ElementType::Float32 if place < 0 => u64::from((-place) as u32 | 1 << 31),
            ElementType::Float64 if place < 0 => (-place) as u64 | 1 << 63,
            _ => place as u64,
        }
    }

    /// From which to which number a comparison holds; `None` if the engine says that it is not one of order.
    fn holds(
        &self,
        grid: &Grid,
        variable: &VariableColumn,
        term: &Arc<dyn PhysicalExpr>,
    ) -> Result<Option<(i128, i128)>> {
        let bound = Bound::new(grid, std::slice::from_ref(term))?;
        let decoding = variable.decoding.unmasked();
        let ask = |place: i128| -> Result<Option<bool>> {
            let size = self.element.size().unwrap_or(8);
            let bytes = self.bits(place).to_le_bytes();
            // Stored numbers are in native byte order.
            let mut native = bytes.get(..size).unwrap_or_default().to_vec();
            if cfg!(target_endian = "big") {
                native.reverse();
            }
            let value = decoding
                .apply(Slab {
                    element: self.element,
                    cells: 1,
                    data: SlabData::Fixed(Buffer::from_vec(native)),
                })
                .map_err(engine_error)?;
            let answer = bound.evaluate(vec![value], 1)?;
            let answer = answer.first().and_then(|answer| answer.as_boolean_opt());
            Ok(answer.and_then(|answer| answer.is_valid(0).then(|| answer.value(0))))
        };
        let (first, last) = self.ends();
        let (Some(at_first), Some(at_last)) = (ask(first)?, ask(last)?) else {
            // Comparison with NULL.
            return Ok(Some((last, first)));
        };
        if at_first == at_last {
            // A packed value may overflow at the ends; in between it is the same only if it is so at zero.
            let zero = 0i128.clamp(first, last);
            return Ok(match (at_first, ask(zero)?) {
                (true, Some(true)) => Some((first, last)),
                (false, Some(false)) => Some((last, first)),
                _ => None,
            });
        }
        // The last place that answers as the first one does.
        let (mut low, mut high) = (first, last);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if ask(middle)? == Some(at_first) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Some(if at_first { (first, low) } else { (high, last) }))
    }
}
