//! Many connections to the port: silent ones, and ones that request pages and do not read them.

use std::net::Ipv4Addr;

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use smidge::{admin::CONNECTIONS, http::IDLE_TIMEOUT};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{DEADLINE, KUBELET, Served, bearer, connect, get, request, serve, token};

const STRANGER: Ipv4Addr = Ipv4Addr::LOCALHOST;

async fn is_ready(served: &Served) {
    assert!(get(served, KUBELET, "/readyz", "").await.starts_with("HTTP/1.1 200 "));
}

/// Waits until the server has closed `surplus` of the connections that were not sent anything; returns the others.
async fn held(crowd: Vec<TcpStream>, surplus: usize) -> Vec<TcpStream> {
    let number = crowd.len();
    let (mut held, mut closed) = (crowd, 0);
    let wait = async {
        while closed < surplus {
            let ends: FuturesUnordered<_> = held
                .iter()
                .enumerate()
                .map(|(index, stream)| async move {
                    // A peek consumes nothing, so that unread bytes stay unread.
                    matches!(stream.peek(&mut [0]).await, Ok(0) | Err(_)).then_some(index)
                })
                .collect();
            let gone: Vec<usize> = ends.filter_map(|index| async move { index }).take(1).collect().await;
            for index in gone {
                held.swap_remove(index);
                closed += 1;
            }
        }
    };
    let waited = timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "{closed} of {number} were closed, expected {surplus}");
    held
}

/// Returns true if the server still holds the connection of a peer that has sent nothing.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn silent_connections_are_bounded_and_end() {
    let served = serve(1).await;
    let crowd = join_all((0..200).map(|_| connect(&served, STRANGER))).await;
    let held = held(crowd, 200 - CONNECTIONS.1).await;
    is_ready(&served).await;
    assert!(held.iter().all(is_open), "who has no more than its share keeps it");
    // The time limit for headers passes, as nothing else is going on.
    tokio::time::pause();
    for mut stream in held {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
    }
    tokio::time::resume();
    is_ready(&served).await;
}

#[tokio::test]
async fn a_crowd_of_many_addresses_does_not_take_the_port() {
    let served = serve(1).await;
    let peers = u8::try_from(CONNECTIONS.0 / CONNECTIONS.1).unwrap() - 1;
    let mut connections = Vec::new();
    for peer in 0..peers {
        let from = Ipv4Addr::new(127, 0, 1, peer + 1);
        let crowd = join_all((0..CONNECTIONS.1 + 8).map(|_| connect(&served, from))).await;
        connections.push(held(crowd, 8).await);
    }
    is_ready(&served).await;
    assert!(connections.iter().flatten().all(is_open));
}

#[tokio::test]
async fn pages_that_nobody_reads_are_bounded_and_end() {
    let served = serve(500).await;
    let token = bearer(&token("a"));
    let page = get(&served, KUBELET, "/debug/mesh", &token).await.len();
    assert!(page > 1 << 20, "{page}: more than fits into buffers");
    let ask = request("/debug/mesh", &token).repeat(8);
    let crowd = join_all((0..200).map(|_| connect(&served, STRANGER))).await;
    let mut held = held(crowd, 200 - CONNECTIONS.1).await;
    for stream in &mut held {
        stream.write_all(ask.as_bytes()).await.unwrap();
        let begun = timeout(DEADLINE, stream.peek(&mut [0])).await.expect("the first page");
        assert_eq!(begun.unwrap(), 1);
    }
    is_ready(&served).await;
    let answer = get(&served, KUBELET, "/debug/mesh", &token).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "what one peer does not read leaves room for others");
    // These connections are closed after a part of the requested pages was sent.
    tokio::time::pause();
    tokio::time::sleep(IDLE_TIMEOUT + std::time::Duration::from_secs(10)).await;
    tokio::time::resume();
    let mut sent = Vec::new();
    for mut stream in held {
        let mut text = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("an end");
        sent.push(text.len());
    }
    assert!(sent.iter().all(|sent| *sent < page), "{sent:?} of {page} bytes");
    is_ready(&served).await;
}

#[tokio::test]
async fn the_server_ends_when_told() {
    let served = serve(1).await;
    let silent = connect(&served, STRANGER).await;
    is_ready(&served).await;
    served.stop.send(()).unwrap();
    timeout(DEADLINE, served.ended).await.expect("an end").unwrap();
    drop(silent);
}
