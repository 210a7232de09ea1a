//! How stores are reached: options by the beginning of locations, beside what the environment says.

use std::fmt::{self, Debug, Formatter};

use parking_lot::RwLock;

use crate::error::Result;
use crate::store::Store;

/// What the names of options of stores begin with.
const KINDS: [&str; 3] = ["aws_", "google_", "azure_"];

/// Options of any store.
const COMMON: [&str; 3] = ["allow_http", "allow_invalid_certificates", "proxy_url"];

/// Whether an option is one of a store, as it can stand in `OPTIONS (…)`.
#[must_use]
pub fn is_of_store(name: &str) -> bool {
    KINDS.iter().any(|kind| name.starts_with(kind)) || COMMON.contains(&name)
}

/// Names and values, which may be secrets.
#[derive(Clone, Default)]
struct Options(Vec<(String, String)>);

impl Debug for Options {
    /// Without values.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// The options of the stores of a session.
#[derive(Debug, Default)]
pub(super) struct Stores(RwLock<Vec<(String, Options)>>);

impl Stores {
    /// Reaches what is at or below a location with these options.
    pub(super) fn reach(&self, location: &str, options: Vec<(String, String)>) {
        let location = location.trim_end_matches('/').to_owned();
        let mut all = self.0.write();
        all.retain(|(other, _)| *other != location);
        all.push((location, Options(options)));
        // The longest that fits is found first.
        all.sort_by_key(|(location, _)| std::cmp::Reverse(location.len()));
    }

    /// The store at a location.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub(super) fn open(&self, location: &str) -> Result<Store> {
        let all = self.0.read();
        let found = all.iter().find(|(prefix, _)| {
            let rest = location.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        Store::open_with(location, found.map_or(&[], |(_, options)| &options.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let stores = Stores::default();
        let option = ("aws_secret_access_key".to_owned(), "hush".to_owned());
        stores.reach("s3://bucket/a/", vec![option]);
        let shown = format!("{stores:?}");
        assert!(shown.contains("aws_secret_access_key") && !shown.contains("hush"));
        for location in ["s3://bucket/a/b.nc", "s3://bucket/a", "s3://bucket/ab"] {
            let shown = format!("{:?}", stores.open(location));
            assert!(
                shown.contains("s3://bucket/a") && !shown.contains("hush"),
                "{shown}"
            );
        }
    }
}
