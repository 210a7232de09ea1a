//! Slices that are not there yet: looked for until they are, and complete.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::catalog::{Catalog, Opened};
use crate::error::{Error, Result};
use crate::ingest::config::Polling;
use crate::store::Store;

/// Opens the dataset of a slice; with `polling`, as soon as it is there and has stopped growing.
///
/// # Errors
/// `NotFound` when it does not appear in time, else as [`Catalog::open`].
pub(in crate::ingest) async fn open(
    catalog: &Catalog,
    store: &Store,
    polling: Option<Polling>,
) -> Result<Arc<Opened>> {
    let Some(Polling { interval, timeout }) = polling else {
        return catalog.open_store(store.clone(), None).await;
    };
    let started = Instant::now();
    let mut seen: Option<Objects> = None;
    loop {
        let failure = match look(catalog, store, interval, &mut seen).await {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => Error::NotFound("it was still growing".into()),
            Err(error) => error,
        };
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(Error::NotFound(format!(
                "{} was not there and complete within {timeout:?}: {failure}",
                store.location()
            )));
        }
        tokio::time::sleep(interval.min(left)).await;
    }
}

/// Keys of objects and, where they can be told, sizes and times of change.
type Objects = BTreeMap<String, Option<(u64, SystemTime)>>;

/// The dataset, if it is complete: the same as when it was looked at before, or unchanged for a while.
async fn look(
    catalog: &Catalog,
    store: &Store,
    interval: Duration,
    seen: &mut Option<Objects>,
) -> Result<Option<Arc<Opened>>> {
    let opened = catalog.open_store(store.clone(), None).await?;
    let now = objects(store).await?;
    let newest = now.values().map(|object| object.map(|(_, time)| time));
    let newest = newest.max().flatten();
    let is_old = !now.values().any(Option::is_none)
        && newest.is_some_and(|time| time.elapsed().is_ok_and(|age| age >= interval));
    let is_stable = is_old || seen.as_ref() == Some(&now);
    *seen = Some(now);
    Ok(is_stable.then_some(opened))
}

async fn objects(store: &Store) -> Result<Objects> {
    let stat = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    let mut keys = store.list_all("").await.unwrap_or_default();
    if keys.is_empty() {
        keys.push(String::new());
    }
    Ok(keys
        .into_iter()
        .map(|key| {
            let stat = store.local_path(&key).and_then(|path| stat(&path));
            (key, stat)
        })
        .collect())
}
