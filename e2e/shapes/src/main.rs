//! Server and client of every shape of traffic: HTTP/1.1 and its corners, HTTP/2, gRPC, WebSocket, streams of bytes, servers
//! that send first, TLS of the application, a forward proxy.
//!
//! `serve` listens for all of them; `try` makes the calls and prints one line of JSON for each, with what the client and the
//! server saw. Nothing here depends on a mesh: whether an outcome is right is for the caller to say.

use clap::{Parser, Subcommand};

mod grpc;
mod http;
mod ports;
mod serve;
mod shape;
mod tcp;
mod tls;

/// Traffic of every shape.
#[derive(Debug, Parser)]
#[command(name = "shapes", version, about)]
struct Cli {
    /// Role of this process.
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Listen at every port, until a signal ends the process.
    Serve(serve::Args),
    /// Call a server in every shape, and print the outcomes.
    Try(shape::Args),
    /// Print the ports of the server as ports of a Service.
    Ports,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().role {
        Role::Serve(args) => serve::run(args).await,
        Role::Try(args) => shape::run(args).await,
        Role::Ports => {
            println!("{}", ports::of_a_service());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
