//! A workload that counts the requests that it executes, by the header `id` of each, and that can end as an application
//! without `preStop` does: its port is closed, and so are its connections.

use std::{
    io::{self, BufReader, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::http1::{Message, read_body, read_head};

/// Behaviour after a request was read.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Answers 200 with the head of the request as text.
    Mirror,
    /// Answers with these bytes.
    Bytes(String),
    /// Ends the connection without an answer.
    Close,
}

/// Running server of HTTP/1.1.
pub struct Counting {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    answer: Answer,
    has_ended: AtomicBool,
    ids: Mutex<Vec<String>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Counting {
    /// Starts a server.
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer,
            has_ended: AtomicBool::new(false),
            ids: Mutex::default(),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.has_ended.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, serving) = (stream.unwrap(), Arc::clone(&accepting));
                accepting.streams.lock().unwrap().push(stream.try_clone().unwrap());
                // An error is the end of a connection.
                thread::spawn(move || drop(serving.serve(&stream)));
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Returns the identifiers of the requests that it executed, in order.
    pub fn ids(&self) -> Vec<String> {
        self.shared.ids.lock().unwrap().clone()
    }

    /// Closes its port and all of its connections.
    pub fn end(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        // The acceptor looks after the next connection.
        let woken = TcpStream::connect(self.address);
        self.acceptor.take().map(JoinHandle::join).transpose().unwrap();
        drop(woken);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(mut request) = read_head(&mut reader)? {
            read_body(&mut reader, &mut request)?;
            self.ids.lock().unwrap().push(request.value("id").unwrap_or_default().to_owned());
            let answer = match &self.answer {
                Answer::Mirror => mirror(&request),
                Answer::Bytes(bytes) => bytes.clone(),
                Answer::Close => return stream.shutdown(Shutdown::Both),
            };
            let mut writer = stream;
            writer.write_all(answer.as_bytes())?;
            if answer.contains("connection: close\r\n") {
                return stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }
}

fn mirror(request: &Message) -> String {
    let text = format!("{}\n{}\n{} bytes\n", request.first, request.headers.join("\n"), request.body.len());
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}
