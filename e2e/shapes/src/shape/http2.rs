//! Shapes of HTTP/2 without TLS, and of gRPC.

use std::{collections::BTreeMap, time::Duration};

use axum::body::Body;
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use hyper::Request;
use tonic::Code;

use super::{Args, connection};
use crate::{grpc::Client, ports};

fn get(args: &Args, port: u16, path: &str) -> anyhow::Result<Request<Body>> {
    Ok(Request::get(format!("http://{}:{port}{path}", args.server)).body(Body::empty())?)
}

async fn at(args: &Args, port: u16) -> anyhow::Result<String> {
    let sender = connection::http2(args.connect(port).await?).await?;
    let requests = (0..4).map(|_| {
        let mut sender = sender.clone();
        async move {
            let response = sender.send_request(get(args, port, "/")?).await?;
            anyhow::Ok(response.status().as_u16().to_string())
        }
    });
    Ok(try_join_all(requests).await?.join(" "))
}

pub async fn at_http(args: Args) -> anyhow::Result<String> {
    at(&args, ports::HTTP).await
}

pub async fn undeclared(args: Args) -> anyhow::Result<String> {
    at(&args, ports::HTTP_UNDECLARED).await
}

pub async fn response_trailers(args: Args) -> anyhow::Result<String> {
    let mut sender = connection::http2(args.connect(ports::HTTP).await?).await?;
    let response = sender.send_request(get(&args, ports::HTTP, "/trailers")?).await?;
    let collected = response.into_body().collect().await?;
    let sum = collected.trailers().and_then(|trailers| trailers.get("x-sum"));
    Ok(format!("trailer {sum:?}"))
}

async fn client(args: &Args) -> anyhow::Result<Client> {
    Client::connect(&args.server, ports::GRPC).await
}

pub async fn unary(args: Args) -> anyhow::Result<String> {
    let answered = !client(&args).await?.unary().await?.is_empty();
    Ok(format!("answered {answered}"))
}

pub async fn down(args: Args) -> anyhow::Result<String> {
    Ok(format!("{} responses", client(&args).await?.down().await?))
}

pub async fn up(args: Args) -> anyhow::Result<String> {
    Ok(format!("{} requests", client(&args).await?.up().await?))
}

pub async fn both(args: Args) -> anyhow::Result<String> {
    Ok(format!("{} messages back", client(&args).await?.both().await?))
}

pub async fn deadlines(args: Args) -> anyhow::Result<String> {
    let mut client = client(&args).await?;
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..20 {
        let end = match client.deadline(Duration::from_millis(20)).await? {
            // Tonic's name for its own timer, which may be first.
            Code::Cancelled | Code::DeadlineExceeded => "deadline exceeded".to_owned(),
            code => format!("{code:?}"),
        };
        *seen.entry(end).or_default() += 1;
    }
    Ok(seen.iter().map(|(end, count)| format!("{end}: {count}")).collect::<Vec<_>>().join(", "))
}
