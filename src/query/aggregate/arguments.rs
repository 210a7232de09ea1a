//! Aggregates over a grid, by what has to be known of the data: nothing, values of few dimensions, or stored numbers.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column as ColumnExpr, Literal};
use datafusion::physical_expr_common::physical_expr::is_volatile;

use crate::query::grid::Grid;
use crate::query::lowrank::{self, columns_of, footprint};
use crate::query::view::View;
use crate::read::reduce::{Aggregate, Argument};

/// An aggregate that is computed from dense accumulators.
#[derive(Clone, Debug)]
pub(super) enum Dense {
    /// Counts rows.
    Rows,
    /// Reduces the stored numbers of a variable of full rank.
    Data {
        /// The column of the variable.
        column: usize,
        aggregate: Aggregate,
        /// For an argument times a weight: the weight.
        weight: Option<Arc<dyn PhysicalExpr>>,
        /// For the extremes of an expression that keeps or turns the order: the expression.
        extreme: Option<Arc<dyn PhysicalExpr>>,
    },
    /// Reduces values of few dimensions, which the others only repeat.
    Plane {
        expr: Arc<dyn PhysicalExpr>,
        kind: Kind,
    },
}

/// What an aggregate function computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Variance,
}

impl Kind {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "avg" => Self::Mean,
            "min" => Self::Min,
            "max" => Self::Max,
            "var" | "var_samp" | "var_pop" | "stddev" | "stddev_samp" | "stddev_pop" => {
                Self::Variance
            }
            _ => return None,
        })
    }

    /// Types of the columns of its partial state; `None` where they are those of the argument.
    fn state(self) -> Option<&'static [DataType]> {
        const COUNT: &[DataType] = &[DataType::Int64];
        const SUM: &[DataType] = &[DataType::Float64];
        const MEAN: &[DataType] = &[DataType::UInt64, DataType::Float64];
        const VARIANCE: &[DataType] = &[DataType::UInt64, DataType::Float64, DataType::Float64];
        match self {
            Self::Count => Some(COUNT),
            Self::Sum => Some(SUM),
            Self::Mean => Some(MEAN),
            Self::Variance => Some(VARIANCE),
            Self::Min | Self::Max => None,
        }
    }
}

/// An aggregate of one argument that there are dense kernels for.
pub(super) struct Call {
    pub(super) kind: Kind,
    /// The argument, on the columns of the table.
    pub(super) argument: Arc<dyn PhysicalExpr>,
    /// Types of the columns of its partial state.
    pub(super) state: Vec<DataType>,
}

impl Call {
    /// What `function` is; the error says why it is no such aggregate.
    pub(super) fn of(
        view: &View,
        function: &AggregateFunctionExpr,
    ) -> Result<std::result::Result<Self, String>> {
        if function.is_distinct() || !function.order_bys().is_empty() {
            return Ok(Err("DISTINCT or ORDER BY".into()));
        }
        let name = function.fun().name();
        let Some(kind) = Kind::of(name) else {
            return Ok(Err(format!("no dense kernel for {name}")));
        };
        let arguments = function.expressions();
        let [argument] = arguments.as_slice() else {
            return Ok(Err("more than one argument".into()));
        };
        let argument = view.on_table(argument)?;
        if is_volatile(&argument) {
            return Ok(Err("the argument changes from row to row".into()));
        }
        let state = function.state_fields()?;
        let state = state.iter().map(|field| field.data_type().clone());
        Ok(Ok(Self {
            kind,
            argument,
            state: state.collect(),
        }))
    }
}

impl Dense {
    /// How an aggregate without a filter of its own is computed; the error says why it cannot be this way.
    pub(super) fn new(
        view: &View,
        function: &AggregateFunctionExpr,
    ) -> Result<std::result::Result<Self, String>> {
        let refuse = |why: String| Ok(Err(format!("{}: {why}", function.name())));
        let Call {
            kind,
            argument,
            state,
        } = match Call::of(view, function)? {
            Ok(call) => call,
            Err(why) => return refuse(why),
        };
        let grid = view.source.grid().as_ref();
        if let Some(literal) = argument.downcast_ref::<Literal>()
            && kind == Kind::Count
        {
            return Ok(if literal.value().is_null() {
                Err(format!("{}: counts NULL", function.name()))
            } else {
                Ok(Self::Rows)
            });
        }
        if is_low(view, &argument) {
            return Self::plane(grid, &argument, kind, &state).map(|dense| {
                dense.ok_or_else(|| format!("{}: an argument of this type", function.name()))
            });
        }
        match data(grid, &argument, kind, &state)? {
            Some(dense) => Ok(Ok(dense)),
            None => refuse(format!("{argument} is evaluated block by block")),
        }
    }

