//! Joins of arrays on their dimensions: an equi-join becomes one scan with more variables.
//!
//! ```text
//! HashJoinExec  on time, lat, lon                       ArraySource  tas JOIN pr ON time, lat, lon
//!   ArraySource  tas[time, lat, lon]              ->      columns    time, lat, lon, tas, pr
//!   ArraySource  pr[time, lat, lon]                       pr is read where the indices of tas find their partners
//! ```
//!
//! One side has to be found by the keys: they are its dimensions, every one of them, and no value occurs twice. The
//! other side gives the grid of the result. Whatever does not fit stays the engine's join.

mod fold;
mod moving;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{JoinSide, JoinType, NullEquality, Result, internal_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::query::HyperslabOptions;
use crate::query::join::fold::Fold;
use crate::query::lowrank::columns_of_all;
use crate::query::view::{View, inlined, noted};

/// The rule that turns joins of arrays on their dimensions into scans.
#[derive(Debug, Default)]
pub struct GridJoin;

impl PhysicalOptimizerRule for GridJoin {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = config.extensions.get::<HyperslabOptions>();
        if options.is_some_and(|options| !options.push_joins) {
            return Ok(plan);
        }
        Ok(rewritten(&plan)?.unwrap_or(plan))
    }

    fn name(&self) -> &'static str {
        "GridJoin"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A plan with its joins turned into scans, innermost first; nothing if there is none.
fn rewritten(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    // Projections say which columns of the join below them are wanted.
    let (below, exprs) = beneath_projections(node)?;
    let mut changed = false;
    let mut children = Vec::new();
    for child in below.children() {
        let child_rewritten = rewritten(child)?;
        changed |= child_rewritten.is_some();
        children.push(child_rewritten.unwrap_or_else(|| Arc::clone(child)));
    }
    let mut plan = if changed {
        with_children(&below, children)?
    } else {
        Arc::clone(&below)
    };
    if let Some(mut join) = Join::of(&plan) {
        changed = true;
        match join.wanting(exprs.as_deref())?.scan() {
            Ok(scan) => {
                return Ok(Some(match exprs {
                    Some(exprs) => projected(node, &exprs, scan)?,
                    None => scan,
                }));
            }
            Err(Stays(why)) => plan = explained(&plan, &why)?,
        }
    }
    Ok(if changed {
        Some(put_beneath(node, &below, plan)?)
    } else {
        None
    })
}

/// The first node below projections, and their expressions over its columns. Past the first, only projections of bare
/// columns are looked through: what they compute would be computed twice.
fn beneath_projections(
    node: &Arc<dyn ExecutionPlan>,
) -> Result<(Arc<dyn ExecutionPlan>, Option<Exprs>)> {
    let Some(projection) = node.downcast_ref::<ProjectionExec>() else {
        return Ok((Arc::clone(node), None));
    };
    let exprs = projection.expr().iter().map(|item| Arc::clone(&item.expr));
    let mut exprs: Exprs = exprs.collect();
    let mut below = projection.input();
    while let Some(projection) = below.downcast_ref::<ProjectionExec>() {
        let items = projection.expr();
        let bare = |item: &ProjectionExpr| item.expr.downcast_ref::<ColumnExpr>().is_some();
        if !items.iter().all(bare) {
            break;
        }
        let by = |column: usize| items.get(column).map(|item| Arc::clone(&item.expr));
        exprs = exprs
            .iter()
            .map(|expr| inlined(expr, by))
            .collect::<Result<_>>()?;
        below = projection.input();
    }
    Ok((Arc::clone(below), Some(exprs)))
}

/// The projections that `node` begins, over another plan than `below`.
fn put_beneath(
    node: &Arc<dyn ExecutionPlan>,
    below: &Arc<dyn ExecutionPlan>,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if Arc::ptr_eq(node, below) {
        return Ok(plan);
    }
    let children = node.children();
    let child = children
        .first()
        .ok_or_else(|| internal_datafusion_err!("a projection has no input"))?;
    let child = put_beneath(child, below, plan)?;
    with_children(node, vec![child])
}

/// The projection `exprs` of a join, over the scan of those of its columns that they need; names are those of `node`.
fn projected(
    node: &Arc<dyn ExecutionPlan>,
    exprs: &[Arc<dyn PhysicalExpr>],
    scan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let wanted = columns_of_all(exprs);
    let schema = node.schema();
    let exprs = exprs.iter().zip(schema.fields()).map(|(expr, field)| {
        let expr = inlined(expr, |column| {
            let at = wanted.binary_search(&column).ok()?;
            Some(Arc::new(ColumnExpr::new(scan.schema().field(at).name(), at)) as _)
        })?;
        Ok(ProjectionExpr::new(expr, field.name()))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(exprs, scan)?))
}

fn with_children(
    node: &Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(node).replace_children(children, options)
}

/// Expressions over the columns of some plan.
type Exprs = Vec<Arc<dyn PhysicalExpr>>;

/// What else must hold for a pair of rows: an expression, and which column of which side each column of it is.
type Condition = (Arc<dyn PhysicalExpr>, Vec<(usize, usize)>);

/// Why a join stays the engine's.
struct Stays(String);

impl From<DataFusionError> for Stays {
    fn from(error: DataFusionError) -> Self {
        let text = error.strip_backtrace();
        Self(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// An equi-join of two scans of arrays.
struct Join {
    sides: [View; 2],
    kind: JoinType,
    /// Pairs of keys, over the columns of the grids.
    on: Vec<[Arc<dyn PhysicalExpr>; 2]>,
    filter: Option<Condition>,
    /// Side and column of every column of the output.
    output: Vec<(usize, usize)>,
    schema: SchemaRef,
}

impl Join {
    /// The join that a node is, if both of its sides are scans of arrays.
    fn of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let (children, kind, on, filter, nulls, chosen) =
            if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                (
                    [join.left(), join.right()],
                    *join.join_type(),
                    join.on(),
                    join.filter(),
                    join.null_equality(),
                    join.projection.as_deref(),
                )
            } else {
                let join = node.downcast_ref::<SortMergeJoinExec>()?;
                (
                    [join.left(), join.right()],
                    join.join_type(),
                    join.on(),
                    join.filter().as_ref(),
                    join.null_equality(),
                    None,
                )
            };
        if nulls != NullEquality::NullEqualsNothing || node.fetch().is_some() {
            return None;
        }
        let sides = [side(children[0])?, side(children[1])?];
        let all = |side: usize| (0..sides[side].columns.len()).map(move |column| (side, column));
        let all: Vec<(usize, usize)> = match kind {
            JoinType::Inner | JoinType::Left | JoinType::Right => all(0).chain(all(1)).collect(),
            JoinType::LeftSemi => all(0).collect(),
            JoinType::RightSemi => all(1).collect(),
            _ => return None,
        };
        let output = match chosen {
            Some(chosen) => chosen
                .iter()
                .map(|column| all.get(*column).copied())
                .collect::<Option<_>>()?,
            None => all,
        };
        let on = on
            .iter()
            .map(|(left, right)| {
                Some([
                    sides[0].on_table(left).ok()?,
                    sides[1].on_table(right).ok()?,
                ])
            })
            .collect::<Option<_>>()?;
        let filter = match filter {
            Some(filter) => Some(parts(filter)?),
            None => None,
        };
        Some(Self {
            sides,
            kind,
            on,
            filter,
            output,
            schema: node.schema(),
        })
    }

    /// The same join with no more columns than `exprs` need; with all of them if there are no projections.
    fn wanting(&mut self, exprs: Option<&[Arc<dyn PhysicalExpr>]>) -> Result<&Self> {
        if let Some(exprs) = exprs {
            let wanted = columns_of_all(exprs);
            let output = wanted.iter().filter_map(|column| self.output.get(*column));
            self.output = output.copied().collect();
            self.schema = Arc::new(self.schema.project(&wanted)?);
        }
        Ok(self)
    }

    /// The scan that gives the same rows.
    fn scan(&self) -> Result<Arc<dyn ExecutionPlan>, Stays> {
        match self.kind {
            JoinType::Left | JoinType::LeftSemi => Fold::new(self, 0).scan(),
            JoinType::Right | JoinType::RightSemi => Fold::new(self, 1).scan(),
            _ => {
                let size = |side: &View| {
                    let cells = side.source.pruned.selection.cells();
                    (side.source.grid.axes.len(), cells)
                };
                let first = usize::from(size(&self.sides[1]) > size(&self.sides[0]));
                Fold::new(self, first)
                    .scan()
                    .or_else(|why| Fold::new(self, 1 - first).scan().map_err(|_| why))
            }
        }
    }
}

/// The scan below a side of a join, if nothing but projections lies between.
fn side(node: &Arc<dyn ExecutionPlan>) -> Option<View> {
    if let Some(limit) = node.downcast_ref::<GlobalLimitExec>() {
        // The scan gives no more rows than that anyway.
        let side = side(limit.input())?;
        let within = side.source.limit? <= limit.fetch()? && limit.skip() == 0;
        return within.then_some(side);
    }
    let Some(projection) = node.downcast_ref::<ProjectionExec>() else {
        return View::scan(node);
    };
    let side = side(projection.input())?.through(projection).ok()?;
    (!side.columns.iter().any(is_volatile)).then_some(side)
}

fn parts(filter: &JoinFilter) -> Option<Condition> {
    let columns = filter.column_indices().iter().map(|column| {
        let side = match column.side {
            JoinSide::Left => 0,
            JoinSide::Right => 1,
            JoinSide::None => return None,
        };
        Some((side, column.index))
    });
    Some((
        Arc::clone(filter.expression()),
        columns.collect::<Option<_>>()?,
    ))
}

/// The same join, with the reason why it stays one in what EXPLAIN says of its scans.
fn explained(node: &Arc<dyn ExecutionPlan>, why: &str) -> Result<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<Arc<dyn ExecutionPlan>> =
        node.children().into_iter().map(Arc::clone).collect();
    // The last is the one that the engine looks partners up for.
    if let Some(last) = children.last_mut() {
        *last = noted(last, &format!("not one scan: {why}"))?;
    }
    with_children(node, children)
}
