//! `hyperslab serve` as a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server, until this is dropped.
pub struct Serving {
    child: Child,
    /// Host and port.
    pub address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Starts a server of a configuration, which is written to `folder`; `more` may add to the command.
    pub fn start(folder: &Path, config: &str, more: impl FnOnce(&mut Command)) -> Self {
        let path = folder.join("server.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hyperslab"));
        command.args(["serve", "-c"]).arg(path);
        more(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let (_, address) = line.trim().split_once("://").unwrap();
        let address = address.to_owned();
        // What it says must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, address }
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}
