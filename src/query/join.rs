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

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinSide, JoinType, NullEquality, Result, internal_datafusion_err};
use datafusion::datasource::source::DataSourceExec;
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
use datafusion::physical_plan::projection::ProjectionExec;

use crate::query::HyperslabOptions;
use crate::query::join::fold::Fold;
use crate::query::prune::{columns_of, renumbered};
use crate::query::scan::ArraySource;

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
        let plan = plan.transform_up(|node| scanned_below(&node))?.data;
        Ok(scanned(&plan, None)?.unwrap_or(plan))
    }

    fn name(&self) -> &'static str {
        "GridJoin"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A node with the joins right below it turned into scans, where they can be. It is the node above that knows which
/// columns of a join are wanted.
fn scanned_below(node: &Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let exprs = projection.expr().iter();
        let mut wanted: Vec<usize> = exprs.flat_map(|item| columns_of(&item.expr)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let Some(below) = scanned(projection.input(), Some(&wanted))? else {
            return Ok(Transformed::no(Arc::clone(node)));
        };
        // A join that stays has all of its columns.
        let narrowed = Join::of(&below).is_none();
        let exprs = projection.expr().iter().map(|item| {
            let place = |column| wanted.binary_search(&column).ok();
            let expr = if narrowed {
                renumbered(&item.expr, place)?
            } else {
                Arc::clone(&item.expr)
            };
            Ok(ProjectionExpr::new(expr, &item.alias))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        return Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(
            exprs, below,
        )?)));
    }
    let mut changed = false;
    let mut children = Vec::new();
    for child in node.children() {
        let below = scanned(child, None)?;
        changed |= below.is_some();
        children.push(below.unwrap_or_else(|| Arc::clone(child)));
    }
    if !changed {
        return Ok(Transformed::no(Arc::clone(node)));
    }
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    let node = Arc::clone(node).replace_children(children, options)?;
    Ok(Transformed::yes(node))
}

/// The scan that gives the rows of a join, with the columns `wanted` if that says which; the join with a remark if it
/// stays one; nothing if the node is no join of arrays.
fn scanned(
    node: &Arc<dyn ExecutionPlan>,
    wanted: Option<&[usize]>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(mut join) = Join::of(node) else {
        return Ok(None);
    };
    if let Some(wanted) = wanted {
        let output = wanted.iter().filter_map(|column| join.output.get(*column));
        join.output = output.copied().collect();
        join.schema = Arc::new(join.schema.project(wanted)?);
    }
    Ok(Some(match join.scan() {
        Ok(scan) => scan,
        Err(Stays(why)) => explained(node, &why)?,
    }))
}

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
    sides: [Side; 2],
    kind: JoinType,
    /// Pairs of keys, over the columns of the grids.
    on: Vec<[Arc<dyn PhysicalExpr>; 2]>,
    /// What else must hold: an expression, and which column of which side each column of it is.
    filter: Option<(Arc<dyn PhysicalExpr>, Vec<(usize, usize)>)>,
    /// Side and column of every column of the output.
    output: Vec<(usize, usize)>,
    schema: SchemaRef,
}

/// One side of a join: a scan, and its columns as expressions over those of the grid.
struct Side {
    source: ArraySource,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
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
        let sides = [Side::of(children[0])?, Side::of(children[1])?];
        let all = |side: usize| (0..sides[side].exprs.len()).map(move |column| (side, column));
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
            .map(|(left, right)| Some([sides[0].inlined(left)?, sides[1].inlined(right)?]))
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

    /// The scan that gives the same rows.
    fn scan(&self) -> Result<Arc<dyn ExecutionPlan>, Stays> {
        match self.kind {
            JoinType::Left | JoinType::LeftSemi => Fold::new(self, 0).scan(),
            JoinType::Right | JoinType::RightSemi => Fold::new(self, 1).scan(),
            _ => {
                let size = |side: &Side| {
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

impl Side {
    /// The scan below a node, if nothing but projections lies between.
    fn of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            let source = scan.data_source().downcast_ref::<ArraySource>()?.clone();
            let columns = source.projection.iter();
            let exprs = columns.map(|column| {
                let name = source.grid.schema.field(*column).name();
                Arc::new(ColumnExpr::new(name, *column)) as Arc<dyn PhysicalExpr>
            });
            let exprs = exprs.collect();
            return Some(Self { source, exprs });
        }
        let projection = node.downcast_ref::<ProjectionExec>()?;
        let below = Self::of(projection.input())?;
        let exprs = projection
            .expr()
            .iter()
            .map(|item| below.inlined(&item.expr).filter(|expr| !is_volatile(expr)))
            .collect::<Option<_>>()?;
        Some(Self {
            source: below.source,
            exprs,
        })
    }

    /// An expression over the columns of this side as one over those of the grid.
    fn inlined(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
        inlined(expr, |column| self.exprs.get(column).cloned()).ok()
    }
}

/// An expression whose columns are replaced by other expressions.
fn inlined(
    expr: &Arc<dyn PhysicalExpr>,
    by: impl Fn(usize) -> Option<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform(|node| {
            Ok(match node.downcast_ref::<ColumnExpr>() {
                Some(column) => Transformed::yes(
                    by(column.index())
                        .ok_or_else(|| internal_datafusion_err!("no column {}", column.name()))?,
                ),
                None => Transformed::no(node),
            })
        })
        .data()
}

fn parts(filter: &JoinFilter) -> Option<(Arc<dyn PhysicalExpr>, Vec<(usize, usize)>)> {
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
    let noted = |child: &Arc<dyn ExecutionPlan>| {
        Arc::clone(child)
            .transform_down(|node| {
                let scan = node.downcast_ref::<DataSourceExec>();
                let source = scan.and_then(|scan| scan.data_source().downcast_ref::<ArraySource>());
                Ok(match source {
                    Some(source) => {
                        let source = source.clone().with_note(&format!("not one scan: {why}"));
                        Transformed::yes(DataSourceExec::from_data_source(source) as _)
                    }
                    None => Transformed::no(node),
                })
            })
            .data()
    };
    let mut children: Vec<Arc<dyn ExecutionPlan>> =
        node.children().into_iter().map(Arc::clone).collect();
    // The last is the one that the engine looks partners up for.
    if let Some(last) = children.last_mut() {
        *last = noted(last)?;
    }
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(node).replace_children(children, options)
}
