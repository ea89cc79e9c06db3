//! A workload that calls Services in plaintext, as workloads do: its own proxy accepts the calls.

use futures::future::join_all;
use tokio::{
    io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::differential::{
    app::SEEN,
    callers::http1,
    reference::Http,
    scenario::{HTTP, TCP},
    servers::SERVED,
    shares::Who,
};

/// Number of concurrent connections.
const LINES: usize = 4;

/// The Service that answered, its address, and the path that it read.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub who: Who,
    pub at: String,
    pub seen: String,
}

/// Sends requests to the HTTP port of an address; the answers are in the same order.
pub async fn http(address: &str, requests: &[&Http]) -> Vec<Heard> {
    let lines = requests.chunks(requests.len().div_ceil(LINES).max(1)).map(|some| async move {
        let mut heard = Vec::new();
        let mut stream = None;
        for http in some {
            let mut open = match stream.take() {
                Some(open) => open,
                None => BufReader::new(TcpStream::connect((address, HTTP)).await.unwrap()),
            };
            let (answer, lives) = ask(&mut open, http).await.unwrap();
            stream = lives.then_some(open);
            heard.push(answer);
        }
        heard
    });
    join_all(lines).await.concat()
}

async fn ask(stream: &mut BufReader<TcpStream>, http: &Http) -> io::Result<(Heard, bool)> {
    stream.get_mut().write_all(http1(http).as_bytes()).await?;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let field = |name: &str| {
        let mut fields = lines.iter().filter_map(|line| line.split_once(": "));
        fields.find(|(its, _)| *its == name).map_or("", |(_, value)| value)
    };
    let length: usize = field("content-length").parse().unwrap_or(0);
    let mut body = vec![0; if http.method == "HEAD" { 0 } else { length }];
    stream.read_exact(&mut body).await?;
    let heard = match lines[0].split(' ').nth(1) {
        Some("200") => Heard { seen: field(SEEN).to_owned(), ..served(field(SERVED), HTTP) },
        Some("503") => Heard::default(),
        _ => panic!("nobody answers so: {lines:?} to {http:?}"),
    };
    Ok((heard, field("connection") != "close"))
}

/// Opens connections to the TCP port of an address, and sends bytes on each.
pub async fn tcp(address: &str, count: usize) -> Vec<Heard> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.extend(join_all((0..LINES).map(|_| connect(address))).await);
    }
    heard
}

async fn connect(address: &str) -> Heard {
    let mut stream = TcpStream::connect((address, TCP)).await.unwrap();
    let mut said = String::new();
    // If no endpoint serves, the proxy ends the connection in either of the two.
    if stream.write_all(b"ping pong").await.is_err() || stream.read_to_string(&mut said).await.is_err() {
        return Heard::default();
    }
    if said.is_empty() { Heard::default() } else { served(said.trim_end(), TCP) }
}

/// Parses the answer of a server: the name by which it was called, and its address.
fn served(text: &str, port: u16) -> Heard {
    let (name, at) = text.split_once(' ').unwrap();
    let service = name.strip_prefix(&format!("{port}.")).and_then(|name| name.strip_suffix(".shop.smidge"));
    let who = service.unwrap_or_else(|| panic!("no Service is called {name:?}")).to_owned();
    Heard { who: Some(who), at: at.to_owned(), seen: String::new() }
}
