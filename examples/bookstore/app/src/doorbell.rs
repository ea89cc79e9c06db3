//! Waits for a line on standard input: how a test or a person tells a client that runs on to stop and report.
//!
//! A plain thread: the runtime's own standard input would keep the process from ending while it waits for a line.

use std::{io, thread};

use tokio::sync::oneshot;

/// How whoever started a client talks with it while it runs.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Doorbell {
    /// Stop, and report, when a line comes in on standard input.
    #[arg(long)]
    pub until_line: bool,
    /// Say `started` when the first answer has come, before the report.
    #[arg(long)]
    pub announce: bool,
}

impl Doorbell {
    /// Resolves when a line came in or standard input ended; never, unless it was asked for.
    pub async fn rung(self) {
        if !self.until_line {
            return std::future::pending().await;
        }
        let (button, bell) = oneshot::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A broken standard input is as good as its end: nobody can ring any more.
            let _ = io::stdin().read_line(&mut line);
            // Nobody listens any more when the client has ended by itself.
            let _ = button.send(());
        });
        let _ = bell.await;
    }

    /// Says that the first answer has come.
    pub fn announce(self) {
        if self.announce {
            println!("started");
        }
    }
}
