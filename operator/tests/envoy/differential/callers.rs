//! Callers over real mTLS: HTTP/1.1 by hand, HTTP/2 with many concurrent requests, and TCP. A few call in plaintext.
//!
//! Connections are kept from one generated cluster to the next, as those of real callers are: a new policy must apply
//! to them too.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Uri, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use crate::differential::{
    app::SEEN,
    caller::{Authority, plain},
    generated::CALLERS,
    network::JUDGED,
    reference::{Account, Http, Request, Says, Verdict},
};

/// Maximum number of concurrent requests on one connection of HTTP/2. Over HTTP/1.1 one follows the answer of another:
/// the Envoy's system would hold a second answer back until the caller's has acknowledged the first.
const AT_ONCE: usize = 32;

/// Verdict on a request, and the path that the workload read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub verdict: Verdict,
    pub seen: Option<String>,
}

const CLOSED: Answer = Answer { verdict: Verdict::Closed, seen: None };

type Tls = BufReader<StreamOwned<ClientConnection, TcpStream>>;
/// Caller and called port.
type Line = (Account, u16);

/// All callers, with their open connections.
pub struct Callers {
    identities: BTreeMap<Account, Identity>,
    http1: BTreeMap<Line, Tls>,
    http2: BTreeMap<Line, http2::SendRequest<Empty<Bytes>>>,
}

/// TLS configurations of a caller: as a proxy forwards HTTP/1.1, HTTP/2 and bytes.
struct Identity {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

impl Identity {
    fn new(bytes: Arc<ClientConfig>) -> Self {
        let offering = |alpn: &[u8]| {
            let mut config = ClientConfig::clone(&bytes);
            config.alpn_protocols = vec![alpn.to_vec()];
            Arc::new(config)
        };
        Self { http1: offering(b"http/1.1"), http2: offering(b"h2"), bytes }
    }
}

impl Callers {
    pub fn new(authority: &Authority) -> Self {
        let identities = CALLERS.iter().map(|(namespace, name)| {
            let leaf = authority.issue(&format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"));
            (((*namespace).to_owned(), (*name).to_owned()), Identity::new(leaf.config()))
        });
        Self { identities: identities.collect(), http1: BTreeMap::new(), http2: BTreeMap::new() }
    }

    /// Sends requests to the proxy, and returns their answers in the same order.
    pub async fn ask(&mut self, requests: &[Request]) -> Vec<Answer> {
        let mut answers = vec![CLOSED; requests.len()];
        let mut http1: BTreeMap<Line, Vec<(usize, &Http)>> = BTreeMap::new();
        let mut http2: BTreeMap<Line, Vec<(usize, &Http, Uri)>> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            let line = request.from.clone().map(|from| (from, request.port));
            match (&request.says, line) {
                (_, None) => answers[index] = without_tls(request),
                (Says::Bytes(bytes), Some(line)) => answers[index] = self.bytes(&line, bytes),
                (Says::Http(http), Some(line)) => match uri(http) {
                    Some(uri) => http2.entry(line).or_default().push((index, http, uri)),
                    None => http1.entry(line).or_default().push((index, http)),
                },
            }
        }
        self.over_http1(&http1, &mut answers);
        for (line, requests) in http2 {
            for some in requests.chunks(AT_ONCE) {
                self.over_http2(&line, some, &mut answers).await;
            }
        }
        answers
    }

