//! Commits: a session becomes a snapshot, unless what others have committed meanwhile does not go with it.

use std::collections::HashSet;

use async_trait::async_trait;
use icechunk::change_set::ChangeSet;
use icechunk::conflicts::detector::ConflictDetector;
use icechunk::conflicts::{Conflict, ConflictResolution, ConflictSolver};
use icechunk::format::transaction_log::TransactionLog;
use icechunk::format::{NodeId, Path};
use icechunk::session::{Session, SessionResult};

use super::repository::of_session;
use super::storage::ENTRY;
use crate::error::{Error, Result, Within};
use crate::format::{Commit, Committed};
use crate::store::Store;
use crate::store::write::{Durability, Expect, Put};

/// How often a commit is tried on top of what others have committed meanwhile.
const ATTEMPTS: u16 = 100;

/// A session with all that is to be committed.
#[derive(Debug)]
pub(super) struct SessionCommit {
    pub(super) session: Session,
    pub(super) branch: Branch,
    pub(super) store: Store,
    pub(super) durability: Durability,
    /// Objects that belong to no snapshot if the commit fails.
    pub(super) added: Vec<String>,
    /// The key of what makes a repository of objects that nobody shall find before the commit.
    pub(super) hidden: Option<String>,
}

#[async_trait]
impl Commit for SessionCommit {
    async fn commit(mut self: Box<Self>, message: &str) -> Result<Committed> {
        if self.session.has_uncommitted_changes() {
            let commit = self.session.commit(message).rebase(&self.branch, ATTEMPTS);
            match commit
                .execute()
                .await
                .map_err(|failure| of_session(failure.kind))
            {
                Ok(_) => {}
                Err(Error::Conflict(_)) => {
                    // In nobody's way: what cannot be removed now is with VACUUM.
                    let _ = self.store.delete_all(&self.added).await;
                    return Ok(Committed::Conflict);
                }
                Err(error) => return Err(error.within("the commit")),
            }
        }
        match self.hidden {
            None => Ok(Committed::Done),
            Some(hidden) => show(&self.store, &hidden, self.durability).await,
        }
    }
}

/// Lets a repository be found.
async fn show(store: &Store, hidden: &str, durability: Durability) -> Result<Committed> {
    let lost = || Error::Corrupt(format!("{hidden} is not there any more"));
    let entry = store.get(hidden).await?.ok_or_else(lost)?;
    let put = store.put(ENTRY, entry, Expect::Absent, durability).await;
    let shown = match put.within(|| "the new repository")? {
        Put::Done(_) => Committed::Done,
        Put::Conflict => Committed::Conflict,
    };
    let _ = store.delete_all(&[hidden.to_owned()]).await;
    Ok(shown)
}

/// What a change of a branch has been computed from.
#[derive(Debug)]
pub(super) struct Branch {
    /// Arrays by whose values rows have found their cells.
    pub(super) relied: HashSet<NodeId>,
    /// Whether arrays get other shapes.
    pub(super) resizes: bool,
}

impl Branch {
    /// Whether the change would be another one after `previous`.
    fn depends_on(&self, previous: &TransactionLog) -> bool {
        let new = previous.new_arrays().len() > 0;
        let relied = |node: &NodeId| {
            previous.array_updated(node)
                || previous.array_deleted(node)
                || previous.chunks_updated(node)
        };
        // Arrays that this change does not know of would keep their lengths.
        new && self.resizes || self.relied.iter().any(relied)
    }
}

#[async_trait]
impl ConflictSolver for Branch {
    async fn solve(
        &self,
        previous_change: &TransactionLog,
        previous_repo: &Session,
        current_changes: ChangeSet,
        current_repo: &Session,
    ) -> SessionResult<ConflictResolution> {
        if self.depends_on(previous_change) {
            return Ok(ConflictResolution::Unsolvable {
                reason: vec![Conflict::ZarrMetadataDoubleUpdate(Path::root())],
                unmodified: current_changes,
            });
        }
        ConflictDetector
            .solve(
                previous_change,
                previous_repo,
                current_changes,
                current_repo,
            )
            .await
    }
}
