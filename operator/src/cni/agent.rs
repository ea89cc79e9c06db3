//! Applies rules in the networks of pods, for the plugin on the same node.
//!
//! Runs in the DaemonSet, with SYS_ADMIN to enter a network and NET_ADMIN to change it, and without credentials for the
//! API server. Only root of the node reaches its socket, by the modes of its folder and file. For each request a thread enters the network that the plugin has
//! opened, and runs `smidge redirect` there, so that the rules are those of the init container. A fixed number of requests
//! is served at once, each within a time limit. Reads no path from a request.

use std::{
    fs, io,
    io::{IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Signal, kill_process_group},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::message::{Action, MAX_MESSAGE, Request, Response, line};
use crate::redirect::request::Redirection;

/// Requests that are served at once; others wait in the socket's queue.
const WORKERS: usize = 4;
/// Time limit for a plugin to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit of the tools for one pod.
const TOOLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a running tool is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum size of a tool's messages, in bytes; the rest is dropped.
const MAX_OUTPUT: u64 = 1024;

/// Errors of the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket could not be made.
    #[error("failed to listen on {}: {source}", path.display())]
    Listen {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A client connected and sent nothing, as a probe does.
    #[error("there was no request")]
    Empty,
    /// A request could not be read.
    #[error("failed to read a request: {0}")]
    Request(#[source] io::Error),
    /// The rules could not be applied.
    #[error("{0}")]
    Apply(String),
}

/// Listens on the socket, and serves requests on threads of its own until the process ends.
pub fn start(socket: &Path) -> Result<(), AgentError> {
    let failed = |source| AgentError::Listen { path: socket.to_owned(), source };
    let listener = listen(socket).map_err(failed)?;
    for _ in 0..WORKERS {
        let listener = listener.try_clone().map_err(failed)?;
        thread::Builder::new().name("cni-agent".to_owned()).spawn(move || work(&listener)).map_err(failed)?;
    }
    Ok(())
}

/// Makes the socket, for root alone.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn work(listener: &UnixListener) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => serve(stream),
            Err(error) => {
                eprintln!("smidge: failed to accept a request: {error}");
                thread::park_timeout(POLL_INTERVAL);
            }
        }
    }
}

fn serve(mut stream: UnixStream) {
    let outcome = read(&stream).and_then(|(request, netns)| {
        let Request { action, pod, redirection } = request;
        let done = act(action, &redirection, netns);
        match &done {
            Ok(()) => eprintln!("smidge: {action:?}: {pod}: its traffic is redirected"),
            Err(error) => eprintln!("smidge: {action:?}: {pod}: {error}"),
        }
        done
    });
    if let Err(error @ AgentError::Request(_)) = &outcome {
        eprintln!("smidge: {error}");
    }
    let response = Response { error: outcome.err().map(|error| error.to_string()) };
    // A plugin that has gone needs no answer: the runtime asks again.
    let _ = stream.write_all(&line(&response));
}

/// Reads a request and the network namespace that comes with its first byte.
fn read(stream: &UnixStream) -> Result<(Request, OwnedFd), AgentError> {
    let invalid = |why: &str| AgentError::Request(io::Error::other(why.to_owned()));
    let failed = |error: rustix::io::Errno| AgentError::Request(error.into());
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(AgentError::Request)?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT)).map_err(AgentError::Request)?;
    let end = Instant::now() + REQUEST_TIMEOUT;
    let (mut bytes, mut netns) = (Vec::new(), None);
    while bytes.last() != Some(&b'\n') {
        if bytes.len() > MAX_MESSAGE || Instant::now() > end {
            return Err(invalid("it is too long, or came too slowly"));
        }
        let mut part = [0_u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut part)], &mut control, RecvFlags::CMSG_CLOEXEC)
                .map_err(failed)?
                .bytes;
        if received == 0 && bytes.is_empty() {
            return Err(AgentError::Empty);
        }
        if received == 0 {
            return Err(invalid("it ended early"));
        }
        bytes.extend(part.get(..received).unwrap_or_default());
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                netns = descriptors.last().or(netns);
            }
        }
    }
    let request = serde_json::from_slice(&bytes).map_err(|error| AgentError::Request(error.into()))?;
    Ok((request, netns.ok_or_else(|| invalid("it has no network namespace"))?))
}

/// Enters the network on a thread of its own, and acts there. Processes that the thread starts are in that network.
fn act(action: Action, redirection: &str, netns: OwnedFd) -> Result<(), AgentError> {
    let redirection: Redirection =
        redirection.parse().map_err(|error| AgentError::Apply(format!("the redirection {error}")))?;
    let entered = move || {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|error| {
            AgentError::Apply(format!(
                "failed to enter the pod's network: {error} (hint: the agent needs the capability SYS_ADMIN)"
            ))
        })?;
        match action {
            Action::Apply => apply(&redirection),
            Action::Check => check(&redirection),
        }
    };
    let thread = thread::Builder::new().name("cni-pod".to_owned()).spawn(entered);
    let thread = thread.map_err(|error| AgentError::Apply(format!("failed to start a thread: {error}")))?;
    thread.join().unwrap_or_else(|_| Err(AgentError::Apply("the agent failed".to_owned())))
}

fn apply(redirection: &Redirection) -> Result<(), AgentError> {
    let program = std::env::current_exe()
        .map_err(|error| AgentError::Apply(format!("failed to find this program: {error}")))?;
    let mut command = Command::new(program);
    command.args(["redirect", "--record"]).args(redirection.to_args());
    run(command).map(drop)
}

fn check(redirection: &Redirection) -> Result<(), AgentError> {
    let mut command = Command::new("ip");
    command.args(["link", "show", "dev", "lo"]);
    let (found, expected) = (run(command)?, redirection.digest());
    if found.contains(&expected) {
        return Ok(());
    }
    Err(AgentError::Apply(format!(
        "the loopback interface of the pod has not the alias {expected}: {}",
        found.trim()
    )))
}

/// Runs a program within the time limit, and ends it and what it started otherwise; returns its messages.
fn run(mut command: Command) -> Result<String, AgentError> {
    let failed = |error: io::Error| AgentError::Apply(format!("failed to run a tool: {error}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let readers = [collect(child.stdout.take()), collect(child.stderr.take())];
    let end = Instant::now() + TOOLS_TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() > end {
            kill(&mut child);
            return Err(AgentError::Apply(format!(
                "the tools did not end within {} s",
                TOOLS_TIMEOUT.as_secs()
            )));
        }
        thread::park_timeout(POLL_INTERVAL);
    };
    let texts: String = readers.into_iter().flatten().filter_map(|reader| reader.join().ok()).collect();
    if status.success() { Ok(texts) } else { Err(AgentError::Apply(texts.trim().to_owned())) }
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Reads an output on a thread of its own, so that a tool that writes much does not wait.
fn collect(output: Option<impl io::Read + Send + 'static>) -> Option<thread::JoinHandle<String>> {
    let mut output = output?;
    thread::Builder::new()
        .spawn(move || {
            let mut bytes = Vec::new();
            // What was read until an error is shown.
            let _ = output.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            let _ = io::copy(&mut output, &mut io::sink());
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .ok()
}
