//! Aggregates over a scan of a grid become reductions: the rule that finds them.
//!
//! ```text
//! AggregateExec(Final)                       ArrayReduceExec: mode=final
//!   AggregateExec(Partial)            ->
//!     [projections] scan of a grid
//!
//! dense     count, sum, avg, min, max, variance of stored numbers or of values of few dimensions
//! blocks    the same of expressions, which the engine evaluates tile by tile
//! grouped   any function of the engine, fed with the numbers of groups instead of keys
//! stock     everything else: the plan stays as it is, and the scan says why
//! ```

mod arguments;
mod blocks;
mod dense;
mod grouped;
mod interval;
mod keys;
mod node;
mod single;
mod wide;
mod workers;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use crate::query::HyperslabOptions;
use crate::query::aggregate::blocks::BlocksPlan;
use crate::query::aggregate::dense::DensePlan;
use crate::query::aggregate::grouped::GroupedPlan;
use crate::query::aggregate::keys::Keys;
use crate::query::aggregate::node::{Reduce, Tier};
use crate::query::view::{View, noted};

pub use node::ArrayReduceExec;

/// Replaces aggregates over scans of grids by reductions.
#[derive(Debug, Default)]
pub struct ArrayReduce;

impl PhysicalOptimizerRule for ArrayReduce {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = config.extensions.get::<HyperslabOptions>();
        let options = options.cloned().unwrap_or_default();
        if options.reduce_mode == "off" {
            return Ok(plan);
        }
        let workers = config.execution.target_partitions.max(1);
        plan.transform_up(|node| {
            let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(node));
            };
            Ok(match replace(aggregate, &options, workers)? {
                Some(replaced) => Transformed::yes(replaced),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "ArrayReduce"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn replace(
    aggregate: &AggregateExec,
    options: &HyperslabOptions,
    workers: usize,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    match aggregate.mode() {
        AggregateMode::Partial => {}
        AggregateMode::Final | AggregateMode::FinalPartitioned
            if options.reduce_mode != "partial" =>
        {
            let below = aggregate.input().downcast_ref::<ArrayReduceExec>();
            return Ok(below
                .filter(|below| below.is_partial())
                .map(|below| Arc::new(below.finished(aggregate.schema())) as _));
        }
        AggregateMode::Single | AggregateMode::SinglePartitioned
            if options.reduce_mode != "partial" => {}
        AggregateMode::Final
        | AggregateMode::FinalPartitioned
        | AggregateMode::PartialReduce
        | AggregateMode::Single
        | AggregateMode::SinglePartitioned => return Ok(None),
    }
    let Some(view) = View::of(aggregate.input())? else {
        return Ok(None);
    };
    match plan(aggregate, view, options, workers)? {
        Ok(reduce) => Ok(Some(Arc::new(reduce))),
        Err(reason) => with_note(aggregate, &reason).map(Some),
    }
}

/// The reduction that an aggregate becomes; the error says why it stays as it is.
fn plan(
    aggregate: &AggregateExec,
    view: View,
    options: &HyperslabOptions,
    workers: usize,
) -> Result<std::result::Result<ArrayReduceExec, String>> {
    let refuse = |why: &str| Ok(Err(why.to_owned()));
    if aggregate.group_expr().has_grouping_set() {
        return refuse("grouping sets");
    }
    if view.source.is_limited() || !view.source.pruned().dynamic.is_empty() {
        return refuse("a limit or a filter that changes below the aggregate");
    }
    let exprs = aggregate
        .group_expr()
        .expr()
        .iter()
        .map(|(expr, _)| view.on_table(expr))
        .collect::<Result<Vec<_>>>()?;
    let keys = match Keys::new(view.source.grid(), view.source.pruned(), exprs) {
        Ok(keys) => keys,
        Err(reason) => return Ok(Err(reason)),
    };
    let groups = match keys.known(view.source.grid(), view.source.pruned()) {
        Some(Ok(groups)) => Some(groups),
        // Rows that a predicate on data leaves out have no key.
        Some(Err(_)) => return refuse("a key that not every cell has"),
        None => None,
    };
    let reduce = Reduce {
        groups,
        functions: aggregate.aggr_expr().to_vec(),
        filters: aggregate.filter_expr().to_vec(),
        keys,
        view,
        workers,
        partial: *aggregate.mode() == AggregateMode::Partial,
        most: options.reduce_max_bytes,
    };
    let found = tier(&reduce, options)?;
    Ok(found.map(|(tier, note)| ArrayReduceExec::new(reduce, tier, aggregate.schema(), note)))
}

/// The best way to compute a reduction, and why it is not a better one; the error says why there is none.
fn tier(
    reduce: &Reduce,
    options: &HyperslabOptions,
) -> Result<std::result::Result<(Tier, Option<String>), String>> {
    let mut why_not_dense = None;
    if options.reduce_dense {
        match DensePlan::new(reduce)? {
            Ok(dense) => return Ok(Ok((Tier::Dense(dense), None))),
            Err(reason) => why_not_dense = Some(reason),
        }
        if let Some(blocks) = BlocksPlan::new(reduce)? {
            return Ok(Ok((Tier::Blocks(blocks), why_not_dense)));
        }
    }
    if !options.reduce_grouped {
        return Ok(Err(why_not_dense.unwrap_or_else(|| "switched off".into())));
    }
    if let Err(reason) = GroupedPlan::fits(reduce) {
        return Ok(Err(reason));
    }
    let grouped = GroupedPlan::new(reduce)?;
    Ok(grouped.map(|grouped| (Tier::Grouped(grouped), why_not_dense)))
}

/// The aggregate as it is, over a scan that says why.
fn with_note(aggregate: &AggregateExec, reason: &str) -> Result<Arc<dyn ExecutionPlan>> {
    let input = noted(aggregate.input(), &format!("not reduced: {reason}"))?;
    let rebuilt: Arc<dyn ExecutionPlan> = Arc::new(aggregate.clone());
    replace_children_if_necessary(rebuilt, vec![input])
}
