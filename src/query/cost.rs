//! How much a plan decodes.

use std::sync::Arc;

use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;

use super::aggregate::ArrayReduceExec;
use super::scan::ArraySource;

/// The cells of the chunks that a plan decodes at most; `None` when that says nothing about its work.
#[must_use]
pub fn decoded_cells(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    if let Some(reduce) = plan.downcast_ref::<ArrayReduceExec>() {
        return Some(reduce.source().decoded_cells());
    }
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let source = scan.data_source();
        if let Some(source) = source.downcast_ref::<ArraySource>() {
            return Some(source.decoded_cells());
        }
        return source.downcast_ref::<MemorySourceConfig>().map(|_| 0);
    }
    // Which make rows of pairs of rows.
    if plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>() {
        return None;
    }
    let children = plan.children();
    if children.is_empty() {
        let is_nothing = plan.is::<EmptyExec>() || plan.is::<PlaceholderRowExec>();
        return is_nothing.then_some(0);
    }
    children.into_iter().try_fold(0u64, |sum, child| {
        Some(sum.saturating_add(decoded_cells(child)?))
    })
}
