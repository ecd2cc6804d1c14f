//! Answers of an AWS endpoint, recorded once and given again at once: what a function's start is measured against.
//!
//! The time of a start is the function's own only when the endpoint answers without delay; an emulator does not. So
//! each function runs once with its calls passed on to the emulator, and from then on the same calls get the same
//! answers out of memory. Compiled, with a thread a connection and no framework: an answer takes microseconds.
//!
//! In: the address of the endpoint as the argument. Out: the own port as the first line of standard output, and
//! `GET /-/play?TAPE[&record]`, which rewinds a tape (to record onto) and says as JSON what was done since the last
//! time: calls by name in the order they came, and the microseconds from having read each to having answered it.

use std::{
    collections::HashMap,
    env,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use regex::bytes::Regex;
use serde_json::{Value, json};

/// Headers that belong to a connection and not to what is said by it.
const LEFT_OUT: [&str; 5] = ["connection", "transfer-encoding", "content-length", "date", "server"];

/// Times and random ids, which differ from run to run.
const CHANGES: &str = r"\d{4}-\d\d-\d\dT[0-9:.]+Z|\b\d{10,}\b|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";

/// What steers this server, and is no call.
const PLAY: &str = "/-/play?";

type Headers = Vec<(String, String)>;

/// What came, or what is to go: its first line, headers in lower case, body.
struct Http {
    first: String,
    headers: Headers,
    body: Vec<u8>,
}

/// The answers to one function's calls, by what was asked, and by its kind alone.
#[derive(Default)]
struct Tape {
    exact: HashMap<(String, Vec<u8>), Answers>,
    alike: HashMap<String, Answers>,
}

/// Answers in the order in which they were given, and how many were given again.
#[derive(Default)]
struct Answers {
    kept: Vec<Arc<Vec<u8>>>,
    given: usize,
}

impl Answers {
    /// The next one; the last one again when there are no more.
    fn next(&mut self) -> Option<Arc<Vec<u8>>> {
        let answer = self.kept.get(self.given).or(self.kept.last()).cloned();
        self.given += 1;
        answer
    }
}

#[derive(Default)]
struct State {
    tapes: HashMap<String, Tape>,
    playing: String,
    recording: bool,
    calls: Vec<String>,
    micros: u128,
}

struct Server {
    upstream: String,
    changes: Regex,
    state: Mutex<State>,
}

fn main() -> Result<()> {
    let upstream = env::args().nth(1).context("usage: replay http://HOST:PORT")?;
    let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    let server = Arc::new(Server { upstream, changes: Regex::new(CHANGES)?, state: Mutex::default() });
    for stream in listener.incoming() {
        let (server, stream) = (Arc::clone(&server), stream?);
        thread::spawn(move || {
            if let Err(e) = server.serve(&stream) {
                eprintln!("replay: {e:#}");
            }
        });
    }
    Ok(())
}

impl Server {
    /// Answers one request after another until the function hangs up.
    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(1 << 16, stream);
        while let Some(request) = read(&mut reader)? {
            let begun = Instant::now();
            let answer = self.answer(&request)?;
            let sent = (&*stream).write_all(&answer);
            if !request.first.contains(PLAY) {
                self.state().micros += begun.elapsed().as_micros();
            }
            // A function that was ended reads no answer.
            if sent.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Http) -> Result<Arc<Vec<u8>>> {
        let mut words = request.first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some(asked) = target.strip_prefix(PLAY) {
            return Ok(Arc::new(self.play(asked)));
        }
        let name = name(method, target, &request.headers);
        let mut state = self.state();
        state.calls.push(name.clone());
        let playing = state.playing.clone();
        if state.recording {
            drop(state);
            let answer = Arc::new(self.pass_on(method, request)?);
            let asked = (name.clone(), self.lasting(&request.body));
            let mut state = self.state();
            let tape = state.tapes.entry(playing).or_default();
            tape.exact.entry(asked).or_default().kept.push(Arc::clone(&answer));
            tape.alike.entry(name).or_default().kept.push(Arc::clone(&answer));
            return Ok(answer);
        }
        let unknown = || Arc::new(message("599", &[], format!("{name} was not recorded").as_bytes(), true));
        let Some(tape) = state.tapes.get_mut(&playing) else { return Ok(unknown()) };
        let Some(alike) = tape.alike.get_mut(&name) else { return Ok(unknown()) };
        // What is not asked in the same words (names in expressions are numbered anew each time) is known by its turn.
        let in_turn = alike.next();
        // Only calls of one kind need to be told apart.
        let exact = match alike.kept.len() {
            0 | 1 => None,
            _ => tape.exact.get_mut(&(name.clone(), self.lasting(&request.body))).and_then(Answers::next),
        };
        Ok(exact.or(in_turn).unwrap_or_else(unknown))
    }

    /// Rewinds a tape, and says what was done since the last time.
    fn play(&self, asked: &str) -> Vec<u8> {
        let (tape, recording) = asked.split_once("&record").map_or((asked, false), |(tape, _)| (tape, true));
        let mut state = self.state();
        let done = json!({ "calls": state.calls, "micros": state.micros });
        tape.clone_into(&mut state.playing);
        state.recording = recording;
        state.calls.clear();
        state.micros = 0;
        if let Some(tape) = state.tapes.get_mut(tape) {
            tape.exact.values_mut().chain(tape.alike.values_mut()).for_each(|answers| answers.given = 0);
        }
        message("200", &[], done.to_string().as_bytes(), true)
    }

    /// Has the endpoint answer.
    fn pass_on(&self, method: &str, request: &Http) -> Result<Vec<u8>> {
        let kept = |headers: &Headers| -> Headers {
            headers.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())).cloned().collect()
        };
        let mut upstream = TcpStream::connect(&self.upstream).context("connecting to the endpoint")?;
        let mut headers = kept(&request.headers);
        headers.push(("connection".to_owned(), "close".to_owned()));
        let sent = head(request.first.clone(), &headers, request.body.len());
        upstream.write_all(&[sent.as_slice(), &request.body].concat())?;
        let mut reader = BufReader::new(upstream);
        let mut got = read_head(&mut reader)?.context("the endpoint hung up")?;
        let status = got.first.split(' ').nth(1).unwrap_or("502").to_owned();
        let empty = method == "HEAD" || status == "204" || status == "304";
        if !empty
            && header(&got.headers, "transfer-encoding").is_none()
            && header(&got.headers, "content-length").is_none()
        {
            reader.read_to_end(&mut got.body)?;
        } else if !empty {
            read_body(&mut reader, &mut got)?;
        }
        Ok(message(&status, &kept(&got.headers), &got.body, method != "HEAD"))
    }

    /// A body without what differs from run to run. Maps, and keys that are asked for at
    /// once, come in another order each time.
    fn lasting(&self, body: &[u8]) -> Vec<u8> {
        let mut text = String::new();
        let body = match serde_json::from_slice::<Value>(body) {
            Ok(value) => {
                write_sorted(&value, &mut text);
                text.as_bytes()
            }
            Err(_) => body,
        };
        self.changes.replace_all(body, b"?".as_slice()).into_owned()
    }
}

fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            for (name, value) in members {
                out.push_str(name);
                out.push(':');
                write_sorted(value, out);
            }
        }
        Value::Array(values) => {
            let mut texts = vec![String::new(); values.len()];
            values.iter().zip(&mut texts).for_each(|(value, text)| write_sorted(value, text));
            texts.sort_unstable();
            out.push_str(&texts.concat());
        }
        other => _ = write!(out, "{other},"),
    }
}

/// What a call is, without the names that differ from run to run: the operation, or the first part of the path and
/// the query's keys.
fn name(method: &str, target: &str, headers: &Headers) -> String {
    if let Some(operation) = header(headers, "x-amz-target") {
        return operation.to_owned();
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut keys: Vec<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()).collect();
    keys.sort_unstable();
    let path = path.trim_matches('/');
    let (first, depth) = path.split_once('/').map_or((path, "at"), |(first, _)| (first, "below"));
    format!("{method} {depth} {first} {}", keys.join(","))
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn head(first: String, headers: &[(String, String)], length: usize) -> Vec<u8> {
    let mut text = first;
    for (name, value) in headers {
        _ = write!(text, "\r\n{name}: {value}");
    }
    _ = write!(text, "\r\ncontent-length: {length}\r\n\r\n");
    text.into_bytes()
}

/// A whole answer, as it goes over the wire.
fn message(status: &str, headers: &[(String, String)], body: &[u8], with_body: bool) -> Vec<u8> {
    let head = head(format!("HTTP/1.1 {status} -"), headers, body.len());
    [head.as_slice(), if with_body { body } else { &[] }].concat()
}

/// The next request; `None` when the function hung up.
fn read(reader: &mut impl BufRead) -> Result<Option<Http>> {
    let Some(mut request) = read_head(reader)? else { return Ok(None) };
    read_body(reader, &mut request)?;
    Ok(Some(request))
}

fn line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(line.trim_end().to_owned())),
        // A process that is killed resets its connections.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn read_head(reader: &mut impl BufRead) -> Result<Option<Http>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let mut headers = Vec::new();
    while let Some(line) = line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Http { first, headers, body: Vec::new() }))
}

fn read_body(reader: &mut impl BufRead, http: &mut Http) -> Result<()> {
    if header(&http.headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(reader)?.context("a body ends early")?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)?;
            let begin = http.body.len();
            http.body.resize(begin + size, 0);
            reader.read_exact(&mut http.body[begin..])?;
            ensure!(line(reader)?.is_some_and(|end| end.is_empty()), "a chunk is longer than it said");
            if size == 0 {
                return Ok(());
            }
        }
    }
    let length = header(&http.headers, "content-length").map_or(Ok(0), str::parse)?;
    http.body.resize(length, 0);
    Ok(reader.read_exact(&mut http.body)?)
}
