//! Reductions over HTTP: by NumPy's answers, by PyActiveStorage, and with requests that are wrong.
//!
//! The scripts compare; they run where Python and their packages can be installed, and moto for the objects.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::common::{project, venv};
use crate::moto;
use crate::serving::Serving;

/// A server that reads below these URLs, the first of its configuration and the others of its command line.
fn start(folder: &Path, stores: &[String]) -> Serving {
    let (first, others) = stores.split_first().unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[reducer]\nstores = [\"{first}\"]\nmemory_mib = 64\nconnections = 8\n"
    );
    Serving::start(folder, &text, |command| {
        for store in others {
            command.args(["--reducer", store]);
        }
        // Those of the server must not be used for who has none.
        command.env("AWS_ACCESS_KEY_ID", "server");
        command.env("AWS_SECRET_ACCESS_KEY", "server");
    })
}

/// Runs a script of the clients with an environment of its own; it gets the server, the emulator, and a free port.
fn run(test: &str, environment: &str, requirements: &str, script: &str) {
    let Some(store) = moto::Server::get(test) else {
        return;
    };
    let folder = project("tests/clients/python");
    let requirements = folder.join(requirements);
    let made = {
        // Tests share environments.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock();
        venv(environment, requirements.to_str().unwrap())
    };
    let venv = match made {
        Ok(venv) => venv,
        Err(reason) => {
            println!("skipped: {test}: its packages cannot be installed: {reason}");
            return;
        }
    };
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = held.local_addr().unwrap().port();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let own = tempfile::tempdir().unwrap();
    let stores = [
        url(free),
        format!("{}/bucket", url(store.port)),
        // Both names of it are asked for.
        format!("http://localhost:{}/bucket/", store.port),
    ];
    let server = start(own.path(), &stores);
    // Not before the server has one of its own.
    drop(held);
    let out = Command::new(venv.join("bin/python"))
        .arg(folder.join(script))
        .arg(format!("http://{}", server.address))
        .args([&url(store.port), &free.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && text.trim_end().ends_with("ok"),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    println!("{text}");
}

#[test]
fn every_reduction_is_that_of_numpy() {
    let name = "every_reduction_is_that_of_numpy";
    run(name, "reducer", "reducer.txt", "reducer.py");
}

#[test]
fn what_is_wrong_is_refused_and_the_server_answers_on() {
    let name = "what_is_wrong_is_refused_and_the_server_answers_on";
    run(name, "reducer", "reducer.txt", "reducer_refuses.py");
}

#[test]
fn pyactivestorage_of_version_2_gets_what_netcdf4_reads() {
    let name = "pyactivestorage_of_version_2_gets_what_netcdf4_reads";
    run(name, "reducer", "reducer.txt", "active_storage.py");
}

#[test]
fn pyactivestorage_of_version_1_gets_what_netcdf4_reads() {
    let name = "pyactivestorage_of_version_1_gets_what_netcdf4_reads";
    run(name, "reducer-v1", "reducer-v1.txt", "active_storage.py");
}
