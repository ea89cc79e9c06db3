//! `smidge try`: turns manifests into a running sandbox, and runs a command, expectations or a prompt in it.
//!
//! Finds the programs that `sandbox` runs. Decides nothing about the mesh: what it reports is what the wire has, beside
//! the answers of `explain`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::IsTerminal as _,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context as _, bail};

use super::{
    manifests::Manifests,
    output::Output,
    terminal::{Shown, is_colourful},
};
use crate::{
    documents::{Unreadable, cluster},
    explain::{Answer, Question},
    sandbox::{
        Sandbox,
        follow::{self, Served},
        plan::{MOST_WORKLOADS, adapted, plan},
        processes::Programs,
    },
    source::files,
};

mod expect;
pub mod part;
mod prompt;

/// Arguments of `smidge try`.
///
/// Each workload of the manifests (one instance of a Deployment, for example) runs as a stock Envoy and a server that answers
/// with the name of the workload, in a network of its own on this machine. Edits of the manifests are in force at once.
/// Needs root or user namespaces, and unshare, nsenter, ip, mount and nft or iptables.
///
/// Exit status: that of the command; with --expect 0 as expected, 1 not as expected, 3 the wire and `smidge explain`
/// contradict each other; 2 the sandbox could not be started.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The manifests.
    #[command(flatten)]
    pub manifests: Manifests,
    /// A workload (NAMESPACE/WORKLOAD, or WORKLOAD if only one has the name) and a command to run in its network.
    #[arg(last = true, value_names = ["FROM", "COMMAND"], num_args = 2..)]
    pub command: Vec<OsString>,
    /// YAML file with calls and their expected outcomes.
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub expect: Option<PathBuf>,
    /// Maximum number of workloads, each of which takes the memory of an Envoy.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_WORKLOADS)))]
    pub max_workloads: u32,
    /// The Envoy to run. Defaults to the one in PATH, or else the newest in ~/.cache/smidge/bin/envoy-*.
    #[arg(long, env = "ENVOY", value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Output format of --expect.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Runs `smidge try`.
#[allow(clippy::boxed_local, reason = "the arguments of all commands are one enum")]
pub fn run(args: Box<Args>) -> ExitCode {
    match run_or_fail(*args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", Shown(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

fn run_or_fail(args: Args) -> anyhow::Result<u8> {
    let Args { manifests: Manifests { filename, namespace }, command, expect, max_workloads, envoy, output } =
        args;
    if filename.is_empty() {
        bail!("expected manifests (hint: -f FILE, -f FOLDER, or -f - for standard input)");
    }
    let reads_input = filename.iter().any(|path| path.as_os_str() == "-");
    if reads_input && command.is_empty() && expect.is_none() {
        bail!("-f - leaves no input for the prompt (hint: pass --expect FILE, or -- FROM COMMAND)");
    }
    // Before anything is started.
    let expectations = expect.as_deref().map(expect::read).transpose()?;
    let programs = programs(envoy)?;
    let (manifests, mut unreadable) = follow::Manifests::open(filename, namespace);
    let (documents, broken) = manifests.read();
    unreadable.extend(broken);
    report_unreadable(&unreadable);
    if !unreadable.is_empty() {
        bail!("the manifests cannot be read");
    }
    // The control plane takes the rest without them.
    report_unreadable(&cluster(&documents).unreadable);
    let plan = plan(&documents, max_workloads)?;
    for note in &plan.notes {
        eprintln!("note: {}", Shown(note));
    }
    let report = |text: String| text.lines().for_each(|line| eprintln!("note: {}", Shown(line)));
    let sandbox = Sandbox::start(manifests, plan, programs, report)?;
    if let Some(expectations) = expectations {
        return expect::run(&sandbox, expectations, output);
    }
    let mut words = command.into_iter();
    let Some(from) = words.next() else { return prompt::run(&sandbox) };
    let from = from.to_str().context("FROM is not UTF-8")?.to_owned();
    let folder = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let status = sandbox.run(sandbox.workload(&from)?, &words.collect::<Vec<_>>(), &folder)?;
    Ok(code(status))
}

/// Returns the exit code that a shell has for a status.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

fn report_unreadable(unreadable: &[Unreadable]) {
    for problem in unreadable {
        eprintln!("unreadable: {}", Shown(&problem.to_string()));
    }
}

/// Returns the answer of `explain` for the manifests as they are now.
fn explained(served: &Served, question: &Question) -> anyhow::Result<Answer> {
    let (documents, _) = served.manifests().read();
    Ok(super::explain::answer(cluster(&adapted(&documents)), question)?)
}

/// Finds the programs of a sandbox.
fn programs(envoy: Option<PathBuf>) -> anyhow::Result<Programs> {
    let mut path = env::var_os("PATH").unwrap_or_default();
    let envoy = envoy
        .or_else(|| env::split_paths(&path).map(|folder| folder.join("envoy")).find(|it| it.is_file()))
        .or_else(cached)
        .context("found no envoy (hint: put one into PATH, or pass --envoy PATH; 1.36 or later)")?;
    let envoy =
        fs::canonicalize(&envoy).with_context(|| format!("failed to find --envoy {}", envoy.display()))?;
    // Users other than root often lack the folders of `ip` and `nft`.
    path.push(":/usr/sbin:/sbin");
    let smidge = env::current_exe().context("failed to find this program")?;
    Ok(Programs { smidge, envoy, path })
}

/// Returns the newest Envoy in the cache.
fn cached() -> Option<PathBuf> {
    let named = env::var_os("SMIDGE_CACHE").map(PathBuf::from);
    let cache = named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/smidge")))?;
    let folders = fs::read_dir(cache.join("bin")).ok()?.flatten();
    let found = folders.filter_map(|folder| {
        let name = folder.file_name().into_string().ok()?;
        let version: Vec<u32> =
            name.strip_prefix("envoy-")?.split('.').filter_map(|part| part.parse().ok()).collect();
        let path = folder.path().join("envoy");
        path.is_file().then_some((version, path))
    });
    found.max().map(|(_, path)| path)
}

/// Returns true if a person types the input.
fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}

/// Returns the first file of the manifests: of a folder, the first one that is read.
fn first_file(paths: &[PathBuf]) -> Option<PathBuf> {
    files::read(paths).0.into_iter().next().map(|source| PathBuf::from(source.name))
}

/// Returns true if output may be coloured.
fn has_colour(output: Output) -> bool {
    output == Output::Text && is_colourful()
}
