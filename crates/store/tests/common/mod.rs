//! Small HTTP servers on loopback that misbehave as they are told.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use smolt_store::{Address, Environment, Settings, Store};

/// Patience for tests: waits of milliseconds, but timeouts that a busy machine does not run into.
pub fn hasty() -> Settings {
    Settings {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        connect_timeout: Duration::from_secs(20),
        read_timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

/// The same for servers that stall; long enough that no other answer is as late.
pub fn impatient() -> Settings {
    Settings { read_timeout: Duration::from_secs(1), ..hasty() }
}

pub fn store(settings: Settings, environment: &[(&str, &str)]) -> Store {
    Store::new(settings, Environment::from_pairs(environment.iter().copied()))
}

pub fn address(text: impl AsRef<str>) -> Address {
    text.as_ref().parse().unwrap()
}

pub fn read(store: &Store, text: impl AsRef<str>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = store.open(&address(text)).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Bytes without a period that a mistake of offset could hide in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .collect()
}

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Percent-decoded, without the query.
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

pub enum Body {
    Whole(Vec<u8>),
    /// Declares the length, sends less, closes.
    Cut(usize, Vec<u8>),
    /// Declares the length, sends less, waits for ever.
    Stall(usize, Vec<u8>),
    /// Chunks without end.
    Endless,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Serves until the process ends.
pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&log));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                thread::spawn(move || {
                    if let Some(request) = receive(&connection) {
                        seen.lock().unwrap().push(request.clone());
                        // The client may have gone away; that is its right.
                        let _ = reply(&connection, &request, answer(&request));
                    }
                });
            }
        });
        Self { url, log }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// `METHOD path` of each request so far.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn receive(connection: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if headers.contains_key("expect") {
        (&*connection).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    Some(Request { method, path: decode(path), query, headers, body })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => (bytes, rest) = ([bytes, vec![byte]].concat(), &tail[2..]),
            None => (bytes, rest) = ([bytes, vec![first]].concat(), tail),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn reply(mut out: &TcpStream, request: &Request, reply: Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let (declared, sent) = match &reply.body {
        Body::Whole(bytes) => (Some(bytes.len()), bytes.as_slice()),
        Body::Cut(declared, bytes) | Body::Stall(declared, bytes) => (Some(*declared), bytes.as_slice()),
        Body::Endless => (None, &[][..]),
    };
    match declared {
        Some(length) if reply.status != 204 => head += &format!("Content-Length: {length}\r\n"),
        Some(_) => {}
        None => head += "Transfer-Encoding: chunked\r\n",
    }
    out.write_all(head.as_bytes())?;
    out.write_all(b"\r\n")?;
    if request.method == "HEAD" {
        return Ok(());
    }
    out.write_all(sent)?;
    match reply.body {
        Body::Stall(..) => {
            // Until the client closes.
            out.set_read_timeout(Some(Duration::from_secs(60)))?;
            let _ = out.read(&mut [0]);
        }
        Body::Endless => loop {
            out.write_all(b"10000\r\n")?;
            out.write_all(&[b'x'; 0x10000])?;
            out.write_all(b"\r\n")?;
        },
        _ => {}
    }
    Ok(())
}

/// A file as a good server keeps it.
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Vec<u8>,
    /// With its quotes; empty for none.
    pub etag: String,
}

impl Object {
    pub fn new(bytes: impl Into<Vec<u8>>, etag: &str) -> Self {
        Self { bytes: bytes.into(), etag: format!("\"{etag}\"") }
    }

    /// The answer to `GET` or `HEAD`, with ranges and conditions.
    pub fn answer(&self, request: &Request) -> Reply {
        let tagged = |reply: Reply| match self.etag.as_str() {
            "" => reply,
            etag => reply.with("ETag", etag).with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        };
        if request.header("if-match").is_some_and(|wanted| wanted != self.etag) {
            return Reply::new(412, "");
        }
        let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
            return tagged(Reply::new(200, self.bytes.clone()));
        };
        let (first, last) = range.split_once('-').unwrap();
        let (first, total) = (first.parse::<usize>().unwrap(), self.bytes.len());
        let end = last.parse::<usize>().map_or(total, |last| total.min(last + 1));
        if first >= end {
            return Reply::new(416, "").with("Content-Range", format!("bytes */{total}"));
        }
        let named = format!("bytes {first}-{}/{total}", end - 1);
        tagged(Reply::new(206, &self.bytes[first..end])).with("Content-Range", named)
    }
}

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    Status(u16),
    StatusWith(u16, &'static str, &'static str),
    /// After so many bytes of the body.
    Cut(usize),
    Stall(usize),
}

/// Faults planted for the next answers, in order.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    pub fn plant(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap().extend(faults);
    }

    pub fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn spoil(&self, good: Reply) -> Reply {
        let fault = self.0.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let Reply { status, headers, body: Body::Whole(bytes) } = good else { return good };
        let keep = |count: usize| bytes[..count.min(bytes.len())].to_vec();
        let body = match fault {
            Fault::Status(status) => return Reply::new(status, "sorry"),
            Fault::StatusWith(status, name, value) => return Reply::new(status, "sorry").with(name, value),
            Fault::Cut(count) => Body::Cut(bytes.len(), keep(count)),
            Fault::Stall(count) => Body::Stall(bytes.len(), keep(count)),
            Fault::None => Body::Whole(bytes),
        };
        Reply { status, headers, body }
    }
}
