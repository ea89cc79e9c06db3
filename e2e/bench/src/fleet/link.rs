//! Connection of one proxy: a socket, TLS, and HTTP/2 in it.
//!
//! Used by `fleet`, which polls the socket. Does not interpret messages.

use std::io::{self, Read as _, Write as _};

use anyhow::Context as _;
use mio::{Interest, Registry, Token, net::TcpStream};
use rustls::ClientConnection;

use super::{Slot, Target};
use crate::{
    http2::{Calls, Http2, State},
    sidecar::Outbox,
};

/// Connection of one proxy.
pub(super) struct Link {
    socket: TcpStream,
    tls: ClientConnection,
    http: Http2,
    /// True if the first messages were written.
    pub opened: bool,
    /// True if its proxy has been configured.
    pub configured: bool,
    /// Number of messages received.
    pub messages: usize,
    /// Number of bytes that were read and not yet counted.
    pub received: u64,
    /// Messages to be sent.
    pub outbox: Outbox,
    plain: Vec<u8>,
}

impl Link {
    /// Starts to connect.
    pub fn open(slot: usize, who: &Slot, target: &Target, registry: &Registry) -> anyhow::Result<Self> {
        let address = target.addresses.get(slot % target.addresses.len().max(1)).context("no address")?;
        let mut socket = TcpStream::connect(*address)?;
        let _ = socket.set_nodelay(true);
        registry.register(&mut socket, Token(slot), Interest::READABLE | Interest::WRITABLE)?;
        let mut tls = ClientConnection::new(
            who.tls.as_ref().unwrap_or(&target.tls).clone(),
            target.server_name.clone(),
        )?;
        tls.set_buffer_limit(None);
        let mut plain = Vec::new();
        let http = Http2::open(&target.server_name.to_str(), &who.token, &mut plain);
        let (outbox, messages, received) = (Outbox::new(), 0, 0);
        let (opened, configured) = (false, false);
        Ok(Self { socket, tls, http, opened, configured, messages, received, outbox, plain })
    }

    /// Reads all available bytes and writes as much as possible; returns `false` once the connection has ended.
    pub fn pump(&mut self, buffer: &mut [u8], mut visit: impl FnMut(&[u8], &mut Outbox)) -> bool {
        let is_open = self.read(buffer, &mut visit).unwrap_or(false);
        for message in self.outbox.drain(..) {
            self.http.send(&message, &mut self.plain);
        }
        if !self.plain.is_empty() {
            if self.tls.writer().write_all(&self.plain).is_err() {
                return false;
            }
            self.plain = Vec::new();
        }
        is_open && self.write().is_ok()
    }

    fn read(&mut self, buffer: &mut [u8], visit: &mut impl FnMut(&[u8], &mut Outbox)) -> io::Result<bool> {
        let (cipher, clear) = buffer.split_at_mut(buffer.len() / 2);
        loop {
            let len = match self.socket.read(cipher) {
                Ok(0) => return Ok(false),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Not connected yet.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(true),
                Err(error) => return Err(error),
            };
            self.received += len as u64;
            let mut left = cipher.get(..len).unwrap_or_default();
            while !left.is_empty() {
                self.tls.read_tls(&mut left)?;
                self.tls.process_new_packets().map_err(io::Error::other)?;
                if !self.take(clear, visit)? {
                    return Ok(false);
                }
            }
            // Less than the buffer can hold: there is no more, and the poll reports later bytes.
            if len < cipher.len() {
                return Ok(true);
            }
        }
    }

    /// Calls with a message, as the proxy with this authority and token; returns false if the windows do not allow it.
    pub fn call(&mut self, caller: (&str, &str), message: &[u8]) -> bool {
        let mut plain = Vec::new();
        let is_called = self.http.call(caller, message, &mut plain);
        is_called && self.tls.writer().write_all(&plain).is_ok() && self.write().is_ok()
    }

    /// Returns the calls that have ended.
    pub fn calls(&self) -> Calls {
        self.http.calls
    }

    /// Returns the number of received bytes that are unread; at most the size of the buffer.
    pub fn unread(&self, buffer: &mut [u8]) -> u64 {
        self.socket.peek(buffer).map_or(0, |len| len as u64)
    }

    fn take(&mut self, clear: &mut [u8], visit: &mut impl FnMut(&[u8], &mut Outbox)) -> io::Result<bool> {
        loop {
            let len = match self.tls.reader().read(clear) {
                Ok(0) => return Ok(false),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            let Self { http, plain, outbox, messages, .. } = self;
            let bytes = clear.get(..len).unwrap_or_default();
            let state = http.receive(bytes, plain, |message| {
                *messages += 1;
                visit(message, outbox);
            });
            if state == State::Ended {
                return Ok(false);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
