//! Makes a call from a pod, and reports the pod that served it, or the answer that it got instead.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::differential::{
    callers::http1,
    explained::{
        calls::Call,
        pods::{SERVED, within},
    },
    reference::Http,
};

/// Bytes that are no HTTP, which a server of HTTP knows at their end. Whether fewer than five bytes are TLS would stay
/// undecided for a while.
const BYTES: &[u8] = b"ping pong\r\n\r\n";
/// Time limit of a step: longer than proxies wait for anything.
const LIMIT: Duration = Duration::from_secs(20);
/// Number of concurrent calls.
const LINES: usize = 4;

/// Result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The application of this pod answered.
    Served(String),
    /// It did not arrive; the answer in its place, or the error.
    Refused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served(pod) => write!(f, "served by {pod}"),
            Self::Refused(answer) => write!(f, "refused: {answer}"),
        }
    }
}

/// Makes calls that are all from one pod; the results are in the same order.
pub fn make(from: &str, calls: &[&Call]) -> Vec<Outcome> {
    let chunks = calls.chunks(calls.len().div_ceil(LINES).max(1));
    std::thread::scope(|scope| {
        let lines: Vec<_> = chunks
            .map(|some| {
                scope.spawn(|| within(from, || some.iter().map(|call| outcome(call)).collect::<Vec<_>>()))
            })
            .collect();
        lines.into_iter().flat_map(|line| line.join().unwrap()).collect()
    })
}

fn outcome(call: &Call) -> Outcome {
    send(call).unwrap_or_else(|error| {
        let is_silence = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        assert!(!is_silence, "no answer: {call}");
        Outcome::Refused(error.to_string())
    })
}

fn send(call: &Call) -> io::Result<Outcome> {
    let to = SocketAddr::new(call.address.parse().unwrap(), call.port);
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    if let Some(http) = &call.http {
        stream.write_all(http1(http).as_bytes())?;
        return answer(stream, http);
    }
    stream.write_all(BYTES)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(match line.trim_end() {
        "" => Outcome::Refused("closed".to_owned()),
        line if line.starts_with("HTTP/") => Outcome::Refused(line.to_owned()),
        pod => Outcome::Served(pod.to_owned()),
    })
}

/// Reads the answer to a request.
fn answer(stream: TcpStream, http: &Http) -> io::Result<Outcome> {
    let mut reader = BufReader::new(stream);
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let field = |name: &str| {
        let fields = lines.iter().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(its, _)| *its == name).map(|(_, value)| value)
    };
    if let Some(pod) = field(SERVED) {
        return Ok(Outcome::Served(pod.to_owned()));
    }
    let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; if http.method == "HEAD" { 0 } else { length }];
    reader.read_exact(&mut body)?;
    Ok(Outcome::Refused(format!("{} {}", lines[0], String::from_utf8_lossy(&body).trim_end())))
}
