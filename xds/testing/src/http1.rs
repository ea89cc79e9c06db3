//! HTTP/1 messages as they are on the wire: nothing is changed or checked, so that the case and the order of headers and
//! the framing of bodies are seen.

use std::{
    io::{self, BufRead},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crate::inbound::server;

/// Message: its first line, its header lines, its body without framing, and the lines of its trailers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub first: String,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    pub trailers: Vec<String>,
}

impl Message {
    /// Returns the value of a header.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (its, value) = line.split_once(':')?;
            its.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Returns the status of a response.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads the head of a message. `None` at the end of the connection.
pub fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Message>> {
    let Some(first) = line(stream)? else { return Ok(None) };
    let headers = lines(stream)?;
    Ok(Some(Message { first, headers, ..Message::default() }))
}

/// Reads the body of a request.
pub fn read_body(stream: &mut impl BufRead, message: &mut Message) -> io::Result<()> {
    let is_framed = message.value("content-length").is_some() || message.value("transfer-encoding").is_some();
    if is_framed { framed(stream, message) } else { Ok(()) }
}

/// Reads a response to a request of that method.
pub fn read_response(stream: &mut impl BufRead, method: &str) -> io::Result<Option<Message>> {
    let Some(mut message) = read_head(stream)? else { return Ok(None) };
    match message.status() {
        // The first bytes of the other protocol: the tests use five.
        101 => {
            message.body = vec![0; 5];
            stream.read_exact(&mut message.body)?;
        }
        100..200 | 204 | 304 => {}
        _ if method == "HEAD" => {}
        _ if message.value("content-length").or(message.value("transfer-encoding")).is_some() => {
            framed(stream, &mut message)?;
        }
        _ => drop(stream.read_to_end(&mut message.body)?),
    }
    Ok(Some(message))
}

fn framed(stream: &mut impl BufRead, message: &mut Message) -> io::Result<()> {
    if let Some(length) = message.value("content-length").and_then(|length| length.parse().ok()) {
        message.body = vec![0; length];
        return stream.read_exact(&mut message.body);
    }
    loop {
        let size = line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            message.trailers = lines(stream)?;
            return Ok(());
        }
        let mut chunk = vec![0; size];
        stream.read_exact(&mut chunk)?;
        message.body.extend(chunk);
        line(stream)?;
    }
}

fn lines(stream: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        match line(stream)? {
            Some(text) if text.is_empty() => return Ok(lines),
            Some(text) => lines.push(text),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()))
}

/// Answers of a scripted server, as bytes.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Bytes that it sends after the head of each request and before it reads the body; it reads no body if they are a
    /// final response.
    pub early: String,
    /// Bytes that it sends after each request.
    pub answer: String,
    /// True if it then closes the connection.
    pub closes: bool,
}

/// Server that plays a script, and keeps the requests that it received.
#[derive(Clone)]
pub struct Scripted {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Scripted {
    /// Starts a server.
    pub fn start() -> Self {
        let (script, received) = (Arc::new(Mutex::new(Script::default())), Arc::default());
        let (played, kept) = (Arc::clone(&script), Arc::clone(&received));
        let address = server(move |stream| {
            let mut writer = stream.try_clone().unwrap();
            // An error is the end of a connection, which a client may cause at any time.
            drop(play(&mut io::BufReader::new(stream), &mut writer, &played, &kept));
        });
        Self { address, script, received }
    }

    /// Sets the script for the requests to come, and returns those that were received before.
    pub fn set(&self, script: Script) -> Vec<Message> {
        *self.script.lock().unwrap() = script;
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

fn play(
    reader: &mut impl BufRead,
    writer: &mut impl io::Write,
    script: &Mutex<Script>,
    received: &Mutex<Vec<Message>>,
) -> io::Result<()> {
    while let Some(mut request) = read_head(reader)? {
        if request.first.contains("/probe ") {
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        let Script { early, answer, closes } = script.lock().unwrap().clone();
        writer.write_all(early.as_bytes())?;
        if !early.contains("content-length") {
            read_body(reader, &mut request)?;
        }
        received.lock().unwrap().push(request);
        writer.write_all(answer.as_bytes())?;
        if closes {
            break;
        }
    }
    Ok(())
}
