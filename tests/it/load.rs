//! Many clients at a time; `HYPERSLAB_LOAD_SECONDS=600` lets them ask for longer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::common::{rows, sample, session};
use crate::grids::Random;
use crate::serving::Serving;

type Client = FlightSqlServiceClient<Channel>;

/// Clients that ask at the same time.
const CLIENTS: u64 = 64;

/// Members of the ensemble, each of which is the sample with another number added.
const MEMBERS: usize = 12;

/// A server in a process of its own.
struct Running(Serving);

impl Running {
    fn start(folder: &std::path::Path, more: &str) -> Self {
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[roots.data]\nlocation = \"{}\"\n[limits]\n{more}",
            folder.display()
        );
        Self(Serving::start(folder, &text, |_| {}))
    }

    async fn client(&self) -> Client {
        let endpoint = Endpoint::new(format!("http://{}", self.0.address)).unwrap();
        FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// Time that the process has spent on processors.
    fn worked(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Statements that run, as the server counts them.
    fn running(&self) -> u64 {
        let mut connection = TcpStream::connect(&self.0.address).unwrap();
        connection
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("hyperslab_statements_running "));
        line.unwrap().trim().parse().unwrap()
    }

    /// MiB of memory that the process holds.
    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.0.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib / 1024
    }
}

async fn ask(client: &mut Client, sql: &str) -> Result<Vec<RecordBatch>, FlightError> {
    let info = client.execute(sql.to_owned(), None).await?;
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.do_get(ticket).await?.try_collect().await
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// One cell.
    Point,
    /// One map.
    Slice,
    /// All cells.
    Aggregate,
}

/// A time step of the sample: the value of its first cell, the sum of all, and how many have a value.
struct Map {
    time: String,
    first: f64,
    sum: f64,
    count: f64,
}

/// A statement, and the sum of its last column.
fn statement(kind: Kind, random: &mut Random, maps: &[Map]) -> (String, f64) {
    let member = random.below(MEMBERS);
    let Map {
        time,
        first,
        sum,
        count,
    } = &maps[random.below(maps.len())];
    let offset = member as f64;
    match kind {
        Kind::Point => (
            format!(
                "SELECT CAST(tas AS DOUBLE) AS x FROM 'data/big.zarr' WHERE member = {member} AND time = '{time}' \
                 AND lat < -84 AND lon < 1"
            ),
            first + offset,
        ),
        Kind::Slice => (
            format!(
                "SELECT lat, lon, CAST(tas AS DOUBLE) AS x FROM 'data/big.zarr' WHERE member = {member} AND time = '{time}'"
            ),
            sum + offset * count,
        ),
        Kind::Aggregate => (
            "SELECT month(time) AS m, CAST(count(tas) AS DOUBLE) AS x FROM 'data/big.zarr' GROUP BY m".to_owned(),
            MEMBERS as f64 * maps.iter().map(|map| map.count).sum::<f64>(),
        ),
    }
}

fn last_column(batches: &[RecordBatch]) -> f64 {
    let columns = batches.iter().filter_map(|batch| batch.columns().last());
    columns
        .flat_map(|column| column.as_primitive::<Float64Type>().iter().flatten())
        .sum()
}

