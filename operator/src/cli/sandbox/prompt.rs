//! The prompt of `smidge try`: turns lines of a person or of a pipe into calls, answers and edits.
//!
//! A line that cannot be understood is reported, and the next one is read. Decides nothing about the mesh.

use std::{
    env,
    io::{self, BufRead as _, Read as _, Write as _},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::{
    super::{explain::text, terminal::Shown, terminal::is_colourful},
    expect::{judged_call, line},
    explained, first_file, is_interactive,
};
use crate::{
    explain::Question,
    sandbox::{Sandbox, expectations::Expectation},
};

/// Maximum length of a line.
const LONGEST: u64 = 64 << 10;

const HELP: &str = "\
call FROM TO[:PORT] [METHOD PATH]     call a Service (NAMESPACE/NAME) over the wire
explain FROM TO[:PORT] [METHOD PATH]  show whether the call is allowed, and why
proxies                               list the workloads with address, ports and memory of the proxy
edit                                  edit the manifests; they are in force once they are saved
help                                  show this text
quit                                  end the sandbox
";

/// Reads lines to the end of the input, or to `quit`.
pub fn run(sandbox: &Sandbox) -> anyhow::Result<u8> {
    if is_interactive() {
        print!("{} workloads run.\n{HELP}", sandbox.workloads().len());
    }
    let mut input = io::stdin().lock();
    loop {
        if is_interactive() {
            print!("smidge> ");
            io::stdout().flush()?;
        }
        let mut typed = String::new();
        if (&mut input).take(LONGEST).read_line(&mut typed)? == 0 {
            return Ok(0);
        }
        let words: Vec<&str> = typed.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["quit" | "exit"] => return Ok(0),
            words => {
                if let Err(error) = obey(sandbox, words) {
                    println!("error: {}", Shown(&format!("{error:#}")));
                }
            }
        }
    }
}

fn obey(sandbox: &Sandbox, words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["help"] => print!("{HELP}"),
        ["proxies"] => proxies(sandbox),
        ["edit"] => edit(sandbox)?,
        ["call", from, to, request @ ..] => {
            let (judgement, _) = judged_call(sandbox, call(from, to, request)?)?;
            println!("{}", line(&judgement, is_colourful()));
            if judgement.contradicts {
                eprintln!(
                    "`smidge explain` answers {}: it may be that an edit is not in force yet; if it stays, please report \
                     it as a bug of Smidge",
                    judgement.explain.as_str()
                );
            }
        }
        ["explain", from, to, request @ ..] => {
            let Expectation { to, port, method, path, .. } = call(from, to, request)?;
            let from = sandbox.workload(from)?.full_name();
            let question = Question { from, to, port, method, path, ..Question::default() };
            text::print(&explained(sandbox.served(), &question)?, is_colourful(), &mut io::stdout().lock())?;
        }
        [other, ..] => bail!("{other:?} is no command of the prompt (hint: help)"),
        [] => {}
    }
    Ok(())
}

fn call(from: &str, to: &str, request: &[&str]) -> anyhow::Result<Expectation> {
    let prefix = to.find('/').unwrap_or(0);
    let (head, tail) = to.split_at(prefix);
    let (to, port) = match tail.split_once(':') {
        Some((tail, port)) => (format!("{head}{tail}"), Some(port.parse().context("expected TO:PORT")?)),
        None => (to.to_owned(), None),
    };
    let open = Expectation::open(from.to_owned(), to, port);
    match request {
        [] => Ok(open),
        [method, path] => {
            Ok(Expectation { method: Some((*method).to_owned()), path: Some((*path).to_owned()), ..open })
        }
        _ => bail!("expected FROM TO, or FROM TO METHOD PATH"),
    }
}

fn proxies(sandbox: &Sandbox) {
    for (workload, memory) in sandbox.workloads().iter().zip(sandbox.memory()) {
        let ports: Vec<String> = workload.listens.iter().map(ToString::to_string).collect();
        let memory = memory.resident.map_or("ended".to_owned(), |it| format!("{} MiB", it.div_ceil(1024)));
        println!(
            "{}  {}  ports {}  {memory}",
            Shown(&workload.full_name()),
            workload.address,
            ports.join(",")
        );
    }
}

/// Opens the manifests in the editor of the user.
fn edit(sandbox: &Sandbox) -> anyhow::Result<()> {
    let file = first_file(&sandbox.served().manifests().paths);
    let file = file.context("the manifests came from standard input (hint: -f FILE)")?;
    let editor = env::var("VISUAL").or_else(|_| env::var("EDITOR")).unwrap_or_else(|_| "vi".to_owned());
    // As other programs do: the variable may have arguments.
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(file).status()?;
    if !status.success() {
        bail!("{editor} ended with {status}");
    }
    Ok(())
}
