//! Client of a path: sends requests at a fixed rate, regardless of earlier ones, or as many as are answered.
//!
//! Started by `sidecars` in the client's pod; prints its results as JSON. At a fixed rate every request has a moment at
//! which it is due, and its time counts from then: where no connection is free it waits, and the wait counts, so that a
//! server that stalls cannot hide the requests that it kept from being sent (coordinated omission). One thread sends
//! due requests, another one reads the answers.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use serde::{Deserialize, Serialize};

/// Arguments of the client.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to call.
    #[arg(long)]
    pub to: SocketAddr,
    #[arg(long, default_value = "/books/17")]
    pub path: String,
    /// Requests per second; 0 sends the next request upon each answer.
    #[arg(long)]
    pub rate: u32,
    #[arg(long)]
    pub connections: usize,
    /// Time during which answers count, in seconds.
    #[arg(long)]
    pub seconds: f64,
    /// Time before that, during which answers do not count, in seconds.
    #[arg(long)]
    pub warm: f64,
    /// Expected status of every answer.
    #[arg(long, default_value_t = 200)]
    pub expect: u16,
}

/// Results of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Received {
    /// Number of answers that counted, and the seconds in which they did.
    pub answers: usize,
    pub seconds: f64,
    /// Time of each of them in microseconds, at a fixed rate.
    pub times: Vec<f64>,
    /// Number of all answers, including those before counting: the proxies spent CPU on all of them.
    pub all: usize,
}

/// Free connections, and due requests without one. One lock for both, as they must never both be filled.
#[derive(Default)]
struct Queue {
    free: VecDeque<usize>,
    due: VecDeque<Instant>,
    /// Due time of the request in progress on each connection.
    sent: Vec<Option<Instant>>,
    ended: bool,
}

struct Client {
    sockets: Vec<TcpStream>,
    request: Vec<u8>,
    queue: Mutex<Queue>,
    counts_from: Instant,
    ends: Instant,
}

/// Sends, and prints the results.
pub fn run(args: &Args) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&send(args)?)?);
    Ok(())
}

fn send(args: &Args) -> anyhow::Result<Received> {
    // By default a wait may end 50 µs late, which is as much as is measured. The threads below inherit this setting.
    fs::write("/proc/self/timerslack_ns", "1").context("failed to ask for exact timers")?;
    let sockets = (0..args.connections).map(|_| {
        let socket = TcpStream::connect_timeout(&args.to, Duration::from_secs(2))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        io::Result::Ok(socket)
    });
    let sockets =
        sockets.collect::<io::Result<Vec<_>>>().with_context(|| format!("no way to {}", args.to))?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: server.shop\r\nuser-agent: smidge-bench\r\naccept: */*\r\n\r\n",
        args.path
    );
    let counts_from = Instant::now() + Duration::from_secs_f64(args.warm);
    let client = Client {
        queue: Mutex::new(Queue {
            free: (0..sockets.len()).collect(),
            sent: vec![None; sockets.len()],
            ..Queue::default()
        }),
        sockets,
        request: request.into_bytes(),
        counts_from,
        ends: counts_from + Duration::from_secs_f64(args.seconds),
    };
    let mut received = thread::scope(|scope| {
        let pace = match args.rate {
            0 => {
                client.fill()?;
                None
            }
            rate => {
                let gap = Duration::from_secs(1) / rate;
                Some(scope.spawn({
                    let client = &client;
                    move || client.pace(gap)
                }))
            }
        };
        let received = client.receive(args);
        client.queue().ended = true;
        if let Some(Err(error)) = pace.and_then(|pace| pace.join().ok()) {
            return Err(error.into());
        }
        received
    })?;
    received.seconds = args.seconds;
    if args.rate == 0 {
        received.times.clear();
    }
    Ok(received)
}

impl Client {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request on every connection.
    fn fill(&self) -> io::Result<()> {
        let mut queue = self.queue();
        while let Some(connection) = queue.free.pop_front() {
            self.write(&mut queue, connection, Instant::now())?;
        }
        Ok(())
    }

    /// Sends each request when it is due, until the end.
    fn pace(&self, gap: Duration) -> io::Result<()> {
        let mut due = Instant::now();
        while due < self.ends {
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::park_timeout(wait);
                continue;
            }
            let mut queue = self.queue();
            if queue.ended {
                return Ok(());
            }
            match queue.free.pop_front() {
                Some(connection) => self.write(&mut queue, connection, due)?,
                None => queue.due.push_back(due),
            }
            due += gap;
        }
        Ok(())
    }

    fn write(&self, queue: &mut Queue, connection: usize, due: Instant) -> io::Result<()> {
        queue.sent[connection] = Some(due);
        // One request in progress: there is always room for it.
        (&self.sockets[connection]).write_all(&self.request)
    }

    /// Reads answers until all requests that were due before the end are answered, or until a second after it.
    fn receive(&self, args: &Args) -> anyhow::Result<Received> {
        let mut poll = Poll::new()?;
        for (number, socket) in self.sockets.iter().enumerate() {
            let fd = socket.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        }
        let mut read = vec![Vec::new(); self.sockets.len()];
        let (mut received, mut events) = (Received::default(), Events::with_capacity(256));
        loop {
            let now = Instant::now();
            if now >= self.ends
                && (args.rate == 0 || self.is_idle() || now > self.ends + Duration::from_secs(1))
            {
                let late = self.queue().sent.iter().flatten().count();
                anyhow::ensure!(args.rate == 0 || late == 0, "{late} requests were never answered");
                return Ok(received);
            }
            match poll.poll(&mut events, Some(Duration::from_millis(20))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                let Token(connection) = event.token();
                self.read(connection, &mut read[connection], args, &mut received)?;
            }
        }
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue();
        queue.due.is_empty() && queue.sent.iter().all(Option::is_none)
    }

    /// Reads the available bytes of a connection. After a complete answer, the connection sends the next due request,
    /// or is free.
    fn read(
        &self,
        connection: usize,
        read: &mut Vec<u8>,
        args: &Args,
        received: &mut Received,
    ) -> anyhow::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let len = match (&self.sockets[connection]).read(&mut buffer) {
                Ok(0) => anyhow::bail!("a connection was closed after {} answers", received.all),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            read.extend_from_slice(&buffer[..len]);
            if let Some((status, whole)) = answer(read)? {
                let now = Instant::now();
                anyhow::ensure!(status == args.expect, "{status}: {}", String::from_utf8_lossy(read));
                read.drain(..whole);
                let mut queue = self.queue();
                let due = queue.sent[connection].take().context("an answer to nothing")?;
                received.all += 1;
                let counted = if args.rate == 0 { now } else { due };
                if counted >= self.counts_from && counted < self.ends {
                    received.answers += 1;
                    received.times.push((now - due).as_secs_f64() * 1e6);
                }
                let next =
                    if args.rate == 0 { (now < self.ends).then_some(now) } else { queue.due.pop_front() };
                match next {
                    Some(due) => self.write(&mut queue, connection, due)?,
                    None => queue.free.push_back(connection),
                }
            }
            if len < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// Returns the status and the length of the answer at the start of `read`, once it is complete.
fn answer(read: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&read[..end]).context("an answer that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = end + 4 + length.context("an answer without a length")?;
    Ok((read.len() >= whole).then_some((status, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_all_of_it_is_there() {
        let text = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\nHTTP";
        let whole = text.len() - 4;
        for len in 0..whole {
            assert_eq!(answer(&text[..len]).expect("nothing is wrong yet"), None, "{len}");
        }
        assert_eq!(answer(text).expect("an answer"), Some((403, whole)));
        answer(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("where does it end?");
    }
}