/// The time in ms that so many of a thousand are not above.
fn percentile(times: &mut [Duration], of_thousand: usize) -> f64 {
    times.sort_unstable();
    let at = times.len() * of_thousand / 1000;
    times[at.min(times.len() - 1)].as_secs_f64() * 1e3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_get_right_answers_in_bounded_memory() {
    let seconds = std::env::var("HYPERSLAB_LOAD_SECONDS");
    let seconds = seconds.map_or(6, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let session = session();
    let source = sample("tas.nc");
    let big = folder.path().join("big.zarr");
    let copy = format!(
        "COPY (SELECT m.value AS member, time, lat, lon, CAST(tas + m.value AS DOUBLE) AS tas \
         FROM generate_series(0, {}) m CROSS JOIN '{source}'.tas) TO '{}' \
         OPTIONS (dims 'member,time,lat,lon', chunks '1,50,16,24')",
        MEMBERS - 1,
        big.display()
    );
    rows(&session, &copy).await.unwrap();
    let maps = format!(
        "SELECT CAST(time AS VARCHAR) AS name, sum(CASE WHEN lat < -84 AND lon < 1 THEN CAST(tas AS DOUBLE) ELSE 0 END), \
         sum(CAST(tas AS DOUBLE)), count(tas) FROM '{source}'.tas WHERE tas IS NOT NULL GROUP BY time ORDER BY time"
    );
    let maps: Vec<Map> = rows(&session, &maps)
        .await
        .unwrap()
        .iter()
        .map(|row| Map {
            time: row[0].as_str().unwrap().to_owned(),
            first: row[1].as_f64().unwrap(),
            sum: row[2].as_f64().unwrap(),
            count: row[3].as_f64().unwrap(),
        })
        .collect();
    let maps = Arc::new(maps);
    let server = Running::start(folder.path(), "memory_mib = 512\nqueue_seconds = 60\n");

    // What a point costs when nobody else asks.
    let mut alone = server.client().await;
    let mut random = Random::new(77);
    let mut idle = Vec::new();
    for _ in 0..60 {
        let (sql, expected) = statement(Kind::Point, &mut random, &maps);
        let start = Instant::now();
        let found = last_column(&ask(&mut alone, &sql).await.unwrap());
        idle.push(start.elapsed());
        assert!(
            (found - expected).abs() < 1e-6,
            "{sql}: {found}, {expected}"
        );
    }

    let until = Instant::now() + Duration::from_secs(seconds);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let maps = Arc::clone(&maps);
        let mut client = server.client().await;
        asking.spawn(async move {
            let mut random = Random::new(number);
            let mut taken = Vec::new();
            let mut refused = 0;
            while Instant::now() < until {
                let kind = match random.below(20) {
                    0 => Kind::Aggregate,
                    1..=5 => Kind::Slice,
                    _ => Kind::Point,
                };
                let (sql, expected) = statement(kind, &mut random, &maps);
                let start = Instant::now();
                match ask(&mut client, &sql).await {
                    Ok(batches) => {
                        taken.push((kind, start.elapsed()));
                        let found = last_column(&batches);
                        assert!(
                            (found - expected).abs() < 1e-6 * expected.abs(),
                            "{sql}: {found} instead of {expected}"
                        );
                    }
                    // The only error that load may cause.
                    Err(FlightError::Tonic(status)) if status.code() == Code::ResourceExhausted => {
                        refused += 1;
                    }
                    Err(error) => panic!("{sql}: {error}"),
                }
            }
            (taken, refused)
        });
    }
    tokio::time::sleep(Duration::from_secs(seconds) / 2).await;
    let half = server.memory();
    let mut all = Vec::new();
    let mut refused = 0;
    while let Some(done) = asking.join_next().await {
        let (taken, others) = done.unwrap();
        all.extend(taken);
        refused += others;
    }
    let end = server.memory();
    let before = percentile(&mut idle, 500);
    println!(
        "{} statements in {seconds} s, {refused} refused; {half} MiB half-way, {end} MiB at the end",
        all.len()
    );
    for kind in [Kind::Point, Kind::Slice, Kind::Aggregate] {
        let mut times: Vec<Duration> = all
            .iter()
            .filter(|(other, _)| *other == kind)
            .map(|(_, time)| *time)
            .collect();
        if times.is_empty() {
            continue;
        }
        println!(
            "{kind:?}: {} of them, p50 {:.1} ms, p99 {:.1} ms",
            times.len(),
            percentile(&mut times, 500),
            percentile(&mut times, 990)
        );
    }
    println!(
        "a point alone: p50 {before:.1} ms, p99 {:.1} ms",
        percentile(&mut idle, 990)
    );
    assert!(all.len() > 100);
    assert!(end < 512 + 400, "{end} MiB");
    assert!(end < half + half / 4 + 64, "{half} MiB became {end}");
    // And it still answers.
    let found = ask(&mut alone, "SELECT 5").await.unwrap();
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), 5);
}

