//! The journal of a commit on this machine: what is left to be done once it stands there.

use serde::{Deserialize, Serialize};

use super::log::{self, Entry};
use super::private;
use crate::error::{Error, Result, Within};
use crate::format::Publication;
use crate::store::Store;
use crate::store::write::{Durability, Expect, Object};

const NAME: &str = "commit";

/// All steps of a publication, each of which may be done again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    moves: Vec<(String, String)>,
    /// Keys and contents.
    documents: Vec<(String, String)>,
    log: Vec<Entry>,
}

impl Journal {
    pub(super) fn new(publication: &Publication, log: Vec<Entry>) -> Result<Self> {
        let text = |object: &Object| {
            let text = String::from_utf8(object.bytes.to_vec())
                .map_err(|_| Error::Corrupt(format!("{} is not UTF-8", object.key)))?;
            Ok((object.key.clone(), text))
        };
        Ok(Self {
            moves: publication.moves.clone(),
            documents: publication
                .documents
                .iter()
                .map(text)
                .collect::<Result<_>>()?,
            log,
        })
    }

    /// Makes the journal valid, by which the change is decided, and does what it says. Objects in `unsynced` become durable
    /// together with it.
    ///
    /// ```text
    /// write    journal and documents under other names         sync them all, with the chunks of the change
    /// rename   the journal                                     sync its directory: the change is decided
    /// rename   chunks and documents                            sync their directories
    /// remove   the journal
    /// ```
    pub(super) async fn commit(
        &self,
        store: &Store,
        unsynced: &[String],
        durability: Durability,
    ) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::Invalid(format!("the journal cannot be written: {e}")))?;
        let journal = store.stage(&[Object {
            key: private(NAME),
            bytes: json.into(),
            expect: Expect::Anything,
        }])?;
        let documents = store.stage(&self.objects()?)?;
        if durability == Durability::Full {
            store.settle(&[&journal, &documents], unsynced)?;
        }
        store.reveal(&journal)?;
        let decided = async {
            if durability == Durability::Full {
                store.settle(&[], &[private(NAME)])?;
            }
            store.rename_all(&self.moves, Durability::None)?;
            store.reveal(&documents)?;
            if durability == Durability::Full {
                let moved = self.moves.iter().map(|(_, to)| to.clone());
                let objects = self.objects()?.into_iter().map(|object| object.key);
                store.settle(&[], &moved.chain(objects).collect::<Vec<_>>())?;
            }
            store.delete_all(&[private(NAME)]).await
        };
        decided.await.map_err(|error| {
            Error::io(
                "the change is decided, but could not be published; it will be when the dataset is used next",
                error,
            )
        })
    }

    /// The metadata and the entries of the log, in the order in which readers may see them.
    fn objects(&self) -> Result<Vec<Object>> {
        let documents = self.documents.iter().map(|(key, text)| Object {
            key: key.clone(),
            bytes: text.clone().into_bytes().into(),
            expect: Expect::Anything,
        });
        let mut objects: Vec<Object> = documents.collect();
        objects.extend(log::objects(&self.log)?);
        Ok(objects)
    }

    /// Does what a journal says that a crash has left.
    async fn apply(&self, store: &Store, durability: Durability) -> Result<()> {
        if !self.moves.is_empty() {
            store.rename_all(&self.moves, durability)?;
        }
        store.put_all(self.objects()?, durability).await?;
        store.delete_all(&[private(NAME)]).await
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
    let Some(bytes) = store.get(&private(NAME)).await? else {
        return Ok(());
    };
    let journal: Journal = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Corrupt(format!("the journal is damaged: {e}")))
        .within(|| private(NAME))?;
    journal.apply(store, durability).await
}

/// Removes what writers that are gone have begun to write or put aside; the caller holds the lock.
pub(super) async fn clean(store: &Store) -> Result<()> {
    for place in ["tmp", "aside"] {
        let left = store.list_all(&private(place)).await?;
        store.delete_all(&left).await?;
    }
    Ok(())
}
