//! Example application: a bookstore whose parts are roles of one program, and two clients to inspect it.
//!
//! `bookbuyer` and `bookthief` call `bookstore`, which restocks from `bookwarehouse` over HTTP, which counts in `store`
//! over TCP. `call` and `dial` are the load clients of demonstrations and tests; `patient` has a health check of every
//! kind and can be made unhealthy. Nothing here depends on a mesh.

use clap::{Parser, Subcommand};

mod buyer;
mod call;
mod connection;
mod dial;
mod doorbell;
mod patient;
mod serve;
mod shop;
mod store;
mod warehouse;

/// A bookstore with roles.
#[derive(Debug, Parser)]
#[command(name = "bookstore", version, about)]
struct Cli {
    /// Role of this process.
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Sell books: GET /books, POST /buy.
    Bookstore(shop::Args),
    /// Buy books in a loop, and count.
    Bookbuyer(buyer::Args),
    /// Take books in a loop, and count: the same caller under a name that no policy allows.
    Bookthief(buyer::Args),
    /// Restock the bookstore from the store: POST /restock, GET /stock.
    Bookwarehouse(warehouse::Args),
    /// Count things over TCP, a line at a time.
    Store(store::Args),
    /// Send HTTP requests and report the outcomes.
    Call(call::Args),
    /// Hold one TCP connection and report how it ended.
    Dial(dial::Args),
    /// Serve health checks of every kind, and become unhealthy on request.
    Patient(patient::Args),
    /// Make the patient of this pod ill or well, or query its state.
    Health(patient::HealthArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().role {
        Role::Bookstore(args) => shop::run(args).await,
        Role::Bookbuyer(args) => buyer::run(args, "bought").await,
        Role::Bookthief(args) => buyer::run(args, "stolen").await,
        Role::Bookwarehouse(args) => warehouse::run(args).await,
        Role::Store(args) => store::run(args).await,
        Role::Call(args) => call::run(args).await,
        Role::Dial(args) => dial::run(args).await,
        Role::Patient(args) => patient::run(args).await,
        Role::Health(args) => patient::health(args).await,
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
