//! Role `store`: counters behind a line protocol on TCP, the part of the example that is not HTTP.
//!
//! A client sends a line and receives a line: `PING` → `PONG`, `ADD <name> <n>` → `OK <total>`,
//! `GET <name>` → `OK <total>`, `WHO` → the store's name. The answer to any other line is `ERR` with an explanation.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::serve;

/// Arguments of the store.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port to listen on.
    #[arg(long, default_value_t = 14003)]
    port: u16,
    /// Name, in the answer to WHO.
    #[arg(long, default_value = "store")]
    name: String,
}

type Counters = Arc<Mutex<BTreeMap<String, u64>>>;

/// Runs the store until a signal ends the process.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let listener = serve::listen(args.port).await?;
    println!("listening on port {}", args.port);
    let counters = Counters::default();
    let end = serve::stop_signal();
    tokio::pin!(end);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(converse(stream, args.name.clone(), counters.clone()));
                }
                Err(error) => eprintln!("failed to accept a connection: {error}"),
            },
            _ = &mut end => return Ok(()),
        }
    }
}

async fn converse(stream: TcpStream, name: String, counters: Counters) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = if line == "WHO" { name.clone() } else { answer(&line, &counters) };
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

fn answer(line: &str, counters: &Counters) -> String {
    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["PING"] => "PONG".to_owned(),
        ["GET", name] => format!("OK {}", counters.get(*name).copied().unwrap_or(0)),
        ["ADD", name, count] => {
            let Ok(count) = count.parse::<u64>() else { return format!("ERR {count} is no number") };
            let total = counters.entry((*name).to_owned()).or_default();
            *total = total.saturating_add(count);
            format!("OK {total}")
        }
        _ => "ERR expected PING, WHO, GET <name> or ADD <name> <number>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_name() {
        let counters = Counters::default();
        assert_eq!(answer("PING", &counters), "PONG");
        assert_eq!(answer("ADD v1 2", &counters), "OK 2");
        assert_eq!(answer("ADD v1 3", &counters), "OK 5");
        assert_eq!(answer("GET v1", &counters), "OK 5");
        assert_eq!(answer("GET v2", &counters), "OK 0");
        assert_eq!(answer("ADD v1 many", &counters), "ERR many is no number");
        assert!(answer("", &counters).starts_with("ERR"));
    }
}
