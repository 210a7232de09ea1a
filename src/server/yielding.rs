//! Statements that can be stopped: operators that make many rows of few let others run in between, and see there that nobody
//! waits for them any more.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::unnest::UnnestExec;

/// The plan with joins and the like that yield after each batch. The engine lets only sources yield, which a join may not
/// come back to for minutes.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        if node.children().len() < 2 && !node.is::<UnnestExec>() {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as _))
    });
    wrapped.map(|transformed| transformed.data)
}
