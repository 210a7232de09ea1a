//! Clients of others against a server: the Python and Java drivers of the Arrow project, by what their users write.
//!
//! They are installed below `target/`; where that is not possible, a test says so.

use std::path::Path;
use std::process::Command;

use crate::common::{certificate, output, project, venv};
use crate::serving::Serving;

/// A server of the sample.
struct Running {
    address: String,
    folder: tempfile::TempDir,
    _server: Serving,
}

impl Running {
    /// The certificate of the server, if it has one.
    fn certificate(&self) -> Option<String> {
        let path = self.folder.path().join("server.pem");
        path.is_file().then(|| path.to_str().unwrap().to_owned())
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
    let text = format!(
        "listen = \"127.0.0.1:0\"\n{tls}[roots.data]\nlocation = \"{}\"\nwritable = true\n\
         [[users]]\nname = \"ann\"\npassword = \"$PASSWORD\"\ntokens = [\"token\"]\nwrite = [\"data\"]\n",
        data.display()
    );
    let server = Serving::start(folder.path(), &text, |command| {
        command.env("PASSWORD", "secret");
    });
    Running {
        address: server.address.replace("127.0.0.1", "localhost"),
        folder,
        _server: server,
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
    let text = output(command);
    assert!(text.trim_end().ends_with("ok"), "{text}");
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
