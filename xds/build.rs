//! Copies the descriptor set that `envoy-types` ships beside its sources into `OUT_DIR`, for `render` to include.
//!
//! The crate does not export the file, so the crate's folder is looked up: by `cargo metadata`, which knows a vendored
//! copy and a git checkout as well; and in the registry's folder where that cannot answer offline, as it wants every
//! package of the workspace while a build fetches only those that it needs.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const CRATE: &str = "envoy-types";
const TYPES: &str = "src/generated/types.bin";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let types = by_metadata().or_else(|metadata| {
        by_registry().map_err(|registry| format!("failed to find {CRATE}: {metadata}; {registry}"))
    })?;
    fs::copy(&types, PathBuf::from(env::var("OUT_DIR")?).join("envoy-types.bin"))?;
    println!("cargo:rerun-if-changed={}", types.display());
    Ok(())
}

fn by_metadata() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &env::var("TARGET")?])
        .arg("--manifest-path")
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(serde_json::Value::as_array);
    let manifest = packages
        .into_iter()
        .flatten()
        .find(|package| package.get("name").is_some_and(|name| name == CRATE))
        .and_then(|package| package.get("manifest_path")?.as_str())
        .ok_or("cargo metadata does not list it")?;
    existing(Path::new(manifest).with_file_name(TYPES))
}

fn by_registry() -> Result<PathBuf, Box<dyn Error>> {
    let lock = fs::read_to_string(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../Cargo.lock"))?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{CRATE}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let folder = format!("{CRATE}-{}", version.ok_or("Cargo.lock does not list it")?);
    let home = env::var("CARGO_HOME").or_else(|_| env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    for registry in fs::read_dir(Path::new(&home).join("registry/src"))? {
        if let Ok(found) = existing(registry?.path().join(&folder).join(TYPES)) {
            return Ok(found);
        }
    }
    Err(format!("{folder} is in no registry's folder").into())
}

fn existing(path: PathBuf) -> Result<PathBuf, Box<dyn Error>> {
    if path.is_file() { Ok(path) } else { Err(format!("{} is missing", path.display()).into()) }
}
