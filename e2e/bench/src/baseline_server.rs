//! Baseline server, the baseline under every latency here.
//!
//! Started by `baseline` as a process of its own. It uses the same TLS and the same framing to the same client, but keeps
//! no state of the mesh: its messages are prepared, and are written to all connections on a command from its standard
//! input. Its cost of a change is the cost of the kernel, TLS and the client.
//!
//! Commands: `script N BYTES` (from now on, each new connection receives N messages of BYTES each), `send COUNT BYTES`
//! (one message to each of the connections in turn, from the first one on, COUNT in all). It writes `ok` to its
//! standard output when everything is written.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
    unix::SourceFd,
};
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{http2, wire};

/// Name of the one resource that it sends.
pub const NAME: &str = "bench/baseline/80";

const LISTENER: Token = Token(0);
const WORDS: Token = Token(1);

struct Peer {
    socket: TcpStream,
    tls: ServerConnection,
    greeted: bool,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    peers: HashMap<usize, Peer>,
    order: Vec<usize>,
    script: Vec<u8>,
    sent: u64,
}

/// Serves until its standard input ends. First prints its port and its certificate.
pub fn serve() -> anyhow::Result<()> {
    let certified = rcgen::generate_simple_self_signed(vec!["baseline.bench".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address: SocketAddr = "0.0.0.0:0".parse()?;
    let mut listener = TcpListener::bind(address)?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&0), WORDS, Interest::READABLE)?;
    println!("{}", listener.local_addr()?.port());
    println!("{}", certified.cert.pem().replace('\n', "|"));
    let (peers, order) = (HashMap::new(), Vec::new());
    Server { poll, listener, config: Arc::new(config), peers, order, script: Vec::new(), sent: 0 }.run()
}

impl Server {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 128 * 1024];
        let mut words = String::new();
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WORDS => {
                        let len = io::stdin().read(&mut buffer)?;
                        if len == 0 {
                            return Ok(());
                        }
                        words.push_str(&String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()));
                        while let Some((line, rest)) = words.split_once('\n') {
                            let (line, rest) = (line.to_owned(), rest.to_owned());
                            words = rest;
                            self.obey(&line)?;
                        }
                    }
                    Token(number) => self.listen_to(number, &mut buffer),
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let _ = socket.set_nodelay(true);
            let number = self.order.len() + 2;
            self.poll.registry().register(
                &mut socket,
                Token(number),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let mut tls = ServerConnection::new(Arc::clone(&self.config))?;
            tls.set_buffer_limit(None);
            self.peers.insert(number, Peer { socket, tls, greeted: false });
            self.order.push(number);
        }
    }

    /// Reads and discards what a client sends; sends the greeting after its first bytes over TLS.
    fn listen_to(&mut self, number: usize, buffer: &mut [u8]) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let read = peer.read(buffer);
        if matches!(read, Ok(true)) && !peer.greeted {
            peer.greeted = true;
            let mut greeting = Vec::new();
            http2::header(4, 0, 0, 0, &mut greeting);
            // The client's settings and window updates are not evaluated; it opens its windows wide.
            http2::header(4, 1, 0, 0, &mut greeting);
            http2::answer(&mut greeting);
            greeting.extend_from_slice(&self.script);
            let _ = peer.tls.writer().write_all(&greeting);
        }
        if read.is_err() || peer.write().is_err() {
            self.peers.remove(&number);
        }
    }

    fn obey(&mut self, line: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let [word, count, bytes] = words.as_slice() else { anyhow::bail!("no word of mine: {line:?}") };
        let count: usize = count.parse().context("no count")?;
        let bytes: usize = bytes.parse().context("no size")?;
        if *word == "script" {
            self.script = (0..count).flat_map(|_| self.message(bytes)).collect();
        } else {
            let message = self.message(bytes);
            let open = self.order.iter().copied().filter(|number| self.peers.contains_key(number));
            let open: Vec<usize> = open.collect();
            for number in open.iter().cycle().take(count) {
                let Some(peer) = self.peers.get_mut(number) else { continue };
                let _ = peer.tls.writer().write_all(&message);
                let _ = peer.write();
            }
        }
        let mut out = io::stdout();
        out.write_all(b"ok\n")?;
        Ok(out.flush()?)
    }

    /// Builds the frame of a message of about `bytes`, with a version of its own.
    fn message(&mut self, bytes: usize) -> Vec<u8> {
        self.sent += 1;
        let version = format!("{:032}", self.sent);
        let mut probe = Vec::new();
        wire::write_response(wire::Kind::Endpoints, NAME, &version, 0, &mut probe);
        let mut message = Vec::new();
        let body = bytes.saturating_sub(probe.len() + 6);
        wire::write_response(wire::Kind::Endpoints, NAME, &version, body, &mut message);
        let mut framed = Vec::new();
        http2::data(&message, &mut framed);
        framed
    }
}

impl Peer {
    /// Returns true if any application data arrived.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let (cipher, clear) = buffer.split_at_mut(buffer.len() / 2);
        let mut any = false;
        loop {
            let len = match self.socket.read(cipher) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            };
            let mut left = cipher.get(..len).unwrap_or_default();
            while !left.is_empty() {
                self.tls.read_tls(&mut left)?;
                self.tls.process_new_packets().map_err(io::Error::other)?;
                while let Ok(len) = self.tls.reader().read(clear) {
                    if len == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    any = true;
                }
            }
            if len < cipher.len() {
                return Ok(any);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
