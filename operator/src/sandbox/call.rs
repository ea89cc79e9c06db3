//! Makes calls over the wire and counts the answers: the client that runs in the network of a caller.
//!
//! Each call has a connection of its own. Knows the answers of `echo`; decides nothing about them.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Time limit of a single call.
const CALL: Duration = Duration::from_secs(10);
/// Time limit of all calls.
const ALL: Duration = Duration::from_mins(2);
/// Maximum length of an answer.
const ANSWER: u64 = 64 << 10;

/// Protocol of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A request of HTTP/1.1.
    Http,
    /// A line of text.
    Tcp,
}

/// Calls to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Address that is called.
    pub address: IpAddr,
    /// Port that is called.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Host of the request.
    pub host: String,
    /// Method of the request.
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Number of calls.
    pub count: u32,
}

/// Outcome of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of answers by the workload that answered.
    pub answers: BTreeMap<String, u32>,
    /// Number of calls that no workload answered, by what came instead.
    pub refusals: BTreeMap<String, u32>,
}

/// Makes the calls, one after the other.
pub fn call(calls: &Calls) -> Outcome {
    let mut outcome = Outcome::default();
    let end = Instant::now() + ALL;
    for _ in 0..calls.count {
        if Instant::now() > end {
            *outcome.refusals.entry("out of time".to_owned()).or_default() += 1;
            continue;
        }
        let (list, key) = match once(calls) {
            Ok(Answer::Workload(name)) => (&mut outcome.answers, name),
            Ok(Answer::Refusal(words)) => (&mut outcome.refusals, words),
            Err(error) => (&mut outcome.refusals, words(&error)),
        };
        *list.entry(key).or_default() += 1;
    }
    outcome
}

enum Answer {
    Workload(String),
    Refusal(String),
}

fn once(calls: &Calls) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(calls.address, calls.port), CALL)?;
    stream.set_read_timeout(Some(CALL))?;
    stream.set_write_timeout(Some(CALL))?;
    match calls.protocol {
        Protocol::Tcp => {
            stream.write_all(b"smidge\n")?;
            let mut text = Vec::new();
            let mut byte = [0];
            while text.len() < 512 && stream.read(&mut byte)? == 1 && byte != *b"\n" {
                text.extend(byte);
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            Ok(if text.is_empty() { Answer::Refusal("closed".to_owned()) } else { Answer::Workload(text) })
        }
        Protocol::Http => {
            stream.write_all(request(calls).as_bytes())?;
            let mut text = Vec::new();
            stream.take(ANSWER).read_to_end(&mut text)?;
            Ok(answer(&String::from_utf8_lossy(&text)))
        }
    }
}

fn request(calls: &Calls) -> String {
    let Calls { host, method, path, headers, .. } = calls;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if !["GET", "HEAD", "OPTIONS"].contains(&method.as_str()) {
        text.push_str("content-length: 0\r\n");
    }
    text + "\r\n"
}

/// Returns the workload that a response names, or its status.
fn answer(text: &str) -> Answer {
    let status = text.split(' ').nth(1).unwrap_or_default();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let named = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(NAME_HEADER).then(|| value.trim().to_owned())
    });
    match named.filter(|_| status == "200") {
        Some(name) => Answer::Workload(name),
        None if status.is_empty() => Answer::Refusal("closed".to_owned()),
        None => {
            let line = body.lines().next().unwrap_or_default();
            let line: String = line.chars().filter(|letter| !letter.is_control()).take(120).collect();
            Answer::Refusal(format!("{status} {line}").trim_end().to_owned())
        }
    }
}

/// Header by which `echo` names its workload, also where a response has no body.
pub const NAME_HEADER: &str = "x-answered-by";

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}
