//! Shapes of large heads and bodies.

use std::{convert::Infallible, time::Instant};

use axum::body::{Body, Bytes};
use futures::stream;
use hyper::Request;

use super::{Args, connection, raw::Raw};
use crate::ports;

const PART: usize = 64 * 1024;

pub async fn request_head(args: Args, size: usize) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    let value = format!("x-large: {}", "h".repeat(size));
    // A server that refuses the head may close the connection before it has read all of it.
    let _ = raw.head("GET /request", &[&value]).await;
    Ok(raw.response_head().await?.0.to_string())
}

pub async fn response_head(args: Args, size: usize) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    raw.head(&format!("GET /head/{size}"), &[]).await?;
    let (status, lines) = raw.response_head().await?;
    let value = lines.iter().find_map(|line| line.strip_prefix("x-large: "));
    Ok(format!("{status}, a header of {} bytes", value.map_or(0, str::len)))
}

/// Reports whether the whole body arrived and, on standard error, how long it took.
fn report(args: &Args, size: usize, started: Instant) -> String {
    eprintln!("{size} bytes in {} ms", started.elapsed().as_millis());
    format!("all of it arrived: {}", size == args.body << 20)
}

pub async fn upload(args: Args) -> anyhow::Result<String> {
    let started = Instant::now();
    let size = args.body << 20;
    let part = Bytes::from(vec![b'.'; PART]);
    let parts = (0..size / PART).map(move |_| Ok::<_, Infallible>(part.clone()));
    let body = Body::from_stream(stream::iter(parts));
    let request = Request::post("/upload").header("host", &args.server).body(body)?;
    let (_, answer) = connection::http1(&args, ports::HTTP, request).await?;
    Ok(report(&args, String::from_utf8(answer.to_vec())?.parse()?, started))
}

pub async fn download(args: Args) -> anyhow::Result<String> {
    let started = Instant::now();
    let request = Request::get(format!("/bytes/{}", args.body << 20))
        .header("host", &args.server)
        .body(Body::empty())?;
    let size = connection::count(&args, ports::HTTP, request).await?;
    Ok(report(&args, size, started))
}
