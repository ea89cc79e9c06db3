//! Waits for a line on standard input, by which a test or a user stops a running client and gets its report.
//!
//! A plain thread: the runtime's own standard input would keep the process from ending while it waits for a line.

use std::{io, thread};

use tokio::sync::oneshot;

/// Communication with a running client.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Doorbell {
    /// Stop, and report, when a line arrives on standard input.
    #[arg(long)]
    pub until_line: bool,
    /// Print `started` after the first answer, before the report.
    #[arg(long)]
    pub announce: bool,
}

impl Doorbell {
    /// Resolves when a line has arrived or standard input has ended; never, without `--until-line`.
    pub async fn rung(self) {
        if !self.until_line {
            return std::future::pending().await;
        }
        let (button, bell) = oneshot::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // An error of standard input is treated as its end: no line can arrive any more.
            let _ = io::stdin().read_line(&mut line);
            // The receiver is gone when the client has ended by itself.
            let _ = button.send(());
        });
        let _ = bell.await;
    }

    /// Prints that the first answer has arrived, with `--announce`.
    pub fn announce(self) {
        if self.announce {
            println!("started");
        }
    }
}
