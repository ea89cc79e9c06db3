//! `smidge status`: shows the status of the objects and proxies of a control plane without an API server.
//!
//! Asks the debug pages of the running process, with the token of its state folder. Adds no rule: the conditions are
//! those that `smidge run` would write to an API server.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smidge_crds::status::Status;
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};
use zeroize::Zeroizing;

use super::{
    output::Output,
    terminal::{Colour, Shown, coloured, is_colourful},
};
use crate::{
    admin::{status::ObjectStatus, token},
    ca::{
        Secrets, StoreError,
        root::{self, RootError},
    },
    status::conditions::{READY, of},
};

/// Time limit of a page.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a page, in bytes.
const LIMIT: usize = 64 << 20;

/// Arguments of `smidge status`.
///
/// Exit status: 0 every object is ready, 1 an object is not or there are errors, 2 the control plane did not answer.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder of the control plane's state.
    #[arg(long, env = "SMIDGE_STATE_DIR", value_name = "DIR")]
    pub state: PathBuf,
    /// Address of its pages.
    #[arg(long, env = "SMIDGE_ADMIN_LISTEN", default_value = "127.0.0.1:15014")]
    pub address: SocketAddr,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Print the token for the debug pages (`Authorization: Bearer TOKEN`), and ask nothing.
    #[arg(long)]
    pub print_token: bool,
}

/// Errors of asking.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error(transparent)]
    State(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] RootError),
    #[error("failed to set up the process")]
    Process(#[source] io::Error),
    #[error(
        "no control plane answers at {address} (hint: is `smidge run --dir` running, with this --admin-listen?)"
    )]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("failed to read {page}")]
    Http {
        page: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{page} was answered with {status}: {words}")]
    Refused { page: &'static str, status: StatusCode, words: String },
}

/// The pages together.
#[derive(Debug, Serialize)]
struct Report {
    objects: Vec<ObjectStatus>,
    findings: Vec<Value>,
    proxies: Vec<Value>,
}

/// Runs `smidge status`.
pub fn run(args: Args) -> ExitCode {
    let Args { state, address, output, print_token } = args;
    let asked = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let token = token(&state).await?;
            if print_token {
                return Ok(Asked::Token(token));
            }
            read(address, &token).await.map(Asked::Report)
        })
    });
    let report = match asked {
        Ok(Asked::Report(report)) => report,
        Ok(Asked::Token(token)) => {
            return ExitCode::from(if writeln!(io::stdout(), "{}", *token).is_ok() { 0 } else { 2 });
        }
        Err(error) => {
            eprintln!("error: {:#}", anyhow::Error::from(error));
            return ExitCode::from(2);
        }
    };
    if output.write(&report, |out| print(&report, is_colourful(), out)).is_err() {
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(!report.is_ready()))
}

/// Answer to the user: the pages, or the token.
enum Asked {
    Report(Report),
    Token(Zeroizing<String>),
}

fn runtime() -> Result<Runtime, StatusError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StatusError::Process)
}

/// Derives the token from the state, which must exist.
async fn token(state: &Path) -> Result<Zeroizing<String>, StatusError> {
    let secrets = Secrets::existing_folder(state).await?;
    let key = root::existing_mesh_key(&secrets).await?;
    Ok(token::text(key.debug_key().as_slice()))
}

async fn read(address: SocketAddr, token: &str) -> Result<Report, StatusError> {
    Ok(Report {
        objects: page(address, token, "/debug/status").await?,
        findings: page(address, token, "/debug/findings").await?,
        proxies: page(address, token, "/debug/proxies").await?,
    })
}

async fn page<T: for<'de> Deserialize<'de>>(
    address: SocketAddr,
    token: &str,
    page: &'static str,
) -> Result<T, StatusError> {
    let failed = |source| StatusError::Http { page, source };
    let stream =
        TcpStream::connect(address).await.map_err(|source| StatusError::Connect { address, source })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.into()))?;
    tokio::spawn(connection);
    let request = Request::get(page)
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.into()))?;
    let answer = timeout(TIMEOUT, async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await?.to_bytes();
        Ok((status, body))
    });
    let (status, body) = answer.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
    if status != StatusCode::OK {
        let words = String::from_utf8_lossy(&body).trim().to_owned();
        return Err(StatusError::Refused { page, status, words });
    }
    serde_json::from_slice(&body).map_err(|error| failed(error.into()))
}

impl Report {
    fn is_ready(&self) -> bool {
        let is_ready = |object: &ObjectStatus| object.status.as_ref().is_some_and(is_ready);
        let is_error = |finding: &Value| finding.get("severity").and_then(Value::as_str) == Some("error");
        self.objects.iter().all(is_ready) && !self.findings.iter().any(is_error)
    }
}

fn is_ready(status: &Status) -> bool {
    of(status, READY).is_some_and(|condition| condition.status == "True")
}

fn print(report: &Report, is_colourful: bool, out: &mut impl Write) -> io::Result<()> {
    let name = |object: &ObjectStatus| match object.namespace.as_str() {
        "" => format!("{} {}", object.kind, object.name),
        namespace => format!("{} {namespace}/{}", object.kind, object.name),
    };
    let width = report.objects.iter().map(|object| name(object).chars().count()).max().unwrap_or(0).min(60);
    for object in &report.objects {
        let ready = object.status.as_ref().and_then(|status| of(status, READY));
        let (word, colour) = match ready {
            Some(ready) if ready.status == "True" => ("ready    ", Colour::Green),
            Some(_) => ("not ready", Colour::Red),
            None => ("pending  ", Colour::Yellow),
        };
        let message = ready.map(|ready| ready.message.as_str()).unwrap_or_default();
        let word = coloured(word, colour, is_colourful);
        writeln!(out, "{:width$}  {word}  {}", Shown(&name(object)).to_string(), Shown(message))?;
    }
    for finding in &report.findings {
        let text = |field: &str| finding.get(field).and_then(Value::as_str).unwrap_or_default();
        let of = |field: &str| finding.pointer(&format!("/object/{field}")).and_then(Value::as_str);
        let colour = if text("severity") == "error" { Colour::Red } else { Colour::Yellow };
        let namespace = of("namespace").map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let object =
            format!("{} {namespace}{}", of("kind").unwrap_or_default(), of("name").unwrap_or_default());
        let field = Some(text("field")).filter(|field| !field.is_empty());
        let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
        let line = format!("{object}: {field}{} [{}]", text("message"), text("reason"));
        writeln!(out, "{}: {}", coloured(text("severity"), colour, is_colourful), Shown(&line))?;
    }
    let settled = |proxy: &&Value| proxy.get("settled").and_then(Value::as_bool) == Some(true);
    let number = report.proxies.iter().filter(settled).count();
    writeln!(out, "{} proxies connected, {number} up to date", report.proxies.len())
}
