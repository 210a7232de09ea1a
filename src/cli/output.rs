//! Where results go: standard output, or a file that appears when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output {
    /// The file, or standard output.
    path: Option<PathBuf>,
    /// Whether the file holds a result already.
    is_taken: bool,
    /// Whether nobody reads what is written any more.
    closed: Arc<AtomicBool>,
}

impl Output {
    /// A file, or standard output.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            is_taken: false,
            closed: Arc::default(),
        }
    }

    /// Whether results are kept in a file.
    pub(crate) fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard output".to_owned(),
        }
    }

    /// Whether the reader of the output has gone away, as `head` does: no reason to complain, but to stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// A place for the bytes of one result.
    ///
    /// # Errors
    /// When the file cannot be created, or holds the result of another statement.
    pub(crate) fn begin(&self) -> std::io::Result<Sink> {
        if self.is_taken {
            return Err(std::io::Error::other(
                "it holds the result of an earlier statement, and a file takes one result",
            ));
        }
        let (bytes, pending) = match &self.path {
            None => (Bytes::Stdout(std::io::stdout()), None),
            Some(path) => {
                let (file, pending) = create(path)?;
                (Bytes::File(file), pending)
            }
        };
        let bytes = Watched {
            bytes,
            closed: Arc::clone(&self.closed),
        };
        Ok(Sink {
            bytes: BufWriter::with_capacity(1 << 16, bytes),
            pending,
        })
    }

    /// Makes a complete result visible.
    ///
    /// # Errors
    /// When the last bytes cannot be written, or the file cannot get its name.
    pub(crate) fn complete(&mut self, mut sink: Sink) -> std::io::Result<()> {
        sink.flush()?;
        if let Some(pending) = sink.pending.take() {
            pending.publish()?;
        }
        self.is_taken = self.is_file();
        Ok(())
    }
}

/// Takes the bytes of one result. If it is dropped before [`Output::complete`], a file leaves no trace.
#[derive(Debug)]
pub(crate) struct Sink {
    bytes: BufWriter<Watched>,
    pending: Option<Pending>,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.bytes.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.bytes.flush()
    }
}

/// Bytes on their way out; remembers that a pipe was closed, which the writers of formats do not hand on.
#[derive(Debug)]
struct Watched {
    bytes: Bytes,
    closed: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Bytes {
    Stdout(Stdout),
    File(File),
}

impl Watched {
    fn watch<T>(&self, result: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::BrokenPipe
        {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Watched {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = match &mut self.bytes {
            Bytes::Stdout(stdout) => stdout.write(buffer),
            Bytes::File(file) => file.write(buffer),
        };
        self.watch(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = match &mut self.bytes {
            Bytes::Stdout(stdout) => stdout.flush(),
            Bytes::File(file) => file.flush(),
        };
        self.watch(flushed)
    }
}

/// A file that is being written under another name.
#[derive(Debug)]
struct Pending {
    temporary: PathBuf,
    path: PathBuf,
}

impl Pending {
    fn publish(self) -> std::io::Result<()> {
        std::fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After `publish` there is nothing left to remove.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Creates a file beside `path` that takes its place later. What is not a regular file (a device, a pipe) is written
/// to as it is.
fn create(path: &Path) -> std::io::Result<(File, Option<Pending>)> {
    // A link stays a link: what it points at is replaced.
    let path = match std::fs::canonicalize(path) {
        Ok(target) if !target.is_file() => {
            return Ok((OpenOptions::new().write(true).open(target)?, None));
        }
        Ok(target) => target,
        Err(_) => path.to_owned(),
    };
    let name = path
        .file_name()
        .ok_or_else(|| std::io::Error::new(ErrorKind::InvalidInput, "it does not name a file"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let file = File::create(&temporary)?;
    Ok((file, Some(Pending { temporary, path })))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let names = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut output = Output::new(Some(path.clone()));

        let mut sink = output.begin().unwrap();
        sink.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(sink);
        assert_eq!(names(), 0);

        let mut sink = output.begin().unwrap();
        sink.write_all(b"whole").unwrap();
        output.complete(sink).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(), 1);
        assert!(output.begin().is_err());
    }
}
