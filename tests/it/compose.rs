//! What docker-compose.yml puts together, from plain processes: an object store, the sample in it, and the server.

use std::process::Command;

use arrow_flight::sql::client::FlightSqlServiceClient;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use serde_json::Value;
use tonic::transport::Endpoint;

use crate::common::{output, project};
use crate::moto;
use crate::serving::Serving;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_work_together() {
    let Some(store) = moto::Server::get("the_services_work_together") else {
        return;
    };
    let url = format!("http://127.0.0.1:{}", store.port);
    let text = std::fs::read_to_string(project("docker-compose.yml")).unwrap();
    let compose: Value = serde_yaml_ng::from_str(&text).unwrap();
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        let is_done = service["depends_on"].is_object() && service["ports"].is_null();
        assert!(is_done || service["healthcheck"].is_object(), "{name}");
    }
    let environment = compose["x-store"].as_object().unwrap();
    let environment = environment.iter().map(|(name, value)| {
        let value = value.as_str().unwrap();
        (name.clone(), value.replace("http://store:5000", &url))
    });
    let environment: Vec<(String, String)> = environment.collect();
    moto::put(store.port, "/climate", b"").unwrap();
    // The sample, by its own command.
    let command = services["sample"]["command"].as_array().unwrap();
    let data = project("sql-examples/data");
    let arguments = command.iter().map(|word| {
        word.as_str()
            .unwrap()
            .replace("/data/", &format!("{}/", data.display()))
    });
    output(
        Command::new(env!("CARGO_BIN_EXE_hyperslab"))
            .args(arguments)
            .envs(environment.clone()),
    );
    // The server, by its own configuration.
    let config = std::fs::read_to_string(project("docker/server.toml")).unwrap();
    let config = config
        .replace("0.0.0.0:50051", "127.0.0.1:0")
        .replace("http://store:5000", &url);
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(folder.path(), &config, |command| {
        command.envs(environment).env("ANN_PASSWORD", "secret");
    });
    let endpoint = Endpoint::new(format!("http://{}", server.address)).unwrap();
    let mut client = FlightSqlServiceClient::new(endpoint.connect().await.unwrap());
    client.handshake("ann", "secret").await.unwrap();
    let sql = "SELECT count(*) FROM 'climate/tas.zarr'.tas".to_owned();
    let info = client.execute(sql, None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let rows: Vec<RecordBatch> = client
        .do_get(ticket)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let count = rows[0].column(0).as_primitive::<Int64Type>().value(0);
    assert_eq!(count, 1095 * 16 * 24);
}
