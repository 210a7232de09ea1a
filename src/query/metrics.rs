//! What EXPLAIN ANALYZE shows of what was read.

use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, PruningMetrics, Time,
};

use crate::query::scan::ArraySource;
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

/// What a partition of a scan spares itself, and how long it takes.
pub(super) struct ScanMetrics {
    pub(super) baseline: BaselineMetrics,
    pub(super) pruned_mask: PruningMetrics,
    pub(super) pruned_dynamic: PruningMetrics,
    pub(super) skipped_by_predicate: Count,
    pub(super) read: ReadMetrics,
    pub(super) decode_time: Time,
}

impl ScanMetrics {
    /// Those of a partition of `source`.
    pub(super) fn new(source: &ArraySource, partition: usize) -> Self {
        let set = source.execution_metrics();
        // One partition answers for all of them.
        let chunks = if partition == 0 {
            source.chunks()
        } else {
            (0, 0)
        };
        Self {
            baseline: BaselineMetrics::new(set, partition),
            pruned_mask: MetricBuilder::new(set)
                .pruning_metrics("chunks_pruned_by_mask", partition),
            pruned_dynamic: MetricBuilder::new(set)
                .pruning_metrics("chunks_pruned_by_dynamic_filter", partition),
            skipped_by_predicate: MetricBuilder::new(set)
                .counter("chunks_skipped_by_predicate", partition),
            read: ReadMetrics::new(set, partition, chunks),
            decode_time: MetricBuilder::new(set).subset_time("decode_time", partition),
        }
    }
}
