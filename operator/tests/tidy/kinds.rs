//! A kind is named in few files: what does the same for every kind goes by the tables of kinds instead.
//!
//! Counts identifiers of a kind's type and texts that are its name; messages that mention a kind do not count.

use std::collections::BTreeSet;

use super::{hold, product, workspace};

/// Files that may name a kind, beside its own and its two rows.
const BUDGET: usize = 4;

/// The tables that have its rows.
const ROWS: [&str; 2] = ["crds/src/lib.rs", "operator/lower/src/table.rs"];

pub(super) const PRODUCT: [&str; 6] = [
    "crds/src/",
    "xds/src/",
    "xds/mesh/src/",
    "operator/src/",
    "operator/injector/src/",
    "operator/lower/src/",
];

/// Files that lowering has for the objects of users: each is the own file of some kind.
const LOWERED: [&str; 2] = ["operator/lower/src/smi/", "operator/lower/src/kubernetes/"];

#[test]
fn a_kind_is_named_in_few_files() {
    let files = workspace();
    let files: Vec<_> =
        files.iter().filter(|(path, _)| PRODUCT.iter().any(|it| path.starts_with(it))).collect();
    let mut broken = Vec::new();
    for kind in smidge_crds::KINDS {
        let module = kind.group.strip_suffix(".smi-spec.io").unwrap_or("config");
        let wire = format!("crds/src/{module}");
        let is_own = |path: &str| {
            path.starts_with(&format!("{wire}.rs"))
                || path.starts_with(&format!("{wire}/"))
                || LOWERED.iter().any(|folder| path.starts_with(folder))
        };
        let named: BTreeSet<&str> = files
            .iter()
            .filter(|(path, text)| !is_own(path) && names(product(text), kind.kind))
            .map(|(path, _)| path.as_str())
            .collect();
        let (rows, named): (BTreeSet<_>, BTreeSet<_>) = named.iter().partition(|path| ROWS.contains(path));
        assert_eq!(rows, BTreeSet::from(ROWS), "rows of {}", kind.kind);
        if named.len() > BUDGET {
            broken.push(format!(
                "{} is named in {} files, at most {BUDGET}: {named:?}",
                kind.kind,
                named.len()
            ));
        }
    }
    hold("go by the tables of kinds", &broken);
}

/// Returns true if an identifier is the kind's type, or a text its name.
fn names(text: &str, kind: &str) -> bool {
    let (code, texts) = apart(text);
    // A type is spelled in Rust's way: HttpRouteGroup, HttpRouteGroupSpec.
    let mut words = code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    texts.iter().any(|text| text == kind)
        || words.any(|word| word.strip_suffix("Spec").unwrap_or(word).eq_ignore_ascii_case(kind))
}

/// Separates the code of a file from its texts; comments are left out.
pub(super) fn apart(source: &str) -> (String, Vec<String>) {
    let (mut code, mut texts) = (String::new(), Vec::new());
    let mut letters = source.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '/' if letters.peek() == Some(&'/') => drop(letters.by_ref().take_while(|it| *it != '\n').last()),
            '"' => {
                let mut text = String::new();
                while let Some(letter) = letters.next().filter(|it| *it != '"') {
                    text.push(letter);
                    text.extend((letter == '\\').then(|| letters.next()).flatten());
                }
                texts.push(text);
            }
            // A quotation mark as a letter, which opens no text.
            '\'' if letters.peek() == Some(&'"') => drop(letters.next()),
            _ => code.push(letter),
        }
    }
    (code, texts)
}
