//! Workers that reduce at the same time, each with accumulators of its own.

use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;

/// What `count` workers make, put together by `merge`. The first works on the task of the caller: a single worker
/// needs no other.
pub(super) async fn run<Made, Work>(
    count: usize,
    work: impl Fn(usize) -> Work,
    merge: impl Fn(&mut Made, Made) -> Result<()>,
) -> Result<Made>
where
    Made: Send + 'static,
    Work: Future<Output = Result<Made>> + Send + 'static,
{
    let tasks: Vec<_> = (1..count).map(|at| SpawnedTask::spawn(work(at))).collect();
    let mut all = work(0).await?;
    for task in tasks {
        let other = task
            .join()
            .await
            .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        merge(&mut all, other)?;
    }
    Ok(all)
}
