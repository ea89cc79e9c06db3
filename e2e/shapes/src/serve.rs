//! Turns the table of ports into listeners, each of which answers its shape of traffic until a signal ends the process.

use std::{env, sync::Arc};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::TlsAcceptor;

use crate::{http, ports, tcp, tls};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name in every answer; by default that of the machine.
    #[arg(long)]
    name: Option<String>,
}

/// Listens until a signal ends the process.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let name: Arc<str> = args.name.or_else(|| env::var("HOSTNAME").ok()).unwrap_or_default().into();
    let (certificate, tls) = tls::server()?;
    let server = http::Server::new(&name, &certificate);
    for port in [ports::HTTP, ports::GRPC, ports::HTTP_UNDECLARED, ports::PRIVILEGED] {
        let server = server.clone();
        listen(port, move |stream| http::answer(stream, server.clone())).await?;
    }
    let many = ports::MANY..ports::MANY + ports::MANY_COUNT;
    for port in [ports::ECHO, ports::ECHO_UNDECLARED].into_iter().chain(many) {
        listen(port, tcp::echo).await?;
    }
    for port in [ports::GREETING, ports::GREETING_UNDECLARED, ports::DIALOGUE] {
        listen(port, tcp::dialogue).await?;
    }
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    for port in [ports::TLS, ports::TLS_UNDECLARED] {
        let (acceptor, server) = (acceptor.clone(), server.clone());
        listen(port, move |stream| tls::answer(stream, acceptor.clone(), server.clone())).await?;
    }
    listen(ports::FORWARD_PROXY, tcp::forward).await?;
    println!("listening at every port");
    let mut terminate = signal(SignalKind::terminate())?;
    terminate.recv().await;
    Ok(())
}

async fn listen<F, A>(port: u16, answer: F) -> anyhow::Result<()>
where
    F: Fn(TcpStream) -> A + Send + 'static,
    A: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let listener = match TcpListener::bind(("::", port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port))
            .await
            .with_context(|| format!("failed to listen at port {port}"))?,
    };
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // A peer that ends its connection early is no error of the server.
                Ok((stream, _)) => drop(tokio::spawn(answer(stream))),
                Err(error) => eprintln!("failed to accept a connection at port {port}: {error}"),
            }
        }
    });
    Ok(())
}
