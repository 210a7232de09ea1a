//! Companions: objects that are committed with a change because they tell something about it, like statistics of its chunks.

use std::fmt::Debug;

use super::{log::Log, private};
use crate::array::Variable;
use crate::error::Result;
use crate::format::Region;
use crate::store::Store;
use crate::store::write::{Durability, Expect, Object, write_id};

/// Looks at all that a transaction writes, and says something about it in the end.
///
/// What it says is an object of its own, which the log entry of the version names ([`super::log::Entry::companions`]): it is
/// found if the version is, and never for another one. A version whose writer died just then may lack it.
pub trait Companion: Debug + Send + Sync {
    /// What the object is called, behind a name that no other one has.
    fn name(&self) -> &str;

    /// Takes notice of cells that are written: stored elements, in whole pieces as far as the variable reaches. The
    /// variable is as it was before the change.
    ///
    /// # Errors
    /// Any; they end the transaction.
    fn notice(&mut self, variable: &Variable, region: &Region) -> Result<()>;

    /// What it has to say of all of it.
    ///
    /// # Errors
    /// Any; they end the transaction.
    fn say(&mut self) -> Result<Vec<u8>>;
}

/// Puts what companions say; returns the keys.
pub(super) async fn put(
    store: &Store,
    companions: &mut [Box<dyn Companion>],
    durability: Durability,
) -> Result<Vec<String>> {
    let mut keys = Vec::with_capacity(companions.len());
    let mut objects = Vec::with_capacity(companions.len());
    for companion in companions {
        let key = private(&format!("with/{}-{}", write_id(), companion.name()));
        keys.push(key.clone());
        objects.push(Object {
            key,
            bytes: companion.say()?.into(),
            expect: Expect::Anything,
        });
    }
    if !objects.is_empty() {
        store.put_all(objects, durability).await?;
    }
    Ok(keys)
}

/// The keys of what no version names.
pub(super) async fn orphans(store: &Store) -> Result<Vec<String>> {
    let mut keys = store.list_all(&private("with")).await?;
    if !keys.is_empty() {
        let log = Log::read(store).await?;
        let named = |key: &String| log.0.iter().any(|entry| entry.companions.contains(key));
        keys.retain(|key| !named(key));
    }
    Ok(keys)
}
