//! The server over the network, asked by the client of the Arrow project.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandStatementIngest, EndTransaction, ProstMessageExt,
    SqlInfo, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor,
    FlightInfo, Ticket,
};
use datafusion::arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type, Schema, UInt64Type};
use futures::{StreamExt, TryStreamExt};
use hyperslab::server::{Config, Server};
use prost::Message;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

use crate::common::{copy_folder, project};

type Client = FlightSqlServiceClient<Channel>;

/// A server that stops when this is dropped.
struct Running {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

const USERS: &str = r#"
[[users]]
name = "ann"
password = "secret of ann"
tokens = ["token-of-ann"]
write = ["data"]

[[users]]
name = "bob"
tokens = ["token-of-bob"]
read = ["data"]
"#;

/// A server of a folder `data` with the sample data, and one that nobody may see.
async fn start(more: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::copy(project("sql-examples/data/tas.nc"), data.join("tas.nc")).unwrap();
    copy_folder(
        &project("sql-examples/data/tas.zarr"),
        &data.join("deep/tas.zarr"),
    );
    let hidden = folder.path().join("hidden");
    std::fs::create_dir_all(&hidden).unwrap();
    std::fs::copy(project("sql-examples/data/tas.nc"), hidden.join("tas.nc")).unwrap();
    let config = format!(
        "listen = \"127.0.0.1:0\"\n{more}\n[roots.data]\nlocation = \"{}\"\nwritable = true\n",
        data.display()
    );
    let server = Server::bind(Config::parse(&config).unwrap()).await.unwrap();
    let port = server.address().port();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        server
            .serve(async {
                let _ = stopped.await;
            })
            .await
            .unwrap();
    });
    Running {
        port,
        stop: Some(stop),
        folder,
    }
}

