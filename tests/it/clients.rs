//! Clients of others against a server: the Python and Java drivers of the Arrow project, by what their users write.
//!
//! They are installed below `target/`; where that is not possible, a test says so.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::project;

/// `hyperslab serve` as a process.
struct Running {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(project("sql-examples/data/tas.nc"), data.join("tas.nc")).unwrap();
    let config = folder.path().join("server.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[roots.data]\nlocation = \"{}\"\nwritable = true\n\
         [[users]]\nname = \"ann\"\npassword = \"$PASSWORD\"\ntokens = [\"token\"]\nwrite = [\"data\"]\n",
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hyperslab"))
        .args(["serve", "-c"])
        .arg(&config)
        .env("PASSWORD", "secret")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first
        .strip_prefix("listening on grpc://")
        .unwrap()
        .to_owned();
    // What it says must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Running {
        child,
        address,
        _folder: folder,
    }
}

/// Runs a command that installs something; the error says why it could not.
fn install(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn answers(command: &mut Command) {
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && text.trim_end().ends_with("ok"),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn python_clients_are_answered() {
    let venv = project("target/clients");
    let complete = venv.join("complete");
    let installed = || {
        install(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        install(
            Command::new("timeout")
                .arg("300")
                .arg(venv.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(project("tests/clients/python/requirements.txt")),
        )?;
        std::fs::write(&complete, "").map_err(|error| error.to_string())
    };
    if !complete.is_file()
        && let Err(reason) = installed()
    {
        println!("the Python clients cannot be installed, and are not tested: {reason}");
        return;
    }
    let server = start();
    answers(
        Command::new(venv.join("bin/python"))
            .arg(project("tests/clients/python/clients.py"))
            .arg(format!("grpc://{}", server.address))
            .args(["ann", "secret", "token"]),
    );
}

#[test]
fn java_clients_are_answered() {
    let built = project("target/clients-java");
    let library = built.join("lib");
    let has_driver =
        |library: &Path| std::fs::read_dir(library).is_ok_and(|entries| entries.count() > 0);
    let mut build = Command::new("timeout");
    build
        .args(["300", "mvn", "-q", "-B", "package", "-f"])
        .arg(project("tests/clients/java/pom.xml"))
        .arg(format!("-Dbuilt={}", built.display()));
    if let Err(reason) = install(&mut build)
        && !has_driver(&library)
    {
        println!("the Java clients cannot be built, and are not tested: {reason}");
        return;
    }
    let server = start();
    let path = format!(
        "{}:{}/*",
        built.join("classes").display(),
        library.display()
    );
    answers(
        Command::new("java")
            .args([
                "--add-opens=java.base/java.nio=ALL-UNNAMED",
                "-cp",
                &path,
                "Jdbc",
            ])
            .arg(format!(
                "jdbc:arrow-flight-sql://{}/?useEncryption=false",
                server.address
            ))
            .args(["ann", "secret"]),
    );
}