    fn connect(
        config: &Arc<ClientConfig>,
        port: u16,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let connection = ClientConnection::new(Arc::clone(config), server_name()).unwrap();
        let stream = plain(at(port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(StreamOwned::new(connection, stream))
    }

    fn bytes(&self, line: &Line, bytes: &str) -> Answer {
        let config = &self.identities[&line.0].bytes;
        let answer = Self::connect(config, line.1).and_then(|mut stream| echo(&mut stream, bytes));
        answer.unwrap_or_else(|error| closed(&error))
    }

    /// Sends the requests of each line in a thread of its own, as each waits for the Envoy most of the time.
    fn over_http1(&mut self, lines: &BTreeMap<Line, Vec<(usize, &Http)>>, answers: &mut [Answer]) {
        let open: Vec<Option<Tls>> = lines.keys().map(|line| self.http1.remove(line)).collect();
        let this = &*self;
        let heard: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = lines
                .iter()
                .zip(open)
                .map(|((line, requests), kept)| scope.spawn(|| this.line(line, kept, requests)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (line, (kept, heard)) in lines.keys().zip(heard) {
            self.http1.extend(kept.map(|kept| (line.clone(), kept)));
            for (index, answer) in heard {
                answers[index] = answer;
            }
        }
    }

    /// Sends requests one after another; returns their answers, and the connection if it stays open.
    fn line(
        &self,
        line: &Line,
        mut kept: Option<Tls>,
        requests: &[(usize, &Http)],
    ) -> (Option<Tls>, Vec<(usize, Answer)>) {
        let mut heard = Vec::new();
        let mut rest = requests;
        while !rest.is_empty() {
            let is_new = kept.is_none();
            let connect = || Self::connect(&self.identities[&line.0].http1, line.1).map(BufReader::new);
            let Ok(mut tls) = kept.take().map_or_else(connect, Ok) else {
                rest = &rest[1..];
                continue;
            };
            let (count, lives) = exchange(&mut tls, rest, &mut heard);
            kept = lives.then_some(tls);
            // A kept connection may have been closed meanwhile; a new one without an answer was closed because of the
            // request.
            let skipped = usize::from(count == 0 && is_new);
            rest = &rest[count + skipped..];
        }
        (kept, heard)
    }

    async fn over_http2(&mut self, line: &Line, requests: &[(usize, &Http, Uri)], answers: &mut [Answer]) {
        let mut kept = self.http2.remove(line).filter(|sender| !sender.is_closed());
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let is_new = kept.is_none();
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.http2(line).await,
        };
        let mut unheard = exchange2(&mut sender, requests.iter().collect(), answers).await;
        if !unheard.is_empty() && !is_new {
            // A kept connection may have ended meanwhile; a new one would have ended because of these requests.
            sender = self.http2(line).await;
            unheard = exchange2(&mut sender, unheard, answers).await;
        }
        if unheard.is_empty() {
            self.http2.insert(line.clone(), sender);
        }
    }

    async fn http2(&self, (who, port): &Line) -> http2::SendRequest<Empty<Bytes>> {
        let stream = tokio::net::TcpStream::connect(at(*port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let tls = TlsConnector::from(Arc::clone(&self.identities[who].http2));
        let stream = tls.connect(server_name(), stream).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// Sends concurrent requests over HTTP/2; returns those that were not answered.
async fn exchange2<'a>(
    sender: &mut http2::SendRequest<Empty<Bytes>>,
    requests: Vec<&'a (usize, &'a Http, Uri)>,
    answers: &mut [Answer],
) -> Vec<&'a (usize, &'a Http, Uri)> {
    let sent = requests.into_iter().map(|it| {
        let (_, http, uri) = it;
        let mut request = hyper::Request::builder().method(http.method.as_str()).uri(uri.clone());
        for (name, value) in &http.headers {
            request = request.header(name.to_ascii_lowercase(), value.trim());
        }
        let answer = sender.send_request(request.body(Empty::new()).unwrap());
        async move {
            let response = answer.await.map_err(|_| it)?;
            let seen = response.headers().get(SEEN).map(|seen| seen.to_str().unwrap().to_owned());
            let status = response.status().as_u16();
            response.into_body().collect().await.map_err(|_| it)?;
            Ok((it.0, Answer { verdict: verdict(status), seen }))
        }
    });
    let mut unheard = Vec::new();
    for heard in join_all(sent).await {
        match heard {
            Ok((index, answer)) => answers[index] = answer,
            Err(it) => unheard.push(it),
        }
    }
    unheard
}

/// Writes requests and reads their answers. Returns the number of answers, and whether the connection can be reused.
fn exchange(tls: &mut Tls, requests: &[(usize, &Http)], heard: &mut Vec<(usize, Answer)>) -> (usize, bool) {
    for (count, (index, http)) in requests.iter().enumerate() {
        let written = tls.get_mut().write_all(http1(http).as_bytes());
        match written.and_then(|()| read(tls, http.method == "HEAD")) {
            Ok((answer, lives)) => {
                heard.push((*index, answer));
                if !lives {
                    return (count + 1, false);
                }
            }
            Err(error) => {
                closed(&error);
                return (count, false);
            }
        }
    }
    (requests.len(), true)
}

/// Returns a request as its bytes.
pub fn http1(http: &Http) -> String {
    let mut text = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", http.method, http.target, http.host);
    for (name, value) in &http.headers {
        // Writing to a String cannot fail.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if matches!(http.method.as_str(), "POST" | "PUT" | "PATCH") {
        text.push_str("content-length: 0\r\n");
    }
    text + "\r\n"
}

/// Reads one answer; returns it, and whether the connection stays open.
fn read(from: &mut impl BufRead, is_head: bool) -> io::Result<(Answer, bool)> {
    let mut line = String::new();
    let mut next = || -> io::Result<String> {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    };
    let status = next()?.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (mut length, mut lives, mut seen) = (0, true, None);
    loop {
        let field = next()?;
        let Some((name, value)) = field.split_once(": ") else { break };
        match name {
            "content-length" => length = value.parse().unwrap(),
            "connection" => lives = value != "close",
            SEEN => seen = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; if is_head { 0 } else { length }];
    from.read_exact(&mut body)?;
    Ok((Answer { verdict: verdict(status), seen }, lives))
}

fn verdict(status: u16) -> Verdict {
    match status {
        200 => Verdict::Allowed,
        400 => Verdict::Refused,
        403 => Verdict::Denied,
        other => panic!("a status that nobody gives: {other}"),
    }
}

/// Treats the end of a connection as an answer; panics on silence.
fn closed(error: &io::Error) -> Answer {
    let is_silence = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    assert!(!is_silence, "no answer: {error}");
    CLOSED
}

/// Sends a request in plaintext.
fn without_tls(request: &Request) -> Answer {
    let answer = plain(at(request.port)).and_then(|mut stream| match &request.says {
        Says::Bytes(bytes) => echo(&mut stream, bytes),
        Says::Http(http) => {
            stream.write_all(http1(http).as_bytes())?;
            Ok(read(&mut BufReader::new(stream), http.method == "HEAD")?.0)
        }
    });
    answer.unwrap_or_else(|error| closed(&error))
}

/// Sends bytes and reads them back.
fn echo(stream: &mut (impl Read + Write), bytes: &str) -> io::Result<Answer> {
    stream.write_all(bytes.as_bytes())?;
    let mut heard = vec![0; bytes.len()];
    stream.read_exact(&mut heard)?;
    assert_eq!(heard, bytes.as_bytes(), "somebody else answered");
    Ok(Answer { verdict: Verdict::Allowed, seen: None })
}

/// URI of a request over HTTP/2, if it can be expressed as one.
fn uri(http: &Http) -> Option<Uri> {
    let uri =
        Uri::builder().scheme("http").authority(http.host.as_str()).path_and_query(http.target.as_str());
    let uri = uri.build().ok().filter(|_| http.is_h2)?;
    let is_same = uri.path_and_query().is_some_and(|it| it.as_str() == http.target);
    (is_same && uri.authority().is_some_and(|it| it.as_str() == http.host)).then_some(uri)
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("80.api.shop.smidge").unwrap()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(JUDGED.parse().unwrap(), port)
}
