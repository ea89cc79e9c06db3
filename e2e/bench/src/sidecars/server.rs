//! Server at the end of a path: HTTP/1.1, the same answer to every request, as lean as possible.
//!
//! One thread. Started by `sidecars` in the server's pod. Reads a request only to find its end, and accepts no bodies.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

/// Size of the body of the answer, in bytes.
const BODY: usize = 1024;
/// End of a request without a body.
const END: &[u8] = b"\r\n\r\n";
const LISTENER: Token = Token(0);

struct Peer {
    socket: TcpStream,
    /// Received part of the next request.
    read: Vec<u8>,
}

/// Serves until it is killed.
pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let body = "b".repeat(BODY);
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\n\r\n{body}");
    let mut listener = TcpListener::bind(address)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut peers, mut last) = (Events::with_capacity(256), HashMap::new(), 0);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    last += 1;
                    poll.registry().register(&mut socket, Token(last), Interest::READABLE)?;
                    peers.insert(last, Peer { socket, read: Vec::new() });
                }
            } else if let Some(peer) = peers.get_mut(&event.token().0)
                && hear(peer, answer.as_bytes()).is_err()
            {
                peers.remove(&event.token().0);
            }
        }
    }
}

/// Reads the available bytes and answers each complete request; an error is the end of the connection.
fn hear(peer: &mut Peer, answer: &[u8]) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let len = match peer.socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        peer.read.extend_from_slice(&buffer[..len]);
        while let Some(at) = peer.read.windows(END.len()).position(|window| window == END) {
            peer.read.drain(..at + END.len());
            // A caller has one request in progress at a time, so the answer always fits into the socket's buffer.
            peer.socket.write_all(answer)?;
        }
        if len < buffer.len() {
            // All bytes were read; later bytes cause another event.
            return Ok(());
        }
    }
}
