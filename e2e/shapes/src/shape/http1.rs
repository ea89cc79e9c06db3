//! Shapes of HTTP/1.1.

use super::{Args, raw::Raw};
use crate::ports;

async fn get(raw: &mut Raw) -> anyhow::Result<u16> {
    raw.head("GET /", &[]).await?;
    Ok(raw.response(false).await?.status)
}

async fn at(args: &Args, port: u16) -> anyhow::Result<String> {
    let mut raw = Raw::connect(args, port).await?;
    Ok(format!("{} {}", get(&mut raw).await?, get(&mut raw).await?))
}

pub async fn kept(args: Args) -> anyhow::Result<String> {
    at(&args, ports::HTTP).await
}

pub async fn undeclared(args: Args) -> anyhow::Result<String> {
    at(&args, ports::HTTP_UNDECLARED).await
}

pub async fn privileged(args: Args) -> anyhow::Result<String> {
    at(&args, ports::PRIVILEGED).await
}

pub async fn closed(args: Args) -> anyhow::Result<String> {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(&args, ports::HTTP).await?;
        raw.head("GET /", &["Connection: close"]).await?;
        seen.push(raw.response(false).await?.status.to_string());
    }
    Ok(seen.join(" "))
}

pub async fn pipelined(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    for path in ["GET /status/201", "GET /", "GET /status/404"] {
        raw.head(path, &[]).await?;
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(raw.response(false).await?.status.to_string());
    }
    Ok(seen.join(" "))
}

pub async fn chunked(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    raw.head("POST /upload", &["Transfer-Encoding: chunked"]).await?;
    for _ in 0..3 {
        raw.send(&format!("3e8\r\n{}\r\n", ".".repeat(1000))).await?;
    }
    raw.send("0\r\n\r\n").await?;
    let sent = String::from_utf8(raw.response(false).await?.body)?;
    raw.head("GET /bytes/150000", &[]).await?;
    let received = raw.response(false).await?.body.len();
    Ok(format!("sent {sent} bytes, received {received}"))
}

pub async fn without_bodies(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    let mut seen = Vec::new();
    for (request, bodiless) in
        [("HEAD /bytes/10", true), ("GET /status/204", false), ("GET /status/304", false), ("GET /", false)]
    {
        raw.head(request, &[]).await?;
        seen.push(raw.response(bodiless).await?.status.to_string());
    }
    Ok(seen.join(" "))
}

pub async fn expect(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    raw.head("POST /upload", &["Content-Length: 4", "Expect: 100-continue"]).await?;
    let (interim, _) = raw.response_head().await?;
    raw.send("body").await?;
    Ok(format!("{interim}, then {}", raw.response(false).await?.status))
}

pub async fn expect_refused(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    raw.head("POST /refuse", &["Content-Length: 4", "Expect: 100-continue"]).await?;
    let (first, _) = raw.response_head().await?;
    if first != 100 {
        return Ok(first.to_string());
    }
    raw.send("body").await?;
    Ok(format!("100, then {}", raw.response(false).await?.status))
}

pub async fn response_trailers(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    raw.head("GET /trailers", &["TE: trailers"]).await?;
    Ok(format!("trailers {:?}", raw.response(false).await?.trailers))
}

pub async fn request_trailers(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    raw.head("POST /request", &["Transfer-Encoding: chunked", "Trailer: x-sum"]).await?;
    raw.send("4\r\nbody\r\n0\r\nx-sum: abc\r\n\r\n").await?;
    Ok(format!("the server saw {}", String::from_utf8(raw.response(false).await?.body)?))
}

pub async fn absolute(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::HTTP).await?;
    let url = format!("GET http://{}:{}/request", args.server, ports::HTTP);
    raw.head(&url, &[]).await?;
    let seen = String::from_utf8(raw.response(false).await?.body)?;
    Ok(if seen.contains("http://") { "the server saw a URL" } else { "the server saw a path" }.to_owned())
}