    fn plane(
        grid: &Grid,
        argument: &Arc<dyn PhysicalExpr>,
        kind: Kind,
        state: &[DataType],
    ) -> Result<Option<Self>> {
        let of = argument.data_type(&grid.schema)?;
        let fits = match kind {
            Kind::Min | Kind::Max => state == [DataType::Float64] && of == DataType::Float64,
            Kind::Count => true,
            Kind::Sum | Kind::Mean | Kind::Variance => {
                kind.state().is_some_and(|types| types == state) && of == DataType::Float64
            }
        };
        Ok(fits.then(|| Self::Plane {
            expr: Arc::clone(argument),
            kind,
        }))
    }
}

/// Whether an expression depends on so few cells that it is evaluated before data is read.
pub(super) fn is_low(view: &View, expr: &Arc<dyn PhysicalExpr>) -> bool {
    let grid = view.source.grid();
    let axes = footprint(grid, expr);
    let low = axes.len() < grid.axes.len() || lowrank::in_memory(grid, expr);
    low && lowrank::cells(&view.source.pruned().selection, &axes) <= lowrank::MAX_PLANE
}

/// An aggregate of the stored numbers of one variable.
fn data(
    grid: &Grid,
    argument: &Arc<dyn PhysicalExpr>,
    kind: Kind,
    state: &[DataType],
) -> Result<Option<Dense>> {
    if kind.state().is_some_and(|types| types != state)
        && !(kind == Kind::Sum && matches!(state, [DataType::Int64 | DataType::UInt64]))
    {
        return Ok(None);
    }
    if let Some(affine) = Affine::of(grid, argument)? {
        let Affine {
            column,
            scale,
            offset,
            ..
        } = affine;
        let summed = Argument::Affine { scale, offset };
        let identity = (scale, offset) == (1.0, 0.0);
        let aggregate = match kind {
            Kind::Count => Aggregate::Count,
            Kind::Sum if state == [DataType::Float64] => Aggregate::Sum(summed),
            Kind::Sum if identity && affine.exact => Aggregate::Sum(Argument::Exact),
            Kind::Sum => return Ok(None),
            Kind::Mean => Aggregate::Mean(summed),
            Kind::Min if scale < 0.0 => Aggregate::Max,
            Kind::Max if scale < 0.0 => Aggregate::Min,
            Kind::Min => Aggregate::Min,
            Kind::Max => Aggregate::Max,
            Kind::Variance => Aggregate::Variance { scale, offset },
        };
        let extremes = matches!(kind, Kind::Min | Kind::Max);
        if extremes && state != [argument.data_type(&grid.schema)?] {
            return Ok(None);
        }
        let bare = argument.downcast_ref::<ColumnExpr>().is_some();
        return Ok(Some(Dense::Data {
            column,
            aggregate,
            weight: None,
            extreme: (extremes && !bare).then(|| Arc::clone(argument)),
        }));
    }
    let Some((column, weight)) = weighted(grid, argument)? else {
        return Ok(None);
    };
    let aggregate = match kind {
        Kind::Sum if state == [DataType::Float64] => Aggregate::Sum(Argument::Weighted(0)),
        Kind::Mean => Aggregate::Mean(Argument::Weighted(0)),
        _ => return Ok(None),
    };
    Ok(Some(Dense::Data {
        column,
        aggregate,
        weight: Some(weight),
        extreme: None,
    }))
}

/// `scale * column + offset` in double precision.
struct Affine {
    column: usize,
    scale: f64,
    offset: f64,
    /// Whether the expression is the column, or integers of more bytes with the same values.
    exact: bool,
}

