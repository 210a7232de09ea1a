//! An emulator of S3 for the tests, installed below `target/` or named by a variable.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::venv;

/// The emulator, which ends when the tests do.
pub struct Server {
    pub port: u16,
    /// Its end is the end of the server.
    _child: Child,
}

impl Server {
    /// The emulator, which all tests share; `None`, with a word why, when there is none.
    pub fn get(test: &str) -> Option<&'static Self> {
        static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
        match SERVER.get_or_init(Self::start) {
            Ok(server) => Some(server),
            Err(reason) => {
                println!("skipped: {test}: {reason}");
                None
            }
        }
    }

    fn start() -> Result<Self, String> {
        let program = program()?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .map_err(|e| e.to_string())?
            .port();
        let command = format!(
            "{} -H 127.0.0.1 -p {port} & trap \"kill $!\" EXIT; read end",
            program.display()
        );
        let child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let began = Instant::now();
        while put(port, "/bucket", b"").is_err() {
            if began.elapsed() > Duration::from_secs(60) {
                return Err("moto does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Self {
            port,
            _child: child,
        })
    }
}

/// The program of the emulator: one that a variable names, or that is made below `target`.
fn program() -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os("MOTO_SERVER") {
        return Ok(program.into());
    }
    let venv = venv("moto", "tests/faults/requirements.txt")
        .map_err(|reason| format!("moto cannot be installed: {reason}"))?;
    Ok(venv.join("bin/moto_server"))
}

/// Puts an object by a plain request, which the emulator takes without a signature.
pub fn put(port: u16, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = bytes.len();
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(bytes)?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    reader.read_to_end(&mut Vec::new())?;
    if status.contains(" 200 ") {
        Ok(())
    } else {
        Err(std::io::Error::other(status))
    }
}