async fn channel(port: u16) -> Channel {
    Endpoint::new(format!("http://127.0.0.1:{port}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn client(server: &Running, token: Option<&str>) -> Client {
    let mut client = FlightSqlServiceClient::new(channel(server.port).await);
    if let Some(token) = token {
        client.set_token(token.to_owned());
    }
    client
}

async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let schema = info.clone().try_decode_schema()?;
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches: Vec<RecordBatch> = client.do_get(ticket).await?.try_collect().await?;
    for batch in &batches {
        assert_eq!(batch.schema().as_ref(), &schema);
    }
    Ok(batches)
}

async fn query(client: &mut Client, sql: &str) -> Result<Vec<RecordBatch>, FlightError> {
    let info = client.execute(sql.to_owned(), None).await?;
    fetch(client, info).await
}

async fn number(client: &mut Client, sql: &str) -> i64 {
    let batches = query(client, sql).await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn refused(client: &mut Client, sql: &str) -> String {
    match query(client, sql).await {
        Ok(_) => panic!("{sql} should fail"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_give_rows_and_errors() {
    let server = start("").await;
    let mut client = client(&server, None).await;
    assert_eq!(number(&mut client, "SELECT 1").await, 1);
    let batches = query(
        &mut client,
        "SELECT lat, avg(tas) AS mean FROM 'data/tas.nc' GROUP BY lat ORDER BY lat",
    )
    .await
    .unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 16);
    // xarray: ds.tas.astype('f8').mean(('time', 'lon'))[0] of the same file.
    let mean = batches[0].column(1).as_primitive::<Float64Type>().value(0);
    let own = hyperslab::Session::new().unwrap();
    let sql = format!(
        "SELECT avg(tas) FROM '{}' WHERE lat < -80",
        project("sql-examples/data/tas.nc").display()
    );
    let same = own.sql(&sql).await.unwrap().collect().await.unwrap();
    assert_eq!(
        mean,
        same[0].column(0).as_primitive::<Float64Type>().value(0)
    );
    // Many rows come whole, in messages that every client takes.
    let all = query(&mut client, "SELECT * FROM 'data/tas.nc'")
        .await
        .unwrap();
    assert_eq!(
        all.iter().map(RecordBatch::num_rows).sum::<usize>(),
        1095 * 16 * 24
    );
    assert!(all.len() > 1);
    // An empty result has a schema.
    let none = query(&mut client, "SELECT * FROM 'data/tas.nc' WHERE lat > 100")
        .await
        .unwrap();
    assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    for (sql, code, text) in [
        ("SELEC 1", "InvalidArgument", "Line: 1"),
        ("SELECT tass FROM 'data/tas.nc'", "InvalidArgument", "tass"),
        ("SELECT * FROM 'data/none.nc'", "NotFound", "none.nc"),
        ("SELECT 1/0", "InvalidArgument", "division by zero"),
        ("SELECT * FROM 'data/tas.nc'.nothing", "NotFound", "nothing"),
    ] {
        let error = refused(&mut client, sql).await;
        assert!(
            error.to_lowercase().contains(&code.to_lowercase()) || error.contains(text),
            "{sql}: {error}"
        );
        assert!(error.contains(text), "{sql}: {error}");
    }
    let long = format!("SELECT {}", "1 + ".repeat(400_000));
    assert!(refused(&mut client, &long).await.contains("may have"));
    assert_eq!(number(&mut client, "SELECT 2").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_travel_compressed_where_a_session_wants_it() {
    let server = start("").await;
    let mut client = client(&server, None).await;
    let sql = "SELECT time, lat, lon, tas FROM 'data/tas.nc' ORDER BY time, lat, lon";
    let plain = query(&mut client, sql).await.unwrap();
    let schema = plain[0].schema();
    let plain = concat_batches(&schema, &plain).unwrap();
    let mut sizes = Vec::new();
    for way in ["none", "lz4", "zstd"] {
        let set = format!("SET hyperslab.compression = '{way}'");
        query(&mut client, &set).await.unwrap();
        let rows = query(&mut client, sql).await.unwrap();
        assert_eq!(concat_batches(&schema, &rows).unwrap(), plain);
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let messages = client
            .inner_mut()
            .do_get(ticket)
            .await
            .unwrap()
            .into_inner();
        let size = messages.try_fold(0, |sum, message| async move {
            Ok(sum + message.data_body.len())
        });
        sizes.push(size.await.unwrap());
    }
    assert!(
        sizes[1] * 3 < sizes[0] && sizes[2] * 3 < sizes[0],
        "{sizes:?}"
    );
    let error = refused(&mut client, "SET hyperslab.compression = 'gzip'").await;
    assert!(
        error.contains("'gzip', but has to be one of none, lz4, zstd"),
        "{error}"
    );
    assert_eq!(number(&mut client, "SELECT 1").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_asks_a_server() {
    let server = start(USERS).await;
    let url = format!("grpc://127.0.0.1:{}", server.port);
    let ask = |arguments: &[&str], secret: (&str, &str)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hyperslab"));
        command.args(["--connect", &url, "--format", "ndjson"]);
        let out = command
            .args(arguments)
            .env(secret.0, secret.1)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            out.status.code().unwrap(),
            text(out.stdout),
            text(out.stderr),
        )
    };
    let password = ("HYPERSLAB_PASSWORD", "secret of ann");
    let count = "SELECT count(*) AS n FROM 'data/tas.nc'";
    let (code, rows, said) = ask(&["--user", "ann", "-c", count], password);
    assert_eq!((code, rows.as_str()), (0, "{\"n\":420480}\n"), "{said}");
    // One session: what is set stays so.
    let token = ("HYPERSLAB_TOKEN", "token-of-bob");
    let statements = "SET hyperslab.decode = false; SHOW hyperslab.decode; SELECT tas FROM 'data/tas.nc' LIMIT 0; SELECT 1/0; \
                      SELECT 2 AS two";
    let (code, rows, said) = ask(
        &["--set", "hyperslab.compression=lz4", "-c", statements],
        token,
    );
    assert_eq!(code, 1);
    assert!(
        rows.contains("\"value\":\"false\"") && rows.ends_with("{\"two\":2}\n"),
        "{rows}"
    );
    assert!(
        said.starts_with("error: ") && said.contains("ivi"),
        "{said}"
    );
    // Sentences of the server, and those about it.
    let insert = "INSERT INTO 'data/tas.nc' SELECT * FROM 'data/tas.nc'";
    for (arguments, secret, complaint) in [
        (
            &["--user", "ann", "-c", "SELECT 1"][..],
            ("HYPERSLAB_PASSWORD", "wrong"),
            "error: grpc://127.0.0.1:",
        ),
        (&["-c", "SELECT 1"], ("HYPERSLAB_PASSWORD", ""), "error: "),
        (
            &["-c", "SELECT * FROM 'data/none.nc'"],
            token,
            "none.nc does not exist",
        ),
        (&["-c", insert], token, "may be changed by you"),
        (
            &["--set", "hyperslab.nothing=1", "-c", "SELECT 1"],
            token,
            "--set hyperslab.nothing=1",
        ),
        (
            &["--register", "a=b", "-c", "SELECT 1"],
            token,
            "cannot be used with",
        ),
    ] {
        let (code, _, said) = ask(arguments, secret);
        assert!(
            code > 0 && said.contains(complaint),
            "{arguments:?}: {said}"
        );
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_take_parameters() {
    let server = start("").await;
    let mut client = client(&server, None).await;
    let sql = "SELECT count(*) FROM 'data/tas.nc' WHERE lat > ? AND month(time) = ?";
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 2);
    assert_eq!(
        prepared.dataset_schema().unwrap().field(0).name(),
        "count(*)"
    );
    for (lat, month, expected) in [(0.0, 1, 8 * 24 * 31 * 3), (80.0, 2, 24 * 28 * 3)] {
        let parameters = RecordBatch::try_from_iter([
            ("1", std::sync::Arc::new(Float64Array::from(vec![lat])) as _),
            ("2", std::sync::Arc::new(Int64Array::from(vec![month])) as _),
        ]);
        prepared.set_parameters(parameters.unwrap()).unwrap();
        let info = prepared.execute().await.unwrap();
        let batches = fetch(&mut client, info).await.unwrap();
        assert_eq!(
            batches[0].column(0).as_primitive::<Int64Type>().value(0),
            expected
        );
    }
    prepared.close().await.unwrap();
    // An update has no columns, and runs once for each row of parameters.
    query(&mut client, "CREATE TABLE t (a BIGINT, b VARCHAR)")
        .await
        .unwrap();
    let mut insert = client
        .prepare("INSERT INTO t VALUES ($1, $2)".to_owned(), None)
        .await
        .unwrap();
    assert_eq!(
        insert
            .dataset_schema()
            .map_or(0, |schema| schema.fields().len()),
        0
    );
    let rows = RecordBatch::try_from_iter([
        (
            "1",
            std::sync::Arc::new(Int64Array::from(vec![1, 2, 3])) as _,
        ),
        (
            "2",
            std::sync::Arc::new(StringArray::from(vec![Some("x"), None, Some("it's")])) as _,
        ),
    ]);
    insert.set_parameters(rows.unwrap()).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 3);
    assert_eq!(
        number(&mut client, "SELECT sum(a) FROM t WHERE b IS NOT NULL").await,
        4
    );
    let most = query(&mut client, "SELECT max(b) FROM t").await.unwrap();
    assert_eq!(most[0].column(0).as_string::<i32>().value(0), "x");
    // So many that are never closed are forgotten, the oldest first.
    for _ in 0..1100 {
        client.prepare("SELECT 1".to_owned(), None).await.unwrap();
    }
    assert!(
        insert
            .execute_update()
            .await
            .unwrap_err()
            .to_string()
            .contains("no such handle")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_change_datasets() {
    let server = start(USERS).await;
    let mut ann = client(&server, Some("token-of-ann")).await;
    let mut bob = client(&server, Some("token-of-bob")).await;
    let copy = "COPY (SELECT * FROM 'data/tas.nc' WHERE year(time) = 2002) TO 'data/new.zarr'";
    let denied = bob
        .execute_update(copy.to_owned(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        denied.contains("nothing below data may be changed"),
        "{denied}"
    );
    assert!(!server.folder.path().join("data/new.zarr").exists());
    assert_eq!(
        ann.execute_update(copy.to_owned(), None).await.unwrap(),
        365 * 16 * 24
    );
    let insert = "INSERT INTO 'data/new.zarr' (time, lat, lon, tas, pr, area) SELECT time, lat, lon, tas, pr, area FROM 'data/tas.nc' WHERE year(time) = 2003";
    let denied = bob
        .execute_update(insert.to_owned(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(denied.contains("may be changed"), "{denied}");
    assert_eq!(
        ann.execute_update(insert.to_owned(), None).await.unwrap(),
        365 * 16 * 24
    );
    let denied = bob
        .execute_update("ROLLBACK 'data/new.zarr' TO VERSION 0".to_owned(), None)
        .await;
    assert!(denied.unwrap_err().to_string().contains("may be changed"));
    assert_eq!(
        number(&mut bob, "SELECT count(DISTINCT time) FROM 'data/new.zarr'").await,
        730
    );
    ann.execute_update("ROLLBACK 'data/new.zarr' TO VERSION 0".to_owned(), None)
        .await
        .unwrap();
    assert_eq!(
        number(&mut bob, "SELECT count(DISTINCT time) FROM 'data/new.zarr'").await,
        365
    );
    // Settings are those of a session, and the process has its own.
    ann.execute_update("SET hyperslab.decode = false".to_owned(), None)
        .await
        .unwrap();
    let raw = query(&mut ann, "SELECT time FROM 'data/tas.nc' LIMIT 1")
        .await
        .unwrap();
    let decoded = query(&mut bob, "SELECT time FROM 'data/tas.nc' LIMIT 1")
        .await
        .unwrap();
    assert_ne!(raw[0].schema(), decoded[0].schema());
    let process = ann
        .execute_update(
            "SET datafusion.runtime.memory_limit = '1G'".to_owned(),
            None,
        )
        .await;
    assert!(
        process
            .unwrap_err()
            .to_string()
            .contains("a setting of the server")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_of_a_transaction_are_there_together() {
    let server = start(USERS).await;
    let mut ann = client(&server, Some("token-of-ann")).await;
    let mut bob = client(&server, Some("token-of-bob")).await;
    let copy = "COPY (SELECT * FROM 'data/tas.nc' WHERE year(time) = 2002) TO 'data/new.zarr'";
    ann.execute_update(copy.to_owned(), None).await.unwrap();
    let insert = |condition: &str| {
        format!(
            "INSERT INTO 'data/new.zarr' (time, lat, lon, tas, pr, area) \
             SELECT time, lat, lon, tas, pr, area FROM 'data/tas.nc' WHERE {condition}"
        )
    };
    let days = "SELECT count(DISTINCT time) FROM 'data/new.zarr'";
    let open = ann.begin_transaction().await.unwrap();
    let january = insert("year(time) = 2003 AND month(time) = 1");
    let count = ann.execute_update(january.clone(), Some(open.clone()));
    assert_eq!(count.await.unwrap(), 31 * 384);
    // As a query, which gives the count as a row.
    let rest = insert("year(time) = 2003 AND month(time) > 1");
    let info = ann.execute(rest.clone(), Some(open.clone())).await.unwrap();
    let rows = fetch(&mut ann, info).await.unwrap();
    let counts = rows[0].column(0).as_primitive::<UInt64Type>();
    assert_eq!(counts.value(0), 334 * 384);
    assert_eq!(number(&mut ann, days).await, 365);
    // It belongs to somebody, changes one table, and does what is no INSERT at once.
    let other = bob
        .execute_update(january.clone(), Some(open.clone()))
        .await;
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("no such transaction")
    );
    ann.execute_update(
        "CREATE TABLE t AS SELECT 1 AS a".to_owned(),
        Some(open.clone()),
    )
    .await
    .unwrap();
    let other = ann.execute_update("INSERT INTO t VALUES (2)".to_owned(), Some(open.clone()));
    let other = other.await.unwrap_err().to_string();
    assert!(other.contains("changes one table in one way"), "{other}");
    assert_eq!(number(&mut ann, "SELECT count(*) FROM t").await, 1);
    ann.end_transaction(open.clone(), EndTransaction::Commit)
        .await
        .unwrap();
    assert_eq!(number(&mut bob, days).await, 730);
    // They are one version: the one before it has none of them.
    let before = "SELECT count(DISTINCT time) FROM 'data/new.zarr#version=0'";
    assert_eq!(number(&mut bob, before).await, 365);
    let none = "SELECT count(*) FROM 'data/new.zarr#version=2'";
    refused(&mut bob, none).await;
    let again = ann
        .end_transaction(open.clone(), EndTransaction::Commit)
        .await;
    assert!(again.unwrap_err().to_string().contains("no such handle"));
    let late = insert("year(time) = 2004 AND month(time) = 1");
    let ended = ann.execute_update(late.clone(), Some(open)).await;
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("no such transaction")
    );
    for (second, action) in [
        ("month(time) = 2", EndTransaction::Rollback),
        // The same days twice: all or nothing.
        ("month(time) = 1", EndTransaction::Commit),
    ] {
        let open = ann.begin_transaction().await.unwrap();
        for sql in [
            late.clone(),
            insert(&format!("year(time) = 2004 AND {second}")),
        ] {
            let count = ann.execute_update(sql, Some(open.clone())).await.unwrap();
            assert!(count >= 28 * 384);
        }
        let ended = ann.end_transaction(open, action).await;
        assert_eq!(ended.is_err(), action == EndTransaction::Commit);
        assert_eq!(number(&mut bob, days).await, 730);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_is_known_is_answered() {
    let server = start(USERS).await;
    for token in [
        None,
        Some("wrong"),
        Some(""),
        Some("token-of-an"),
        Some("token-of-ann "),
    ] {
        let mut client = client(&server, token).await;
        if token == Some("token-of-ann ") {
            continue;
        }
        let error = client
            .execute("SELECT 1".to_owned(), None)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("token"), "{token:?}: {error}");
        let tables = client.get_tables(CommandGetTables::default()).await;
        if let Ok(info) = tables {
            assert!(fetch(&mut client, info).await.is_err());
        }
    }
    let mut ann = client(&server, None).await;
    for (name, password) in [
        ("ann", "wrong"),
        ("nobody", "secret of ann"),
        ("bob", ""),
        ("", ""),
    ] {
        let error = ann.handshake(name, password).await.unwrap_err().to_string();
        assert!(error.contains("name or password is wrong"), "{error}");
    }
    let token = ann.handshake("ann", "secret of ann").await.unwrap();
    assert_eq!(number(&mut ann, "SELECT 1").await, 1);
    let mut again = client(&server, Some(std::str::from_utf8(&token).unwrap())).await;
    assert_eq!(number(&mut again, "SELECT 1").await, 1);

    // Somebody else's ticket and statement are nobody's business, and a ticket is used once.
    let mut bob = client(&server, Some("token-of-bob")).await;
    let info = again.execute("SELECT 1".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert!(bob.do_get(ticket.clone()).await.is_err());
    assert!(again.do_get(ticket.clone()).await.is_ok());
    assert!(again.do_get(ticket).await.is_err());
    // A link that leads out, and rows beyond it.
    let hidden = server.folder.path().join("hidden");
    std::fs::write(hidden.join("rows.csv"), "a\n1\n").unwrap();
    std::os::unix::fs::symlink(&hidden, server.folder.path().join("data/link")).unwrap();
    std::fs::write(server.folder.path().join("data/own.csv"), "a\n7\n").unwrap();
    assert_eq!(number(&mut again, "SELECT a FROM 'data/own.csv'").await, 7);
    for pattern in ["data/*/rows.csv", "data/**/*.csv", "data/l*/rows.csv"] {
        let error = refused(&mut again, &format!("SELECT * FROM '{pattern}'")).await;
        assert!(
            error.contains("root") || error.contains("not an array dataset"),
            "{error}"
        );
    }
    for hostile in [
        "SELECT * FROM '{hidden}/tas.nc'",
        "SELECT * FROM 'data/../hidden/tas.nc'",
        "SELECT * FROM 'hidden/tas.nc'",
        "SELECT * FROM read_array('{hidden}/tas.nc', 'tas')",
        "SELECT * FROM array_info('{hidden}/tas.nc')",
        "SELECT * FROM array_attributes('data/../hidden/tas.nc')",
        "SELECT * FROM array_chunks('{hidden}/tas.nc', 'tas')",
        "SELECT * FROM array_versions('{hidden}/tas.nc')",
        "SELECT * FROM '{hidden}/*.nc'",
        "SELECT * FROM '{hidden}/../hidden/*'",
        "SELECT * FROM '{hidden}/tas.nc'.tas",
        "SELECT * FROM datafusion.\"{hidden}/tas.nc\".tas",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM 's3://bucket/x.zarr'",
        "SELECT * FROM 'http://127.0.0.1:1/x.zarr'",
        "COPY (SELECT 1 AS a) TO '{hidden}/out.parquet'",
        "COPY (SELECT 1 AS a) TO '{hidden}/out.csv' STORED AS CSV",
        "COPY (SELECT 1 AS a) TO 'file://{hidden}/out.json'",
        "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{hidden}/out.parquet'",
        "COPY (SELECT 1 AS a) TO '{hidden}/out.zarr'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE EXTERNAL TABLE x STORED AS NETCDF LOCATION '{hidden}/tas.nc'",
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 's3://bucket/x'",
        "CREATE EXTERNAL TABLE x (a BIGINT NOT NULL) STORED AS ZARR LOCATION '{hidden}/new.zarr' OPTIONS (dims 'a')",
        "INSERT INTO '{hidden}/tas.nc' SELECT * FROM 'data/tas.nc'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'data/'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'data/*'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'data/link/rows.csv'",
        "VACUUM '{hidden}/tas.nc'",
        "ROLLBACK '{hidden}/tas.nc' TO VERSION 0",
    ] {
        let hidden = server.folder.path().join("hidden");
        let sql = hostile.replace("{hidden}", hidden.to_str().unwrap());
        let error = refused(&mut again, &sql).await;
        assert!(error.contains("root"), "{sql}: {error}");
    }
    let left: Vec<_> = std::fs::read_dir(server.folder.path().join("hidden"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_what_there_is() {
    let server = start("").await;
    let mut client = client(&server, None).await;
    let text = |batches: &[RecordBatch], column: usize| -> Vec<String> {
        let values = batches
            .iter()
            .flat_map(|batch| batch.column(column).as_string::<i32>().iter());
        values.map(|value| value.unwrap_or("").to_owned()).collect()
    };
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(
        text(&fetch(&mut client, info).await.unwrap(), 0),
        ["datafusion"]
    );
    let info = client
        .get_db_schemas(CommandGetDbSchemas::default())
        .await
        .unwrap();
    let schemas = text(&fetch(&mut client, info).await.unwrap(), 1);
    assert_eq!(
        schemas,
        [
            "data/deep/tas.zarr",
            "data/tas.nc",
            "information_schema",
            "public"
        ]
    );
    let info = client.get_tables(CommandGetTables {
        db_schema_filter_pattern: Some("data/%.nc".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    });
    let info = info.await.unwrap();
    let tables = fetch(&mut client, info).await.unwrap();
    let names = text(&tables, 2);
    assert!(
        names.contains(&"tas".to_owned()) && names.contains(&"lat".to_owned()),
        "{names:?}"
    );
    assert!(
        text(&tables, 1)
            .iter()
            .all(|schema| schema == "data/tas.nc")
    );
    // What is listed can be asked for by its full name.
    let count = "SELECT count(*) FROM datafusion.\"data/tas.nc\".tas";
    assert_eq!(number(&mut client, count).await, 1095 * 16 * 24);
    let keys = arrow_flight::sql::CommandGetPrimaryKeys {
        catalog: Some("datafusion".to_owned()),
        db_schema: Some("data/tas.nc".to_owned()),
        table: "tas".to_owned(),
    };
    let info = client.get_primary_keys(keys).await.unwrap();
    let keys = fetch(&mut client, info).await.unwrap();
    assert_eq!(text(&keys, 3), ["time", "lat", "lon"]);
    assert_eq!(
        keys[0].column(5).as_primitive::<Int32Type>().values(),
        &[1, 2, 3]
    );
    let info = client
        .get_sql_info(vec![
            SqlInfo::FlightSqlServerName,
            SqlInfo::FlightSqlServerReadOnly,
        ])
        .await
        .unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap()[0].num_rows(), 2);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(
        text(&fetch(&mut client, info).await.unwrap(), 0),
        ["TABLE", "VIEW"]
    );
    let info = client
        .get_xdbc_type_info(arrow_flight::sql::CommandGetXdbcTypeInfo { data_type: None })
        .await
        .unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap()[0].num_rows(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_clients_become_datasets() {
    let server = start(USERS).await;
    let mut ann = client(&server, Some("token-of-ann")).await;
    let batch = |days: std::ops::Range<i64>| {
        let rows: Vec<(i64, f64)> = days.flat_map(|day| [(day, 10.0), (day, 20.0)]).collect();
        RecordBatch::try_from_iter([
            (
                "day",
                std::sync::Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))
                    as _,
            ),
            (
                "lat",
                std::sync::Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))
                    as _,
            ),
            (
                "v",
                std::sync::Arc::new(Float64Array::from_iter_values(
                    rows.iter().map(|row| row.1 * row.0 as f64),
                )) as _,
            ),
        ])
        .unwrap()
    };
    let command =
        |exists: TableExistsOption, missing: TableNotExistOption| CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: missing.into(),
                if_exists: exists.into(),
            }),
            table: "data/sent.zarr".to_owned(),
            schema: None,
            catalog: None,
            temporary: false,
            transaction_id: None,
            options: [("dims".to_owned(), "day,lat".to_owned())].into(),
        };
    let send = |batch: RecordBatch| futures::stream::iter([Ok(batch)]);
    let missing = command(TableExistsOption::Append, TableNotExistOption::Fail);
    assert!(
        ann.execute_ingest(missing, send(batch(0..2)))
            .await
            .unwrap_err()
            .to_string()
            .contains("sent.zarr")
    );
    let create = command(TableExistsOption::Fail, TableNotExistOption::Create);
    assert_eq!(
        ann.execute_ingest(create.clone(), send(batch(0..2)))
            .await
            .unwrap(),
        4
    );
    assert!(
        ann.execute_ingest(create, send(batch(2..3)))
            .await
            .unwrap_err()
            .to_string()
            .contains("exists already")
    );
    let append = command(TableExistsOption::Append, TableNotExistOption::Create);
    assert_eq!(
        ann.execute_ingest(append.clone(), send(batch(2..5)))
            .await
            .unwrap(),
        6
    );
    assert_eq!(
        number(&mut ann, "SELECT count(*) FROM 'data/sent.zarr'").await,
        10
    );
    let sum = query(&mut ann, "SELECT sum(v) FROM 'data/sent.zarr'")
        .await
        .unwrap();
    assert_eq!(
        sum[0].column(0).as_primitive::<Float64Type>().value(0),
        30.0 * 10.0
    );
    let mut bob = client(&server, Some("token-of-bob")).await;
    let denied = bob
        .execute_ingest(append, send(batch(5..6)))
        .await
        .unwrap_err()
        .to_string();
    assert!(denied.contains("may be changed"), "{denied}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_cancelled_stops() {
    let server =
        start("[limits]\nstatements = 1\nqueue_seconds = 20\nstatement_seconds = 30\n").await;
    let mut client = client(&server, None).await;
    // Far more rows than are fetched before it is cancelled.
    let long = "SELECT a.tas, b.tas FROM 'data/tas.nc' a CROSS JOIN 'data/tas.nc' b";
    for at in 0..5 {
        let info = client.execute(long.to_owned(), None).await.unwrap();
        let mut rows = client
            .do_get(info.endpoint[0].ticket.clone().unwrap())
            .await
            .unwrap();
        for _ in 0..at {
            rows.next().await.unwrap().unwrap();
        }
        let cancel = CancelFlightInfoRequest { info: Some(info) };
        let action = Action::new("CancelFlightInfo", cancel.encode_to_vec());
        let mut answer = client
            .inner_mut()
            .do_action(action)
            .await
            .unwrap()
            .into_inner();
        let answer =
            CancelFlightInfoResult::decode(&*answer.next().await.unwrap().unwrap().body).unwrap();
        assert_eq!(answer.status(), CancelStatus::Cancelled);
        let end = tokio::time::timeout(Duration::from_secs(5), async {
            while let Some(row) = rows.next().await {
                if let Err(error) = row {
                    return error.to_string();
                }
            }
            String::new()
        });
        assert!(end.await.unwrap().contains("cancelled"));
    }
    // The only permit is free again, also when clients go away in the middle.
    for _ in 0..20 {
        let info = client.execute(long.to_owned(), None).await.unwrap();
        let mut rows = client
            .do_get(info.endpoint[0].ticket.clone().unwrap())
            .await
            .unwrap();
        rows.next().await.unwrap().unwrap();
    }
    let soon = tokio::time::timeout(Duration::from_secs(5), number(&mut client, "SELECT 5"));
    assert_eq!(soon.await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told() {
    let server =
        start("[limits]\nstatements = 1\nqueue_seconds = 0\nstatement_seconds = 1\n").await;
    let mut first = client(&server, None).await;
    let mut second = client(&server, None).await;
    let long = "SELECT a.tas, b.tas FROM 'data/tas.nc' a CROSS JOIN (SELECT tas FROM 'data/tas.nc' LIMIT 500) b";
    let info = first.execute(long.to_owned(), None).await.unwrap();
    let mut rows = first
        .do_get(info.endpoint[0].ticket.clone().unwrap())
        .await
        .unwrap();
    rows.next().await.unwrap().unwrap();
    let busy = refused(&mut second, "SELECT 1").await;
    assert!(busy.contains("1 statements are running"), "{busy}");
    // Who does not fetch is ended, too.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(number(&mut second, "SELECT 1").await, 1);
    let server = start("[limits]\nmemory_mib = 1\n").await;
    let mut client = client(&server, None).await;
    let much = refused(
        &mut client,
        "SELECT count(*) FROM 'data/tas.nc' a JOIN 'data/tas.nc' b ON a.pr = b.tas",
    )
    .await;
    assert!(
        much.to_lowercase().contains("memory") || much.contains("exhausted"),
        "{much}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_messages_are_errors() {
    let server = start("").await;
    let mut client = client(&server, None).await;
    let info = client.execute("SELECT 1".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap().ticket.to_vec();
    for bit in 0..ticket.len() * 8 {
        let mut damaged = ticket.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let damaged = Ticket::new(damaged);
        if let Ok(rows) = client.do_get(damaged).await {
            let _ = rows.try_collect::<Vec<_>>().await;
        }
    }
    for length in 0..64usize {
        let garbage: Vec<u8> = (0..length)
            .map(|at| u8::try_from((at * 37 + length) % 256).unwrap())
            .collect();
        let command = FlightDescriptor::new_cmd(garbage.clone());
        let _ = client.inner_mut().get_flight_info(command.clone()).await;
        let _ = client.inner_mut().get_schema(command.clone()).await;
        let _ = client.inner_mut().poll_flight_info(command).await;
        for action in [
            "CancelFlightInfo",
            "RenewFlightEndpoint",
            "CreatePreparedStatement",
            "CancelQuery",
            "nothing",
            "BeginTransaction",
        ] {
            let _ = client
                .inner_mut()
                .do_action(Action::new(action, garbage.clone()))
                .await;
        }
    }
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let _ = client.execute(deep, None).await;
    let command = arrow_flight::sql::CommandStatementQuery {
        query: "SELECT CAST(1 AS INT) AS a".to_owned(),
        transaction_id: None,
    };
    let command = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let schema = client
        .inner_mut()
        .get_schema(command.clone())
        .await
        .unwrap()
        .into_inner();
    let schema = Schema::try_from(&schema).unwrap();
    assert_eq!(schema.field(0).name(), "a");
    let poll = client
        .inner_mut()
        .poll_flight_info(command)
        .await
        .unwrap()
        .into_inner();
    assert!(poll.flight_descriptor.is_none() && poll.info.is_some());
    assert_eq!(number(&mut client, "SELECT 3").await, 3);
}

#[tokio::test]
async fn a_server_that_would_be_open_to_others_does_not_start() {
    for (config, complaint) in [
        ("listen = \"0.0.0.0:0\"", "plain text"),
        (
            "[roots.a]\nlocation = \"/no/such/folder\"",
            "root a: /no/such/folder",
        ),
        (
            "listen = \"127.0.0.1:0\"\n[tls]\ncertificate = \"/no.pem\"\nkey = \"/no.key\"",
            "/no.pem",
        ),
    ] {
        let config = Config::parse(config).unwrap();
        let error = match Server::bind(config).await {
            Err(error) => error,
            Ok(server) => server.serve(std::future::pending()).await.unwrap_err(),
        };
        assert!(error.to_string().contains(complaint), "{error}");
    }
    assert!(
        Config::read(Path::new("/no/such.toml"))
            .unwrap_err()
            .to_string()
            .contains("/no/such.toml")
    );
}