impl Affine {
    fn of(grid: &Grid, expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Self>> {
        if let Some(column) = expr.downcast_ref::<ColumnExpr>() {
            let whole = grid
                .variable(column.index())
                .is_some_and(|variable| variable.is_whole(grid.axes.len()));
            return Ok(whole.then_some(Self {
                column: column.index(),
                scale: 1.0,
                offset: 0.0,
                exact: true,
            }));
        }
        let of = expr.data_type(&grid.schema)?;
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            let from = cast.expr().data_type(&grid.schema)?;
            let widens = match of {
                DataType::Float64 => from.is_numeric(),
                DataType::Int64 => from.is_signed_integer(),
                DataType::UInt64 => from.is_unsigned_integer(),
                _ => false,
            };
            let inner = Self::of(grid, cast.expr())?.filter(|_| widens);
            return Ok(inner.map(|inner| Self {
                exact: inner.exact && of.is_integer(),
                ..inner
            }));
        }
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
            return Ok(None);
        };
        if of != DataType::Float64 {
            return Ok(None);
        }
        let (left, right) = (binary.left(), binary.right());
        let (inner, number, swapped) = match (constant(left)?, constant(right)?) {
            (None, Some(number)) => (Self::of(grid, left)?, number, false),
            (Some(number), None) => (Self::of(grid, right)?, number, true),
            _ => return Ok(None),
        };
        let Some(inner) = inner.filter(|_| number.is_finite()) else {
            return Ok(None);
        };
        let (scale, offset) = (inner.scale, inner.offset);
        let (scale, offset) = match (binary.op(), swapped) {
            (Operator::Plus, _) => (scale, offset + number),
            (Operator::Minus, false) => (scale, offset - number),
            (Operator::Minus, true) => (-scale, number - offset),
            (Operator::Multiply, _) if number != 0.0 => (scale * number, offset * number),
            (Operator::Divide, false) if number != 0.0 => (scale / number, offset / number),
            _ => return Ok(None),
        };
        Ok(Some(Self {
            scale,
            offset,
            exact: false,
            ..inner
        }))
    }
}

/// The types in which products are computed.
const FLOATS: [DataType; 2] = [DataType::Float32, DataType::Float64];

/// A column of full rank times an expression of lower rank.
fn weighted(
    grid: &Grid,
    expr: &Arc<dyn PhysicalExpr>,
) -> Result<Option<(usize, Arc<dyn PhysicalExpr>)>> {
    let Some(binary) = expr
        .downcast_ref::<BinaryExpr>()
        .filter(|binary| *binary.op() == Operator::Multiply)
    else {
        return match expr.downcast_ref::<CastExpr>() {
            Some(cast) if expr.data_type(&grid.schema)? == DataType::Float64 => {
                let inner = cast.expr();
                if FLOATS.contains(&inner.data_type(&grid.schema)?) {
                    weighted(grid, inner)
                } else {
                    Ok(None)
                }
            }
            _ => Ok(None),
        };
    };
    if !expr.data_type(&grid.schema)?.is_floating() {
        return Ok(None);
    }
    let sides = [
        (binary.left(), binary.right()),
        (binary.right(), binary.left()),
    ];
    for (data, weight) in sides {
        let low = footprint(grid, weight).len() < grid.axes.len();
        if low
            && FLOATS.contains(&weight.data_type(&grid.schema)?)
            && let Some(affine) = Affine::of(grid, data)?
            && (affine.scale, affine.offset) == (1.0, 0.0)
        {
            return Ok(Some((affine.column, Arc::clone(weight))));
        }
    }
    Ok(None)
}

/// The number that an expression without columns is.
fn constant(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<f64>> {
    if !columns_of(expr).is_empty() || is_volatile(expr) {
        return Ok(None);
    }
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let value = match expr.downcast_ref::<Literal>() {
        Some(literal) => literal.value().clone(),
        None => match expr.evaluate(&nothing) {
            Ok(datafusion::logical_expr::ColumnarValue::Scalar(value)) => value,
            _ => return Ok(None),
        },
    };
    if !value.data_type().is_numeric() {
        return Ok(None);
    }
    Ok(match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => number,
        _ => None,
    })
}
