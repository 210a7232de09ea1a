//! Chunks of what is read next from a store that is far away, under way while what came before is decoded.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;

use crate::array::Variable;
use crate::array::hyperslab::Selection;
use crate::error::{Error, Result};
use crate::read::{self, Fetched, ReadPlan};
use crate::store::Store;

/// Decoded bytes of what a worker has under way.
pub(super) const BYTES: u64 = 32 << 20;

/// Most pieces of work that a worker has under way.
pub(super) const MOST: u64 = 16;

/// A plan whose chunks are being fetched.
#[derive(Debug)]
pub(super) struct Coming {
    variable: Arc<Variable>,
    selection: Selection,
    task: SpawnedTask<Result<(ReadPlan, Fetched)>>,
}

impl Coming {
    /// Begins to fetch chunks of a variable: those of some numbers, or all that hold a selected cell.
    pub(super) fn begin(
        store: &Store,
        variable: &Arc<Variable>,
        selection: &Selection,
        numbers: Option<Vec<u64>>,
    ) -> Self {
        let fetch = fetch(
            store.clone(),
            Arc::clone(variable),
            selection.clone(),
            numbers,
        );
        Self {
            variable: Arc::clone(variable),
            selection: selection.clone(),
            task: SpawnedTask::spawn(fetch),
        }
    }

    /// Whether it is these cells that come.
    pub(super) fn is_of(&self, variable: &Arc<Variable>, selection: &Selection) -> bool {
        Arc::ptr_eq(&self.variable, variable) && self.selection == *selection
    }

    /// Waits for the chunks.
    ///
    /// # Errors
    /// As [`fetch`].
    pub(super) async fn fetched(self) -> Result<(ReadPlan, Fetched)> {
        self.task
            .join()
            .await
            .unwrap_or_else(|error| Err(Error::io("what is read next was given up", error)))
    }
}

/// Plans and fetches chunks of a variable.
///
/// # Errors
/// As [`ReadPlan::new`] and [`read::fetch`].
pub(super) async fn fetch(
    store: Store,
    variable: Arc<Variable>,
    selection: Selection,
    numbers: Option<Vec<u64>>,
) -> Result<(ReadPlan, Fetched)> {
    let plan = match numbers {
        Some(numbers) => ReadPlan::of_chunks(&variable, selection, numbers).await?,
        None => ReadPlan::new(&variable, selection).await?,
    };
    let fetched = read::fetch(&store, &plan).await?;
    Ok((plan, fetched))
}

/// How many pieces of work of so many decoded bytes a worker has under way.
pub(super) fn depth(bytes: u64) -> usize {
    let depth = (BYTES / bytes.max(1)).clamp(1, MOST);
    usize::try_from(depth).unwrap_or(1)
}
