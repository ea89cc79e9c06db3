//! Runs one command of the container runtime: passes the network of a pod that is to be redirected to the agent.
//!
//! Runs on the node, as its root, in the node's file system, and starts no program there. Pods without the annotation pass
//! without the agent, so that nothing outside of the mesh depends on it. Does not apply rules.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};
use serde_json::Value;

use super::{
    message::{Action, MAX_MESSAGE, Request, Response, line},
    protocol::{Attachment, CniError, Code, Command, Config, MAX_INPUT, newest, versions},
};

/// Time limit for the agent to accept and to read.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for the agent's answer; it gives up on its tools before.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Network namespace of this process: the node's.
const OWN: &str = "/proc/self/ns/net";

/// Output of a command.
#[derive(Debug)]
pub struct Output {
    /// Text for standard output; empty if the command has none.
    pub text: String,
    /// True if the command failed.
    pub is_error: bool,
}

/// Runs the command that the environment names, with the configuration on `input`.
pub fn run(variable: impl Fn(&str) -> Option<String>, input: impl Read) -> Output {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that the input is too long.
    let limit = u64::try_from(MAX_INPUT).unwrap_or(u64::MAX).saturating_add(1);
    let read = input.take(limit).read_to_end(&mut bytes);
    let result = Command::read(variable("CNI_COMMAND").as_deref()).and_then(|command| {
        read.map_err(|error| CniError::new(Code::Io, "the configuration cannot be read", error.to_string()))?;
        answer(command, variable, &bytes)
    });
    match result {
        Ok(None) => Output { text: String::new(), is_error: false },
        Ok(Some(value)) => Output { text: value.to_string(), is_error: false },
        Err(error) => {
            let version = Config::read(&bytes).map_or(newest().to_owned(), |config| config.cni_version);
            Output { text: error.to_json(&version).to_string(), is_error: true }
        }
    }
}

fn answer(
    command: Command,
    variable: impl Fn(&str) -> Option<String>,
    input: &[u8],
) -> Result<Option<Value>, CniError> {
    match command {
        // The rules end with the pod's network, so nothing is left to undo, and nothing may keep a pod from ending.
        Command::Del | Command::Gc => Ok(None),
        Command::Version => Ok(Some(versions(input))),
        // Without the agent, pods outside of the mesh still start: a node must not become unready for the agent's sake,
        // which is a pod itself.
        Command::Status => Config::read(input).map(|_| None),
        Command::Add => {
            let config = Config::read(input)?;
            let attachment = Attachment::read(variable)?;
            let result = config.result()?;
            redirect(&config, &attachment, Action::Apply)?;
            Ok(Some(result))
        }
        Command::Check => {
            let config = Config::read(input)?;
            redirect(&config, &Attachment::read(variable)?, Action::Check)?;
            Ok(None)
        }
    }
}

fn redirect(config: &Config, attachment: &Attachment, action: Action) -> Result<(), CniError> {
    let Some(redirection) = config.redirection()? else { return Ok(()) };
    let Attachment { netns, pod } = attachment;
    let failed = |code: Code, details: String| {
        CniError::new(code, format!("smidge: the traffic of {pod} is not redirected to its proxy"), details)
    };
    let opened = open(netns).map_err(|error| {
        failed(Code::Redirect, format!("failed to open its network namespace {netns:?}: {error}"))
    })?;
    let request = Request { action, pod: pod.clone(), redirection: redirection.to_text() };
    let response = exchange(Path::new(&config.socket), &request, opened.as_fd()).map_err(|error| {
        failed(
            Code::Retry,
            format!(
                "failed to reach the agent at {}: {error}; hint: is a pod of the DaemonSet smidge-cni ready on this node?",
                config.socket
            ),
        )
    })?;
    response.error.map_or(Ok(()), |error| Err(failed(Code::Redirect, error)))
}

/// Opens the network namespace of a pod. That of the node is refused: redirection would take the node's own traffic.
fn open(path: &str) -> io::Result<File> {
    let file = File::open(path)?;
    let (found, own) = (file.metadata()?, fs::metadata(OWN)?);
    if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
        return Err(io::Error::other("it is the node's own"));
    }
    Ok(file)
}

/// Sends a request with the open network namespace to the agent, and returns the agent's response.
fn exchange(socket: &Path, request: &Request, netns: BorrowedFd<'_>) -> io::Result<Response> {
    let address = SocketAddrUnix::new(socket)?;
    let descriptor = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Holds for the connection as well: the agent's queue may be full.
    set_socket_timeout(&descriptor, Timeout::Send, Some(SEND_TIMEOUT))?;
    set_socket_timeout(&descriptor, Timeout::Recv, Some(RESPONSE_TIMEOUT))?;
    connect(&descriptor, &address)?;
    let line = line(request);
    let descriptors = [netns];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no space for a descriptor"));
    }
    let sent = sendmsg(&descriptor, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = UnixStream::from(descriptor);
    stream.write_all(line.get(sent..).unwrap_or_default())?;
    let mut response = Vec::new();
    let limit = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut response)?;
    serde_json::from_slice(&response)
        .map_err(|error| io::Error::other(format!("its answer cannot be read: {error}")))
}
