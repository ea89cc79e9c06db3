//! Tests that no committed golden file, manifest or fixture contains a private key or a token.
//!
//! Needs no cluster. Rust sources are skipped, as they contain the strings that they search for.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            files(&path, found)?;
        } else if path.is_file() && path.extension().is_none_or(|extension| extension != "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn no_golden_file_holds_a_key_or_a_token() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["operator", "xds", "crds", "charts", "examples"] {
        files(&root.join(folder), &mut found)?;
    }
    anyhow::ensure!(found.len() > 50, "only {} files were found below {}", found.len(), root.display());
    for path in found {
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        for secret in ["PRIVATE KEY-----", "eyJhbGciOi"] {
            anyhow::ensure!(!text.contains(secret), "{} holds `{secret}`", path.display());
        }
    }
    Ok(())
}
