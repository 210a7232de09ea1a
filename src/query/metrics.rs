//! What EXPLAIN ANALYZE shows of what was read.

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};

use crate::read::Counters;

/// Counts of what a partition reads.
#[derive(Clone)]
pub(super) struct ReadMetrics {
    chunks_read: Count,
    chunks_missing: Count,
    bytes_read: Count,
    bytes_decoded: Count,
}

impl ReadMetrics {
    /// Those of a partition which answers for the chunks that need not be read: how many are touched, and how many
    /// there are.
    pub(super) fn new(
        set: &ExecutionPlanMetricsSet,
        partition: usize,
        (touched, all): (u64, u64),
    ) -> Self {
        let index = MetricBuilder::new(set).pruning_metrics("chunks_pruned_by_index", partition);
        let count = |chunks| usize::try_from(chunks).unwrap_or(usize::MAX);
        index.add_pruned(count(all - touched));
        index.add_matched(count(touched));
        let counter = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        Self {
            chunks_read: counter("chunks_read"),
            chunks_missing: counter("chunks_missing"),
            bytes_read: counter("bytes_read"),
            bytes_decoded: counter("bytes_decoded"),
        }
    }

    /// Adds what was read since the last time.
    pub(super) fn add(&self, counters: Counters) {
        self.chunks_read.add(counters.chunks_read);
        self.chunks_missing.add(counters.chunks_missing);
        self.bytes_read.add(counters.bytes_read);
        self.bytes_decoded.add(counters.bytes_decoded);
    }
}
