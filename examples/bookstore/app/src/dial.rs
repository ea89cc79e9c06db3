//! Client `dial`: holds one TCP connection to the store, sends lines on it, and reports how the connection ended.
//!
//! In a mesh the proxy beside the client always accepts a connection; only an answer shows that it reached the other
//! side. So the report counts answers, and distinguishes a connection that was closed from one that was held to the
//! end.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

use crate::doorbell::Doorbell;

/// Arguments of the client.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Store, as HOST:PORT.
    #[arg(long)]
    address: String,
    /// Time to hold the connection, in seconds; without it one line is sent.
    #[arg(long)]
    hold: Option<f64>,
    /// Milliseconds between two lines.
    #[arg(long, default_value_t = 100)]
    every_ms: u64,
    /// Time limit of the connection attempt and of an answer, each, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
    #[command(flatten)]
    doorbell: Doorbell,
    /// Line to send.
    #[arg(long, default_value = "PING")]
    line: String,
}

/// End of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    /// This client closed a connection that still worked.
    Held,
    /// No connection could be opened.
    NoConnection,
    /// The other side closed it in order.
    Closed,
    /// The other side reset it.
    Reset,
    /// It stayed open without an answer.
    NoAnswer,
}

/// Report, as `dial` prints it.
#[derive(Debug, Serialize)]
struct Report {
    /// End of the connection.
    end: End,
    /// Number of lines sent.
    asked: u64,
    /// Number of answers received.
    answered: u64,
    /// Last answer.
    last: String,
    /// Time from the first attempt to the end, in seconds.
    seconds: f64,
}

/// Connects, and prints one line of JSON.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut report =
        Report { end: End::NoConnection, asked: 0, answered: 0, last: String::new(), seconds: 0.0 };
    let stopped = stop(&args, started + Duration::try_from_secs_f64(args.hold.unwrap_or(0.0))?);
    tokio::pin!(stopped);
    let timeout = Duration::from_millis(args.timeout_ms);
    if let Ok(Ok(stream)) = tokio::time::timeout(timeout, TcpStream::connect(&args.address)).await {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        report.end = loop {
            report.asked += 1;
            let asked = tokio::time::timeout(timeout, ask(&mut lines, &mut writer, &args.line)).await;
            match asked {
                Err(_) => break End::NoAnswer,
                Ok(Err(end)) => break end,
                Ok(Ok(answer)) => report.last = answer,
            }
            report.answered += 1;
            if report.answered == 1 {
                args.doorbell.announce();
            }
            // A connection that is closed between two lines is noticed immediately, not with the next line.
            tokio::select! {
                () = &mut stopped => break End::Held,
                end = closed(&mut lines) => break end,
                () = tokio::time::sleep(Duration::from_millis(args.every_ms)) => {}
            }
        };
    }
    report.seconds = started.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&report).context("failed to write the report")?);
    Ok(())
}

/// Resolves when the connection is to be closed.
async fn stop(args: &Args, deadline: Instant) {
    let time = async {
        if args.doorbell.until_line && args.hold.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(deadline).await;
    };
    tokio::select! {
        () = args.doorbell.rung() => {}
        () = time => {}
    }
}

async fn ask(
    lines: &mut Lines<BufReader<OwnedReadHalf>>,
    writer: &mut OwnedWriteHalf,
    line: &str,
) -> Result<String, End> {
    // A failed write has less information than the read that follows: the close of the other side may be waiting there.
    let _ = writer.write_all(format!("{line}\n").as_bytes()).await;
    match lines.next_line().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(End::Closed),
        Err(_) => Err(End::Reset),
    }
}

/// Resolves when the connection ends while no answer is due. Ignores an unsolicited line.
async fn closed(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> End {
    loop {
        match lines.next_line().await {
            Ok(Some(_)) => {}
            Ok(None) => return End::Closed,
            Err(_) => return End::Reset,
        }
    }
}
