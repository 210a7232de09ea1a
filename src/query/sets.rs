//! Scans below grouping sets promise nothing about the order of their rows.
//!
//! In `ROLLUP (lat, lon)` each row counts in several sets, and in some of them a key is NULL instead of what it is in the
//! row. The engine passes the order of the rows, and that a key has one value, on to the keys all the same: it would end
//! a group where the next batch brings more of it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use crate::query::scan::ArraySource;
use crate::query::view::rescanned;

/// Takes back what scans of grids promise where an aggregate over them has grouping sets.
#[derive(Debug, Default)]
pub(super) struct GroupingSets;

impl PhysicalOptimizerRule for GroupingSets {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(node));
            };
            if !aggregate.group_expr().has_grouping_set() {
                return Ok(Transformed::no(node));
            }
            let input = rescanned(aggregate.input(), ArraySource::without_promises)?;
            replace_children_if_necessary(node, vec![input]).map(Transformed::yes)
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "GroupingSets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
