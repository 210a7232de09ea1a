//! Clients of others against a server: the Python and Java drivers of the Arrow project, by what their users write.
//!
//! They are installed below `target/`; where that is not possible, a test says so.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{certificate, project, venv};

/// `hyperslab serve` as a process.
struct Running {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Running {
    /// The certificate of the server, if it has one.
    fn certificate(&self) -> Option<String> {
        let path = self.folder.path().join("server.pem");
        path.is_file().then(|| path.to_str().unwrap().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One server that speaks plain text, and one that does not.
fn servers() -> Vec<Running> {
    let folder = || tempfile::tempdir().unwrap();
    let (plain, secret) = (folder(), folder());
    let tls = certificate(secret.path(), "server").map(|(certificate, key)| {
        format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
    });
    let mut servers = vec![start(plain, "")];
    match tls {
        Ok(tls) => servers.push(start(secret, &tls)),
        Err(reason) => println!("there is no certificate, and TLS is not tested: {reason}"),
    }
    servers
}

fn start(folder: tempfile::TempDir, tls: &str) -> Running {
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(project("sql-examples/data/tas.nc"), data.join("tas.nc")).unwrap();
    let config = folder.path().join("server.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\n{tls}[roots.data]\nlocation = \"{}\"\nwritable = true\n\
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
    let (_, address) = first.split_once("://").unwrap();
    let address = address.replace("127.0.0.1", "localhost");
    // What it says must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Running {
        child,
        address,
        folder,
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
    let venv = match venv("clients", "tests/clients/python/requirements.txt") {
        Ok(venv) => venv,
        Err(reason) => {
            println!("the Python clients cannot be installed, and are not tested: {reason}");
            return;
        }
    };
    for server in servers() {
        let certificate = server.certificate();
        let scheme = match &certificate {
            Some(_) => "grpc+tls",
            None => "grpc",
        };
        answers(
            Command::new(venv.join("bin/python"))
                .arg(project("tests/clients/python/clients.py"))
                .arg(format!("{scheme}://{}", server.address))
                .args(["ann", "secret", "token"])
                .args(certificate),
        );
    }
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
    let path = format!(
        "{}:{}/*",
        built.join("classes").display(),
        library.display()
    );
    for server in servers() {
        let options = match server.certificate() {
            Some(certificate) => {
                format!("useEncryption=true&useSystemTrustStore=false&tlsRootCerts={certificate}")
            }
            None => "useEncryption=false".to_owned(),
        };
        let url = format!("jdbc:arrow-flight-sql://{}/?{options}", server.address);
        answers(
            Command::new("java")
                .args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", &path])
                .args(["Jdbc", &url, "ann", "secret"]),
        );
    }
}
