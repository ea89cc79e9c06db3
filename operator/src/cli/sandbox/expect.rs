//! `smidge try --expect`: turns expectations into calls in a sandbox, and prints the judgement of each.
//!
//! `sandbox::expectations` judges. Each verdict of the wire is compared with that of `explain` as well.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, bail};

use super::{
    super::{
        explain::text,
        terminal::{Colour, Shown, coloured},
    },
    Output, explained, has_colour,
};
use crate::{
    explain::{Answer, Verdict},
    sandbox::{
        Sandbox,
        call::{Calls, Protocol},
        expectations::{self, Answers, Expectation, Judgement, judge, target},
    },
};

/// Maximum size of a file of expectations, in bytes.
const LONGEST: u64 = 4 << 20;

/// Reads a file of expectations.
pub fn read(path: &Path) -> anyhow::Result<Vec<Expectation>> {
    let failed = || format!("failed to read --expect {}", path.display());
    if fs::metadata(path).with_context(failed)?.len() > LONGEST {
        bail!("--expect {} is longer than {LONGEST} bytes", path.display());
    }
    let text = fs::read_to_string(path).with_context(failed)?;
    expectations::read(&text).with_context(|| format!("--expect {}", path.display()))
}

/// Makes the calls and prints the judgements. Returns the exit status: 0 as expected, 1 not as expected, 3 the wire and
/// `explain` contradict each other.
pub fn run(sandbox: &Sandbox, all: Vec<Expectation>, output: Output) -> anyhow::Result<u8> {
    let mut stdout = io::stdout().lock();
    let mut judged = Vec::new();
    for expectation in all {
        let (judgement, answer) = judged_call(sandbox, expectation)?;
        if output == Output::Text {
            print(&judgement, &answer, has_colour(output), &mut stdout)?;
        }
        judged.push(judgement);
    }
    // As text, each was printed when it was judged.
    output.write(&judged, |_| Ok(()))?;
    Ok(status(&judged))
}

fn status(judged: &[Judgement]) -> u8 {
    if judged.iter().any(|it| it.contradicts) {
        3
    } else {
        u8::from(judged.iter().any(|it| !it.deviations.is_empty()))
    }
}

/// Makes a call, and returns its judgement with the answer of `explain`.
pub fn judged_call(sandbox: &Sandbox, expectation: Expectation) -> anyhow::Result<(Judgement, Answer)> {
    let from = sandbox.workload(&expectation.from)?;
    let expectation = Expectation { from: from.full_name(), ..expectation };
    let address = sandbox.address(&expectation.to)?;
    let about_port = explained(sandbox.served(), &expectation.question_of_port())?;
    let Some((port, protocol)) = target(&about_port).or_else(|| Some((expectation.port?, Protocol::Http)))
    else {
        bail!("{} has no port that can be called", expectation.to);
    };
    let answer = explained(sandbox.served(), &expectation.question(port, protocol))?;
    let (namespace, name) = expectation.to.split_once('/').unwrap_or(("", &expectation.to));
    let calls = Calls {
        address,
        port,
        protocol,
        host: format!("{name}.{namespace}:{port}"),
        method: expectation.method().to_owned(),
        path: expectation.path().to_owned(),
        headers: expectation.headers.clone(),
        count: expectation.calls(&answer),
    };
    let outcome = sandbox.call(from, &calls)?;
    Ok((judge(expectation, port, answer.verdict, outcome), answer))
}

/// Prints a judgement, and where it is not as expected, the answer of `explain`.
fn print(judgement: &Judgement, answer: &Answer, is_colourful: bool, out: &mut impl Write) -> io::Result<()> {
    let is_expected = judgement.deviations.is_empty();
    let word = if is_expected && !judgement.contradicts {
        coloured("ok    ", Colour::Green, is_colourful)
    } else {
        coloured("WRONG ", Colour::Red, is_colourful)
    };
    writeln!(out, "{word}{}", line(judgement, is_colourful))?;
    for deviation in &judgement.deviations {
        writeln!(out, "      {}", Shown(deviation))?;
    }
    if judgement.contradicts {
        let text = format!(
            "the wire and `smidge explain` contradict each other: {} on the wire, {} by explain; please report this as \
             a bug of Smidge, with the manifests",
            judgement.wire.as_str(),
            judgement.explain.as_str()
        );
        writeln!(out, "      {}", coloured(&text, Colour::Red, is_colourful))?;
    }
    if is_expected && !judgement.contradicts {
        return Ok(());
    }
    let mut page = Vec::new();
    text::print(answer, false, &mut page)?;
    String::from_utf8_lossy(&page).lines().try_for_each(|line| writeln!(out, "      | {line}"))
}

/// Returns a call and its outcome in a line.
pub fn line(judgement: &Judgement, is_colourful: bool) -> String {
    let Judgement { expectation, called, wire, outcome, .. } = judgement;
    let colour = match wire {
        Verdict::Allowed => Colour::Green,
        Verdict::Partial => Colour::Yellow,
        Verdict::Denied => Colour::Red,
    };
    let Expectation { from, to, method, path, .. } = expectation;
    let request: Vec<&str> = [method, path].into_iter().flatten().map(String::as_str).collect();
    let call = format!("{from} to {to}, port {called} {}", request.join(" "));
    let answers = Answers(outcome).to_string();
    let word = coloured(wire.as_str(), colour, is_colourful);
    format!("{word}: {}: {}", Shown(call.trim_end()), Shown(&answers))
}
