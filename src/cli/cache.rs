//! `hyperslab cache`: what is kept of remote objects on disk.

use std::io::{ErrorKind, Write};

use hyperslab::error::{Error, Result};
use hyperslab::store::cache::{Disk, Key, Settings};

use super::args::{Cache, CacheAction};
use super::{Outcome, complain};

/// Lists, checks or removes the entries of the cache.
pub(crate) fn run(cache: &Cache) -> Outcome {
    match act(cache) {
        Ok(()) => Outcome::Done,
        Err(Error::Io { source, .. })
            if source
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) =>
        {
            Outcome::Done
        }
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

fn act(cache: &Cache) -> Result<()> {
    let settings = Settings::of_environment()?;
    let directory = cache.directory.clone().or(settings.directory);
    let directory = directory.ok_or_else(|| {
        Error::Invalid(
            "nothing is kept on disk: name a directory by HYPERSLAB_CACHE_DIR or --directory"
                .to_owned(),
        )
    })?;
    if !directory.is_dir() {
        let place = directory.display();
        return Err(Error::NotFound(format!("{place} is no directory")));
    }
    let disk = Disk::open(&directory, settings.disk)?;
    let mut out = std::io::stdout().lock();
    let mut say =
        |text: String| writeln!(out, "{text}").map_err(|error| Error::io("standard output", error));
    match cache.action {
        CacheAction::Ls => {
            let mut entries = disk.list()?;
            entries.sort_by(|one, other| {
                (&one.0.object, one.0.offset).cmp(&(&other.0.object, other.0.offset))
            });
            for (key, bytes, used) in entries {
                let used = chrono::DateTime::<chrono::Utc>::from(used).format("%Y-%m-%dT%H:%M:%SZ");
                say(format!("{bytes:>12}  {used}  {}", shown(&key)))?;
            }
            Ok(())
        }
        CacheAction::Verify => {
            let verified = disk.verify()?;
            say(format!(
                "{} entries of {} bytes are whole, {} damaged ones were removed",
                verified.whole, verified.bytes, verified.damaged
            ))
        }
        CacheAction::Clear => say(format!("{} bytes were removed", disk.clear()?)),
    }
}

/// What an entry is of, without who saw it.
fn shown(key: &Key) -> String {
    let object = key
        .object
        .split_once(' ')
        .map_or(&*key.object, |(_, url)| url);
    match key.length {
        Key::WHOLE => object.to_owned(),
        length => format!("{object} {}+{length}", key.offset),
    }
}
