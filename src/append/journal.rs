//! The journal of a commit on this machine: what is left to be done once it stands there.

use serde::{Deserialize, Serialize};

use super::log::{self, Entry};
use super::private;
use crate::error::{Error, Result, Within};
use crate::format::Publication;
use crate::store::Store;
use crate::store::write::{Durability, Expect, Object, aside};

const NAME: &str = "commit";

/// All steps of a publication, each of which may be done again: files that are complete and durable get their names.
///
/// That needs no room on the disk, so that a full one shows before the change is decided.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    moves: Vec<(String, String)>,
}

/// A commit that did not come to its end.
pub(super) enum Failure {
    /// Nothing has changed.
    Undone(Error),
    /// The change is decided or may be: nothing that belongs to it must be removed.
    Decided(Error),
}

impl Journal {
    /// Puts everything that is to be published beside its places, where all of it waits for the disk together.
    pub(super) async fn prepare(
        store: &Store,
        publication: Publication,
        entries: &[Entry],
        durability: Durability,
    ) -> Result<Self> {
        let mut moves = publication.moves;
        let mut staged = Vec::new();
        // In this order: with the first document, readers of the whole dataset see the change.
        let documents = publication.documents.into_iter();
        for object in documents.chain(log::objects(entries)?) {
            let aside = aside();
            moves.push((aside.clone(), object.key));
            staged.push(Object {
                key: aside,
                bytes: object.bytes,
                expect: Expect::Absent,
            });
        }
        store.put_all(staged, Durability::None).await?;
        if durability == Durability::Full {
            let mut unsynced = publication.unsynced;
            unsynced.extend(moves.iter().map(|(from, _)| from.clone()));
            store.sync_all(&unsynced)?;
        }
        Ok(Self { moves })
    }

    /// Makes the journal valid, by which the change is decided, and does what it says.
    pub(super) async fn commit(
        &self,
        store: &Store,
        durability: Durability,
    ) -> Result<(), Failure> {
        let json = serde_json::to_vec(self).map_err(|e| {
            Failure::Undone(Error::Invalid(format!(
                "the journal cannot be written: {e}"
            )))
        })?;
        let put = store
            .put(&private(NAME), json, Expect::Anything, durability)
            .await;
        if let Err(error) = put {
            return Err(self.withdraw(store, error).await);
        }
        if let Err(error) = store.rename_all(&self.moves, durability) {
            return Err(self.withdraw(store, error).await);
        }
        // A journal that stays is done again, which changes nothing.
        let _ = store.delete_all(&[private(NAME)]).await;
        Ok(())
    }

    /// Takes the journal back, if nothing that it says has been done.
    async fn withdraw(&self, store: &Store, error: Error) -> Failure {
        let is_begun = self.moves.iter().any(|(from, _)| {
            store
                .local_path(from)
                .is_none_or(|from| !from.try_exists().unwrap_or(false))
        });
        if !is_begun && store.delete_all(&[private(NAME)]).await.is_ok() {
            return Failure::Undone(error);
        }
        Failure::Decided(Error::io(
            "the change is decided, but could not be published; it will be when the dataset is used next",
            error,
        ))
    }
}

/// Whether there is a commit that may have been cut short.
pub(super) fn is_present(store: &Store) -> bool {
    store
        .local_path(&private(NAME))
        .is_some_and(|path| path.exists())
}

/// Finishes a commit that was cut short; the caller holds the lock.
pub(super) async fn recover(store: &Store, durability: Durability) -> Result<()> {
    let Some(journal) = read(store).await? else {
        return Ok(());
    };
    store.rename_all(&journal.moves, durability)?;
    store.delete_all(&[private(NAME)]).await
}

/// The dataset as it is when a commit that was cut short is finished, for readers who may not finish it: what is still put
/// aside is read where it is.
pub(super) async fn ahead(store: &Store) -> Result<Store> {
    let journal = read(store).await?;
    Ok(journal.map_or(store.clone(), |journal| store.redirected(journal.moves)))
}

async fn read(store: &Store) -> Result<Option<Journal>> {
    let Some(bytes) = store.get(&private(NAME)).await? else {
        return Ok(None);
    };
    let journal: Journal = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Corrupt(format!("the journal is damaged: {e}")))
        .within(|| private(NAME))?;
    // A dataset may come from anywhere: its journal moves nothing but what was put aside, and nowhere else than into it.
    let aside = private("aside/");
    for (from, to) in &journal.moves {
        if !is_below(from) || !from.starts_with(&aside) || !is_below(to) {
            return Err(Error::Corrupt(format!(
                "the journal is damaged: it moves {from} to {to}"
            )))
            .within(|| private(NAME));
        }
    }
    Ok(Some(journal))
}

/// Whether a key stays below the location.
fn is_below(key: &str) -> bool {
    key.split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Removes what writers that are gone have begun to write or put aside; the caller holds the lock.
pub(super) fn clean(store: &Store) -> Result<()> {
    for place in ["tmp", "aside"] {
        store.clear_directory(&private(place))?;
    }
    Ok(())
}
