//! A proxy before an object store, which does to some requests what networks and stores do now and then.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is done to a `PUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store does what it says, but the answer is lost.
    CutResponse,
    /// Half of it arrives.
    CutRequest,
    /// The store refuses, with this status and code.
    Status(u16, &'static str),
    /// Another program replaces a text in the object, or puts the same once more, just before.
    Foreign(&'static str, &'static str),
    /// From here on no request arrives.
    Dead,
    /// The store does what it says, and from there on nothing is answered.
    AppliedThenDead,
    /// It does not arrive, and is not answered.
    Hang,
    /// It arrives when it is released.
    Hold,
}

/// A proxy, which does one fault to `PUT`s of one object.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    upstream: u16,
    path: String,
    fault: Fault,
    times: u32,
    injected: AtomicU32,
    released: AtomicBool,
    dead: AtomicBool,
}

impl Proxy {
    /// Does `fault` to the first `times` requests that put the object at `path`.
    pub fn start(upstream: u16, path: &str, fault: Fault, times: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            upstream,
            path: path.to_owned(),
            fault,
            times,
            injected: AtomicU32::new(0),
            released: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        // It ends with the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that breaks is what this is for.
                thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { port, state }
    }

    /// How often the fault has happened.
    pub fn injected(&self) -> u32 {
        self.state
            .injected
            .load(Ordering::SeqCst)
            .min(self.state.times)
    }

    /// Waits until the fault happens.
    pub fn wait(&self) {
        let began = Instant::now();
        while self.injected() == 0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the fault does not happen"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a request go on that is held.
    pub fn release(&self) {
        self.state.released.store(true, Ordering::SeqCst);
    }
}

/// A request or an answer.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut client = stream;
    while let Some(request) = message(&mut reader, true)? {
        let line = String::from_utf8_lossy(&request.head)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let is_meant = line.starts_with("PUT ") && line.split(' ').nth(1) == Some(&state.path);
        if state.dead.load(Ordering::SeqCst) {
            return stream.shutdown(Shutdown::Both);
        }
        if is_meant && state.injected.fetch_add(1, Ordering::SeqCst) < state.times {
            match state.fault {
                Fault::CutResponse => {
                    forward(state, &request, &line)?;
                    return stream.shutdown(Shutdown::Both);
                }
                Fault::CutRequest => {
                    let mut upstream = TcpStream::connect(("127.0.0.1", state.upstream))?;
                    upstream.write_all(&request.head)?;
                    upstream.write_all(&request.body[..request.body.len() / 2])?;
                    upstream.shutdown(Shutdown::Both)?;
                    return stream.shutdown(Shutdown::Both);
                }
                Fault::Status(status, code) => {
                    let body = format!("<Error><Code>{code}</Code></Error>");
                    let length = body.len();
                    write!(
                        client,
                        "HTTP/1.1 {status} {code}\r\nContent-Length: {length}\r\n\r\n{body}"
                    )?;
                    continue;
                }
                Fault::Foreign(from, to) => foreign(state, from, to)?,
                Fault::Dead => {
                    state.dead.store(true, Ordering::SeqCst);
                    return stream.shutdown(Shutdown::Both);
                }
                Fault::AppliedThenDead => {
                    forward(state, &request, &line)?;
                    state.dead.store(true, Ordering::SeqCst);
                    return stream.shutdown(Shutdown::Both);
                }
                Fault::Hang => thread::sleep(Duration::from_secs(600)),
                Fault::Hold => {
                    while !state.released.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            }
        }
        let answer = forward(state, &request, &line)?;
        client.write_all(&answer.head)?;
        client.write_all(&answer.body)?;
    }
    Ok(())
}

/// Sends a request on, and returns the answer.
fn forward(state: &State, request: &Message, line: &str) -> std::io::Result<Message> {
    let mut upstream = TcpStream::connect(("127.0.0.1", state.upstream))?;
    upstream.write_all(&request.head)?;
    upstream.write_all(&request.body)?;
    let answer = message(&mut BufReader::new(&upstream), !line.starts_with("HEAD "))?;
    answer.ok_or_else(|| std::io::Error::other("no answer"))
}

/// Replaces a text in the object, which is another one in any case.
fn foreign(state: &State, from: &str, to: &str) -> std::io::Result<()> {
    // The emulator looks who asks, but not at the signature.
    let key = "Authorization: AWS4-HMAC-SHA256 Credential=test/20000101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let host = format!("Host: 127.0.0.1:{}\r\n{key}", state.upstream);
    let get = Message {
        head: format!("GET {} HTTP/1.1\r\n{host}\r\n\r\n", state.path).into_bytes(),
        body: Vec::new(),
    };
    let body = forward(state, &get, "GET ")?.body;
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains(from), "no {from} in {text}");
    let body = (text.replacen(from, to, 1) + "\n").into_bytes();
    let length = body.len();
    let put = Message {
        head: format!(
            "PUT {} HTTP/1.1\r\n{host}\r\nContent-Length: {length}\r\n\r\n",
            state.path
        )
        .into_bytes(),
        body,
    };
    let answer = forward(state, &put, "PUT ")?;
    assert!(
        answer.head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer.head)
    );
    Ok(())
}

/// The next message of a connection; `None` when there is none.
fn message(reader: &mut impl BufRead, has_body: bool) -> std::io::Result<Option<Message>> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        head.extend_from_slice(&line);
        if line == b"\r\n" {
            break;
        }
    }
    let mut body = vec![0; if has_body { length } else { 0 }];
    reader.read_exact(&mut body)?;
    Ok(Some(Message { head, body }))
}
