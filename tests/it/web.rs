//! What a server answers over plain HTTP, and how it agrees on connections with TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use hyperslab::server::{Config, Server};
use tokio::sync::oneshot;

use crate::common::{certificate, project, sample};

/// Starts a server of the sample data; it stops when the sender is dropped.
async fn start(more: &str) -> (u16, oneshot::Sender<()>) {
    let data = PathBuf::from(sample("tas.nc"));
    let config = format!(
        "listen = \"127.0.0.1:0\"\n{more}\n[roots.data]\nlocation = \"{}\"\n",
        data.parent().unwrap().display()
    );
    let server = Server::bind(Config::parse(&config).unwrap()).await.unwrap();
    let port = server.address().port();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    (port, stop)
}

/// The answer to a GET, with its head.
fn get(port: u16, path: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let timeout = Some(Duration::from_secs(10));
    connection.set_read_timeout(timeout).unwrap();
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_answered_on_the_same_port() {
    let (port, _stop) = start("").await;
    assert!(get(port, "/healthz").starts_with("HTTP/1.1 200"));
    let metric = |name: &str| -> f64 {
        let text = get(port, "/metrics");
        assert!(text.contains("application/openmetrics-text"), "{text}");
        let mut lines = text.lines();
        let line = lines
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("0");
        line.trim().parse().unwrap()
    };
    let ok = "hyperslab_statements_total{status=\"ok\"} ";
    let wrong = "hyperslab_statements_total{status=\"InvalidArgument\"} ";
    assert_eq!((metric(ok), metric(wrong)), (0.0, 0.0));
    let address = format!("http://127.0.0.1:{port}");
    let channel = tonic::transport::Endpoint::new(address).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut client = arrow_flight::sql::client::FlightSqlServiceClient::new(channel);
    let sql = "SELECT lat FROM 'data/tas.nc'.tas LIMIT 7".to_owned();
    let info = client.execute(sql, None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let rows = client.do_get(ticket).await.unwrap();
    let rows: Vec<_> = futures::TryStreamExt::try_collect(rows).await.unwrap();
    assert_eq!(
        rows.iter()
            .map(|batch: &RecordBatch| batch.num_rows())
            .sum::<usize>(),
        7
    );
    client.execute("SELECT".to_owned(), None).await.unwrap_err();
    assert_eq!((metric(ok), metric(wrong)), (1.0, 1.0));
    assert_eq!(metric("hyperslab_rows_total "), 7.0);
    assert_eq!(metric("hyperslab_statements_running "), 0.0);
    assert_eq!(metric("hyperslab_sessions "), 1.0);
    // Other paths are not answered, and not by the other protocol either.
    // Nor are reductions, which have not been switched on.
    for path in ["/nothing", "/v2/sum", "/.well-known/reductionist-schema"] {
        let nothing = get(port, path);
        assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    }
}

/// What a client gets that knows a certificate, and may have one itself.
fn ask(port: u16, certificate: &str, own: Option<&(String, String)>) -> String {
    let mut command = Command::new("python3");
    command
        .arg(project("tests/clients/tls.py"))
        .arg(format!("https://127.0.0.1:{port}/healthz"))
        .arg(certificate);
    if let Some((certificate, key)) = own {
        command.args([certificate, key]);
    }
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_change_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name| certificate(folder.path(), name);
    let (Ok((first, first_key)), Ok((second, second_key))) = (made("first"), made("second")) else {
        println!("there is no openssl, and TLS is not tested");
        return;
    };
    let used = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (pem, key) = (used("used.pem"), used("used.key"));
    std::fs::copy(&first, &pem).unwrap();
    std::fs::copy(&first_key, &key).unwrap();
    let config = format!("[tls]\ncertificate = \"{pem}\"\nkey = \"{key}\"");
    let (port, _stop) = start(&config).await;
    assert_eq!(ask(port, &first, None), "200 ok");
    assert!(ask(port, &second, None).starts_with("refused"));
    let renew = |certificate: &[u8], private: &[u8]| {
        std::fs::write(&key, private).unwrap();
        std::fs::write(&pem, certificate).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
    };
    // One that cannot be used changes nothing.
    renew(b"nonsense", b"nonsense");
    assert_eq!(ask(port, &first, None), "200 ok");
    let read = |path: &str| std::fs::read(path).unwrap();
    renew(&read(&second), &read(&second_key));
    assert_eq!(ask(port, &second, None), "200 ok");
    assert!(ask(port, &first, None).starts_with("refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_need_certificates_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name| certificate(folder.path(), name);
    let (Ok((server, server_key)), Ok(ann), Ok(eve)) = (made("server"), made("ann"), made("eve"))
    else {
        println!("there is no openssl, and TLS is not tested");
        return;
    };
    let config = format!(
        "[tls]\ncertificate = \"{server}\"\nkey = \"{server_key}\"\nclients = \"{}\"",
        ann.0
    );
    let (port, _stop) = start(&config).await;
    assert_eq!(ask(port, &server, Some(&ann)), "200 ok");
    assert!(ask(port, &server, Some(&eve)).starts_with("refused"));
    assert!(ask(port, &server, None).starts_with("refused"));
    // Nor does plain text get through.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = plain.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200"));
}
