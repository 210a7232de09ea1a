//! A line on standard error for each statement: who, how it ended, how long, how much, what.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use tonic::Status;

use super::metrics::Metrics;
use super::rows::Given;

/// Most characters of a statement in a line.
const STATEMENT: usize = 500;

/// A line that is written when its statement has ended.
#[derive(Debug)]
pub(super) struct Line {
    metrics: Arc<Metrics>,
    user: String,
    statement: String,
    start: Instant,
}

impl Line {
    pub(super) fn new(metrics: &Arc<Metrics>, user: &str, statement: &str) -> Self {
        let words: Vec<&str> = statement.split_whitespace().collect();
        Self {
            metrics: Arc::clone(metrics),
            user: user.to_owned(),
            statement: shown(&words.join(" ")),
            start: Instant::now(),
        }
    }

    /// Writes the line of a statement that has ended, and counts it.
    pub(super) fn end(&self, given: Given, ended: Option<&Status>) {
        let ended = ended.map_or_else(|| "ok".to_owned(), |status| format!("{:?}", status.code()));
        let taken = self.start.elapsed();
        self.metrics.ended(&ended, taken, given);
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ");
        // Standard error that is closed is nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "{now} user={} status={ended} ms={} rows={} bytes={} sql={:?}",
            self.user,
            taken.as_millis(),
            given.rows,
            given.bytes,
            self.statement
        );
    }
}

/// A statement without the options of tables, which may be secrets.
fn shown(statement: &str) -> String {
    let upper = statement.to_ascii_uppercase();
    let end = match upper.find("OPTIONS") {
        Some(at) if upper.starts_with("CREATE") => at + "OPTIONS".len(),
        _ => statement.len(),
    };
    let rest = if end < statement.len() { " …" } else { "" };
    let statement = statement.get(..end).unwrap_or_default();
    statement
        .chars()
        .take(STATEMENT)
        .chain(rest.chars())
        .collect()
}

/// Tells who runs the server.
pub(super) fn tell(text: &str) {
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let _ = writeln!(std::io::stderr(), "{now} {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_stores_are_not_written() {
        let create = "create external table t stored as zarr location 's3://a/b' options (aws_secret_access_key 'hush')";
        assert_eq!(
            shown(create),
            "create external table t stored as zarr location 's3://a/b' options …"
        );
        let select = "SELECT options FROM 'a.nc'";
        assert_eq!(shown(select), select);
    }
}
