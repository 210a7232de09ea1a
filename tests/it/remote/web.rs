//! A web server for files of a folder, which answers as late, and as wrongly, as a test wants.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// An answer with another status.
    Status(u16),
    /// The connection ends in the middle of the body.
    Cut,
    /// Half of the body, and then nothing.
    Stall,
    /// A range that was not asked for.
    WrongRange,
    /// The whole object instead of a range.
    NoRange,
    /// The way to another place.
    Redirect(String),
    /// Another state of the object.
    Replaced,
}

/// A request that has been answered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// Bytes of the body.
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    /// What goes wrong, beginning with which request of a body, and how often.
    fault: Mutex<Option<(Fault, usize, usize)>>,
    injected: AtomicUsize,
    latency: Mutex<Duration>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    stops: AtomicBool,
    /// What replaces the tag of a file.
    tags: Mutex<HashMap<String, String>>,
}

/// The server, which ends with this value.
pub struct Web {
    pub port: u16,
    state: Arc<State>,
}

impl Web {
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (folder, shared) = (folder.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stops.load(Ordering::Relaxed) {
                    break;
                }
                let (folder, shared) = (folder.clone(), Arc::clone(&shared));
                // Who goes away in between is no fault of the server.
                thread::spawn(move || drop(serve(stream.unwrap(), &folder, &shared)));
            }
        });
        Self { port, state }
    }

    /// The URL of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Lets each answer come so much later.
    pub fn set_latency(&self, latency: Duration) {
        *self.state.latency.lock().unwrap() = latency;
    }

    /// Lets something go wrong with `times` answers with a body, behind the first `behind`.
    pub fn inject(&self, fault: Fault, behind: usize, times: usize) {
        self.state.injected.store(0, Ordering::Relaxed);
        *self.state.fault.lock().unwrap() = Some((fault, behind, times));
    }

    /// Lets nothing go wrong any more; says how often it did.
    pub fn heal(&self) -> usize {
        *self.state.fault.lock().unwrap() = None;
        self.state.tags.lock().unwrap().clear();
        self.state.injected.swap(0, Ordering::Relaxed)
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }

    /// Most requests that were under way at the same time since the last call.
    pub fn most(&self) -> usize {
        self.state.most.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.stops.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, folder: &Path, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let under_way = state.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        state.most.fetch_max(under_way, Ordering::Relaxed);
        let latency = *state.latency.lock().unwrap();
        thread::sleep(latency);
        let goes_on = answer(&mut stream, &method, &target, &headers, folder, state);
        state.under_way.fetch_sub(1, Ordering::Relaxed);
        if !goes_on? {
            return Ok(());
        }
    }
}

/// The fault of the next answer with a body.
fn fault(state: &State) -> Option<Fault> {
    let mut planned = state.fault.lock().unwrap();
    let (fault, behind, times) = planned.as_mut()?;
    if *behind > 0 {
        *behind -= 1;
        return None;
    }
    if *times == 0 {
        return None;
    }
    *times -= 1;
    state.injected.fetch_add(1, Ordering::Relaxed);
    Some(fault.clone())
}

/// Answers a request; whether others may follow on the connection.
fn answer(
    stream: &mut TcpStream,
    method: &str,
    target: &str,
    headers: &HashMap<String, String>,
    folder: &Path,
    state: &State,
) -> std::io::Result<bool> {
    let path = target.split('?').next().unwrap_or_default();
    let file: PathBuf = folder.join(path.trim_start_matches('/'));
    let mut say = |status: u16, head: &str, body: &[u8], sent: usize| {
        state.asked.lock().unwrap().push(Asked {
            path: path.to_owned(),
            bytes: if method == "HEAD" { 0 } else { sent },
        });
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} status\r\nContent-Length: {length}\r\n{head}\r\n"
        )?;
        if method != "HEAD" {
            stream.write_all(&body[..sent])?;
        }
        stream.flush()
    };
    if !file.is_file() {
        say(404, "", b"", 0)?;
        return Ok(true);
    }
    let mut opened = File::open(&file)?;
    let found = opened.metadata()?;
    let size = found.len();
    let range = headers.get("range").and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        let start: u64 = start.parse().ok()?;
        let last = size.saturating_sub(1);
        let end = end.parse().map_or(last, |end: u64| end.min(last));
        Some((start, end))
    });
    let injected = match method {
        "GET" => fault(state),
        _ => None,
    };
    if injected == Some(Fault::Replaced) {
        let other = "\"another\"".to_owned();
        state.tags.lock().unwrap().insert(path.to_owned(), other);
    }
    let own = format!("\"{size:x}-{:x}\"", found.mtime_nsec() ^ found.ino() as i64);
    let tags = state.tags.lock().unwrap();
    let tag = tags.get(path).cloned().unwrap_or(own);
    drop(tags);
    let about = format!(
        "ETag: {tag}\r\nLast-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\nAccept-Ranges: bytes\r\n"
    );
    match &injected {
        Some(Fault::Status(status)) => {
            say(*status, "", b"", 0)?;
            return Ok(true);
        }
        Some(Fault::Redirect(to)) => {
            say(302, &format!("Location: {to}\r\n"), b"", 0)?;
            return Ok(true);
        }
        _ => {}
    }
    if headers.get("if-match").is_some_and(|wanted| *wanted != tag) {
        say(412, &about, b"", 0)?;
        return Ok(true);
    }
    if headers
        .get("if-none-match")
        .is_some_and(|known| *known == tag)
    {
        say(304, &about, b"", 0)?;
        return Ok(true);
    }
    let (status, head, start, length) = match range {
        Some((start, _)) if start >= size => (
            416,
            format!("{about}Content-Range: bytes */{size}\r\n"),
            0,
            0,
        ),
        Some((start, end)) if injected != Some(Fault::NoRange) => {
            let shift = u64::from(injected == Some(Fault::WrongRange));
            let shown = format!("bytes {}-{}/{size}", start + shift, end + shift);
            (
                206,
                format!("{about}Content-Range: {shown}\r\n"),
                start,
                end - start + 1,
            )
        }
        _ => (200, about, 0, size),
    };
    let mut body = vec![0; usize::try_from(length).unwrap()];
    opened.seek(SeekFrom::Start(start))?;
    opened.read_exact(&mut body)?;
    let body = body.as_slice();
    match injected {
        Some(Fault::Cut) => {
            say(status, &head, body, body.len() / 2)?;
            Ok(false)
        }
        Some(Fault::Stall) => {
            say(status, &head, body, body.len() / 2)?;
            thread::sleep(Duration::from_secs(60));
            Ok(false)
        }
        _ => {
            say(status, &head, body, body.len())?;
            Ok(true)
        }
    }
}