/// A server of the sample, and a statement of which more rows come than anybody fetches.
fn endless(more: &str) -> (Running, tempfile::TempDir, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(sample("tas.nc"), folder.path().join("tas.nc")).unwrap();
    let server = Running::start(folder.path(), more);
    let sql =
        "SELECT a.tas, b.tas AS other FROM 'data/tas.nc'.tas a CROSS JOIN 'data/tas.nc'.tas b";
    (server, folder, sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_whose_clients_are_gone_give_everything_back() {
    let (server, _folder, sql) = endless("memory_mib = 512\n");
    let mut before = 0;
    for number in 0..200 {
        // A connection of its own, which is broken in the middle.
        let mut client = server.client().await;
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut rows = client.do_get(ticket).await.unwrap();
        for _ in 0..number % 3 {
            rows.try_next().await.unwrap().unwrap();
        }
        drop((rows, client));
        if number == 50 {
            before = server.memory();
        }
    }
    let end = Instant::now() + Duration::from_secs(1);
    while server.running() > 0 {
        assert!(Instant::now() < end, "{} are running", server.running());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = server.memory();
    assert!(after < before + 100, "{before} MiB became {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_statement_works_no_more() {
    let (server, _folder, _) = endless("");
    // One that works without giving rows.
    let sql =
        "SELECT count(*) FROM 'data/tas.nc'.tas a JOIN 'data/tas.nc'.tas b ON a.tas > b.tas + 1";
    let mut worst = Duration::ZERO;
    let mut random = Random::new(5);
    for _ in 0..20 {
        let mut client = server.client().await;
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut other = server.client().await;
        let fetching = tokio::spawn(async move {
            let rows = other.do_get(ticket).await?;
            rows.try_collect::<Vec<RecordBatch>>().await
        });
        let instant = 30 + random.below(170) as u64;
        tokio::time::sleep(Duration::from_millis(instant)).await;
        let cancel = CancelFlightInfoRequest { info: Some(info) };
        let action = Action::new("CancelFlightInfo", cancel.encode_to_vec());
        let answer = client.inner_mut().do_action(action).await.unwrap();
        let answer = answer.into_inner().try_next().await.unwrap().unwrap();
        let answer = CancelFlightInfoResult::decode(&*answer.body).unwrap();
        assert_eq!(answer.status(), CancelStatus::Cancelled);
        let cancelled = fetching.await.unwrap().unwrap_err().to_string();
        assert!(cancelled.contains("cancelled"), "{cancelled}");
        let start = Instant::now();
        loop {
            let before = server.worked();
            tokio::time::sleep(Duration::from_millis(50)).await;
            if server.worked() - before <= Duration::from_millis(10) {
                break;
            }
            // Without optimization, and beside other tests.
            assert!(start.elapsed() < Duration::from_secs(3));
        }
        worst = worst.max(start.elapsed());
    }
    println!("idle {worst:?} after it was cancelled, at the latest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_are_never_closed_are_bounded() {
    let (server, _folder, _) = endless("handles = 100\n");
    let mut client = server.client().await;
    let mut memory = Vec::new();
    let count = if std::env::var_os("HYPERSLAB_LOAD_SECONDS").is_some() {
        10_000
    } else {
        1000
    };
    for number in 0..count {
        let sql = format!("SELECT tas FROM 'data/tas.nc'.tas WHERE lat > {number}");
        // Dropped without telling the server.
        std::mem::forget(client.prepare(sql, None).await.unwrap());
        if number % (count / 4) == count / 8 {
            memory.push(server.memory());
        }
    }
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    assert!(last < first + 50, "{memory:?}");
}
