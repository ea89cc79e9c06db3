//! Turns a connection into an answer that names the workload: the server that runs in place of each application.
//!
//! Runs in the network of one workload, on every port that callers may use. Answers HTTP/1 and HTTP/2 requests with 200,
//! and any other protocol line by line. Knows nothing of the mesh.

use std::{convert::Infallible, future::ready, io, net::Ipv4Addr, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming, header::HeaderValue, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::call::NAME_HEADER;

/// Maximum number of connections at once; further ones wait.
const CONNECTIONS: usize = 1024;
/// Maximum length of a line of a protocol other than HTTP.
const LINE: u64 = 4096;
/// Time after which a connection without a message is closed.
const IDLE: Duration = Duration::from_mins(5);
/// Header in which the proxy names the caller, where the mesh is set to.
const CALLER: &str = "x-smidge-caller";

/// Answers on the ports until the process ends.
pub async fn serve(name: String, ports: &[u16]) -> io::Result<()> {
    let name: Arc<str> = name.into();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut servers = JoinSet::new();
    for port in ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await?;
        servers.spawn(accept(listener, Arc::clone(&name), Arc::clone(&places)));
    }
    servers.join_all().await;
    // A workload without ports only calls.
    std::future::pending().await
}

async fn accept(listener: TcpListener, name: Arc<str>, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let name = Arc::clone(&name);
                tokio::spawn(async move {
                    answer(stream, &name).await;
                    drop(place);
                });
            }
            // Out of file descriptors, for example: others may end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(stream: TcpStream, name: &Arc<str>) {
    let mut start = [0; 16];
    let Ok(Ok(length)) = timeout(IDLE, stream.peek(&mut start)).await else { return };
    if is_http(start.get(..length).unwrap_or_default()) {
        let service = service_fn(|request| ready(Ok::<_, Infallible>(response(&request, name))));
        let builder = auto::Builder::new(TokioExecutor::new());
        // A caller that goes away is no error.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LINE);
        let Ok(Ok(1..)) = timeout(IDLE, limited.read_until(b'\n', &mut line)).await else { return };
        if writer.write_all(format!("{name}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Returns true if a connection begins as one of HTTP does: with a method and a blank.
fn is_http(start: &[u8]) -> bool {
    let letters = start.iter().take_while(|letter| letter.is_ascii_uppercase()).count();
    letters > 0 && start.get(letters).is_none_or(|next| *next == b' ')
}

fn response(request: &Request<Incoming>, name: &str) -> Response<String> {
    let caller = request.headers().get(CALLER).and_then(|value| value.to_str().ok());
    let caller = caller.map(|caller| format!("caller {caller}\n")).unwrap_or_default();
    let (method, path) = (request.method(), request.uri().path_and_query().map_or("/", |it| it.as_str()));
    let mut response = Response::new(format!("{name}\n{method} {path}\n{caller}"));
    if let Ok(name) = HeaderValue::from_str(name) {
        response.headers_mut().insert(NAME_HEADER, name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_known_by_its_method() {
        for start in ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0", "G", "PROPFINDPROPFIND"] {
            assert!(is_http(start.as_bytes()), "{start}");
        }
        for start in ["", "PING\n", "get / ", "\u{16}\u{3}\u{1}", " GET"] {
            assert!(!is_http(start.as_bytes()), "{start}");
        }
    }
}
