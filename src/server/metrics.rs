//! What a server counts, for Prometheus.

use std::fmt::Write;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::rows::Given;

/// What has happened since the server began.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    statements: Family<Ended, Counter>,
    seconds: Histogram,
    rows: Counter,
    bytes: Counter,
    waiting: Gauge<i64, AtomicI64>,
    running: Gauge<i64, AtomicI64>,
    sessions: Gauge<i64, AtomicI64>,
    memory: Gauge<i64, AtomicI64>,
    reductions: Reductions,
}

/// Requests for reductions, by the names that Reductionist gives them.
#[derive(Debug)]
struct Reductions {
    registry: Registry,
    incoming: Family<Incoming, Times>,
    outgoing: Family<Outgoing, Times>,
    seconds: Family<Outgoing, Histogram>,
}

/// What has been asked.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Incoming {
    http_method: &'static str,
    path: String,
}

/// How it was answered.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outgoing {
    status_code: u32,
    http_method: &'static str,
    path: String,
}

/// A counter whose name has no `_total` at its end.
#[derive(Clone, Debug, Default)]
struct Times(Counter);

impl TypedMetric for Times {}

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl Default for Reductions {
    fn default() -> Self {
        let mut registry = Registry::default();
        let incoming = Family::<Incoming, Times>::default();
        let outgoing = Family::<Outgoing, Times>::default();
        let seconds = Family::<Outgoing, Histogram>::new_with_constructor(|| {
            // From 5 ms to 10 s.
            Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ])
        });
        let help = "The number of HTTP requests received";
        registry.register("incoming_requests", help, incoming.clone());
        let help = "The number of responses sent";
        registry.register("outgoing_response", help, outgoing.clone());
        let help = "The time taken to respond to each request";
        registry.register("response_time", help, seconds.clone());
        Self {
            registry,
            incoming,
            outgoing,
            seconds,
        }
    }
}

/// How statements have ended.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    /// `ok`, or the code of the error.
    status: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hyperslab");
        let statements = Family::<Ended, Counter>::default();
        registry.register(
            "statements",
            "Statements that have ended, by how",
            statements.clone(),
        );
        // From 1 ms to 4.5 minutes.
        let seconds = Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let help = "How long statements took, with the time that clients took to fetch";
        registry.register_with_unit("statement", help, Unit::Seconds, seconds.clone());
        let rows = Counter::default();
        let help = "Rows that statements gave or changed";
        registry.register("rows", help, rows.clone());
        let bytes = Counter::default();
        let help = "Bytes of rows that statements gave, in memory";
        registry.register("rows_size", help, bytes.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let waiting = gauge("statements_waiting", "Statements that wait for others");
        let running = gauge("statements_running", "Statements that run");
        let sessions = gauge("sessions", "Sessions that are kept");
        let memory = gauge("memory_reserved_bytes", "Bytes that statements hold");
        Self {
            registry,
            statements,
            seconds,
            rows,
            bytes,
            waiting,
            running,
            sessions,
            memory,
            reductions: Reductions::default(),
        }
    }
}

impl Metrics {
    /// Counts a statement that has ended.
    pub(super) fn ended(&self, status: &str, taken: Duration, given: Given) {
        let status = status.to_owned();
        self.statements.get_or_create(&Ended { status }).inc();
        self.seconds.observe(taken.as_secs_f64());
        self.rows.inc_by(given.rows);
        self.bytes.inc_by(given.bytes);
    }

    /// Counts a request for a reduction.
    pub(super) fn requested(&self, path: &str) {
        let labels = Incoming {
            http_method: "POST",
            path: path.to_owned(),
        };
        self.reductions.incoming.get_or_create(&labels).0.inc();
    }

    /// Counts the answer to one.
    pub(super) fn responded(&self, path: &str, status: u16, taken: Duration) {
        let labels = Outgoing {
            status_code: status.into(),
            http_method: "POST",
            path: path.to_owned(),
        };
        let reductions = &self.reductions;
        reductions.outgoing.get_or_create(&labels).0.inc();
        let seconds = reductions.seconds.get_or_create(&labels);
        seconds.observe(taken.as_secs_f64());
    }

    /// Counts a statement that waits, until what this returns is dropped.
    pub(super) fn waits(&self) -> Waiting<'_> {
        self.waiting.inc();
        Waiting(self)
    }

    /// All of it as text.
    pub(super) fn text(&self, running: usize, sessions: usize, memory: usize) -> String {
        for (gauge, now) in [
            (&self.running, running),
            (&self.sessions, sessions),
            (&self.memory, memory),
        ] {
            gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.reductions.registry);
        if let Err(error) = written.and_then(|()| encode(&mut text, &self.registry)) {
            let _ = writeln!(text, "# {error}");
        }
        text
    }
}

/// A statement that waits.
pub(super) struct Waiting<'a>(&'a Metrics);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::default();
        metrics.ended("ok", Duration::from_millis(2), Given { rows: 3, bytes: 24 });
        metrics.ended("NotFound", Duration::from_secs(1), Given::default());
        metrics.requested("/v2/sum");
        metrics.responded("/v2/sum", 200, Duration::from_millis(20));
        let waiting = metrics.waits();
        let text = metrics.text(2, 1, 77);
        for line in [
            "hyperslab_statements_total{status=\"ok\"} 1",
            "hyperslab_statements_total{status=\"NotFound\"} 1",
            "hyperslab_statement_seconds_count 2",
            "hyperslab_statement_seconds_bucket{le=\"0.004\"} 1",
            "hyperslab_rows_total 3",
            "hyperslab_rows_size_total 24",
            "hyperslab_statements_waiting 1",
            "hyperslab_statements_running 2",
            "hyperslab_sessions 1",
            "hyperslab_memory_reserved_bytes 77",
            "incoming_requests{http_method=\"POST\",path=\"/v2/sum\"} 1",
            "outgoing_response{status_code=\"200\",http_method=\"POST\",path=\"/v2/sum\"} 1",
            "response_time_bucket{le=\"0.025\",status_code=\"200\",http_method=\"POST\",path=\"/v2/sum\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        drop(waiting);
        assert!(
            metrics
                .text(0, 0, 0)
                .contains("hyperslab_statements_waiting 0")
        );
    }
}
