//! `smidge explain`, one folder a question: manifests and the arguments of the command in, the answer in both forms
//! out.
//!
//! `UPDATE_EXPECT=1` writes the current output; without it, any difference is a failure. Also on generated clusters: a
//! suggestion, once applied, allows exactly the question that it was made for.

mod generated;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Parser as _;
use proptest::prelude::*;
use smidge::{
    cli::{Cli, Command as Face, explain},
    documents::{self, Source},
    explain::{Answer, QueryError, Question, Verdict},
};
use smidge_xds_testing::properties;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain")
}

fn cases() -> Vec<String> {
    let folders = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<String> = folders
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    cases.sort();
    cases
}

/// The words of a line; a word with blanks is in single quotes.
fn words(line: &str) -> Vec<String> {
    let parts = line.trim().split('\'').enumerate();
    let mut words = Vec::new();
    for (index, part) in parts {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn question(line: &str) -> Question {
    let words = ["smidge".to_owned(), "explain".to_owned()].into_iter().chain(words(line));
    let Face::Explain(args) = Cli::try_parse_from(words).unwrap().command else { panic!("{line}") };
    args.question()
}

fn ask(text: &str, question: &Question) -> Result<Answer, QueryError> {
    let source = Source { name: "in.yaml".to_owned(), text: text.to_owned() };
    explain::answer(documents::assemble(&[source]), question)
}

/// Output for a case, by file.
fn outputs(case: &str) -> BTreeMap<&'static str, String> {
    let read = |file: &str| {
        let path = folder().join(case).join(file);
        fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()))
    };
    match ask(&read("in.yaml"), &question(&read("question.txt"))) {
        Ok(answer) => {
            let mut text = format!("exit status {}\n", explain::exit_code(&answer)).into_bytes();
            explain::text::print(&answer, false, &mut text).unwrap();
            let json = format!("{}\n", serde_json::to_string_pretty(&answer).unwrap());
            BTreeMap::from([("out.txt", String::from_utf8(text).unwrap()), ("out.json", json)])
        }
        Err(senseless) => BTreeMap::from([("out.txt", format!("exit status 2\nerror: {senseless}\n"))]),
    }
}

#[test]
fn every_question_is_answered_as_it_is_written_down() {
    let is_update = env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 20, "the cases are not where they were");
    for case in cases {
        let made = outputs(&case);
        for file in ["out.txt", "out.json"] {
            let path = folder().join(&case).join(file);
            let there = fs::read_to_string(&path).ok();
            if made.get(file) == there.as_ref() {
                continue;
            }
            match made.get(file) {
                _ if !is_update => wrong.push(format!("{case}/{file}")),
                Some(text) => fs::write(path, text).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
    }
    assert!(wrong.is_empty(), "not as expected: {wrong:#?}\nUPDATE_EXPECT=1 writes what the code makes now");
}

/// A suggestion is sufficient: added to the files, it allows the question.
#[test]
fn every_suggestion_of_the_cases_allows_the_question() {
    let mut suggested = 0;
    for case in cases() {
        let read = |file: &str| fs::read_to_string(folder().join(&case).join(file)).unwrap();
        let (text, question) = (read("in.yaml"), question(&read("question.txt")));
        let Ok(Answer { suggestion: Some(suggestion), verdict, .. }) = ask(&text, &question) else {
            continue;
        };
        suggested += 1;
        let answer = ask(&format!("{text}\n{}", suggestion.yaml), &question).unwrap();
        assert_eq!(answer.verdict, Verdict::Allowed, "{case}: was {verdict:?}");
        assert_eq!(answer.suggestion, None, "{case}");
        let new: Vec<_> = answer.findings.iter().filter(|it| it.object.name.contains("-to-")).collect();
        assert!(new.is_empty(), "{case}: what was suggested is found fault with: {new:?}");
    }
    assert!(suggested >= 8, "only {suggested} of the cases have a suggestion");
}

proptest! {
    #![proptest_config(properties::config(150))]

    /// Adding the suggestion allows the question, and removes access from no other.
    #[test]
    fn a_suggestion_allows_its_question_and_denies_no_other(generated_mesh in generated::generated_mesh()) {
        let text = generated_mesh.yaml();
        let is_hopeless = |note: &String| note.contains("no TrafficTarget can allow");
        for asked in &generated_mesh.questions {
            let before = ask(&text, asked);
            let Ok(Answer { suggestion: Some(suggestion), .. }) = &before else {
                let verdict = before.map(|answer| (answer.verdict, answer.mode, answer.notes));
                let is_settled = match &verdict {
                    Ok((Verdict::Allowed, ..)) | Err(_) => true,
                    Ok((_, _, notes)) => notes.iter().any(is_hopeless),
                };
                prop_assert!(is_settled, "{asked:?} has neither a yes nor a way to it: {verdict:?}\n{text}");
                continue;
            };
            let grown = format!("{text}\n{}", suggestion.yaml);
            let after = ask(&grown, asked).unwrap();
            prop_assert!(
                after.notes.iter().any(is_hopeless) || after.verdict == Verdict::Allowed && after.suggestion.is_none(),
                "{asked:?} is {:?} after\n{}\nin\n{text}", after.verdict, suggestion.yaml
            );
            for other in &generated_mesh.questions {
                if let (Ok(old), Ok(new)) = (ask(&text, other), ask(&grown, other)) {
                    prop_assert!(new.verdict <= old.verdict, "{other:?} lost by\n{}\nin\n{text}", suggestion.yaml);
                }
            }
        }
    }
}

#[test]
fn the_command_exits_by_its_answer() {
    let input = |case: &str| folder().join(case).join("in.yaml").display().to_string();
    for case in cases() {
        let line = fs::read_to_string(folder().join(&case).join("question.txt")).unwrap();
        let expected = fs::read_to_string(folder().join(&case).join("out.txt")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_smidge"))
            .arg("explain")
            .args(words(&line))
            .args(["-f", &input(&case)])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (first, rest) = expected.split_once('\n').unwrap();
        assert_eq!(format!("exit status {}", output.status.code().unwrap()), first, "{case}");
        let said = if first.ends_with('2') { &output.stderr } else { &output.stdout };
        assert_eq!(String::from_utf8_lossy(said), rest, "{case}");
    }
    let nowhere = Command::new(env!("CARGO_BIN_EXE_smidge"))
        .args(["explain", "a/b", "c/d", "-f", "/no/such/file"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn names_do_not_steer_the_terminal() {
    let text = fs::read_to_string(folder().join("denied/in.yaml")).unwrap();
    let asked = Question {
        from: "sa:shop/a\u{1b}[2Jb\u{202e}".to_owned(),
        to: "shop/store".to_owned(),
        ..Question::default()
    };
    let answer = ask(&text, &asked).unwrap();
    for is_colourful in [false, true] {
        let mut out = Vec::new();
        explain::text::print(&answer, is_colourful, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{202e}'), "{text:?}");
        assert_eq!(text.contains("\u{1b}[31m"), is_colourful, "{text:?}");
    }
}
