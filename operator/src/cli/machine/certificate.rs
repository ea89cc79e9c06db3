//! `smidge machine certificate`: writes the certificate of a machine, its key, and the file by which Envoy reads both.
//!
//! Signs with the authority of machines in the folder of the control plane. A key that exists is kept, so that renewal
//! replaces one file, by moving it into place; Envoy watches the folder. Does not make the object without which the
//! control plane refuses the machine.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use serde::Serialize;
use smidge_xds::{
    bootstrap::{CERTIFICATE_FILE, CERTIFICATE_SDS_FILE, KEY_FILE, certificate_sds},
    mesh::id::TrustDomain,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::block_on;
use crate::{
    auth::machines::{Hex, key_digest},
    ca::{MachineCertificate, MachineId, MachineIssuer, Secrets, issue, pem},
    cli::output::Output,
};

/// Bits of a key's mode that give access to every user of the machine.
const EVERY_USER: u32 = 0o007;

/// Arguments of `smidge machine certificate`.
///
/// Writes the certificate (tls.crt), its key (tls.key) and certificate-sds.json, by which Envoy reads both. Where the
/// folder has a key, the certificate is renewed for that key; Envoy uses it for its next connection, without a restart.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine, as NAMESPACE/NAME of its ExternalWorkload.
    pub machine: MachineId,
    /// Folder in which the control plane keeps its authorities.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Folder to write to; created if it does not exist.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Path at which the proxy will find that folder, if it is copied to the machine. Defaults to the folder itself.
    #[arg(long, value_name = "FOLDER")]
    pub credentials: Option<PathBuf>,
    /// SPIFFE trust domain of the mesh.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// Days for which the certificate is valid, but never longer than the intermediate that signs it.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub days: u16,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Report of what was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The machine.
    pub machine: String,
    /// The SPIFFE ID in its certificate.
    pub identity: String,
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// End of its validity.
    pub not_after: String,
    /// The file of the key.
    pub key: PathBuf,
    /// True if the key was generated, false if it was there.
    pub is_new_key: bool,
    /// The file by which Envoy reads both.
    pub sds: PathBuf,
    /// The pin of the key, for the object of the machine.
    pub public_key: String,
}

/// Runs `smidge machine certificate`, and returns what to print.
pub(super) fn run(args: &Args) -> anyhow::Result<String> {
    let report = issue(args)?;
    Ok(match args.output {
        Output::Text => report.text(),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    })
}

/// Issues the certificate and writes the files.
pub fn issue(args: &Args) -> anyhow::Result<Report> {
    let domain = TrustDomain(args.trust_domain.clone());
    let now = OffsetDateTime::now_utc();
    // Before anything is written: without an authority there is nothing to write.
    let authority = block_on(async {
        let secrets = Secrets::existing_folder(&args.state).await?;
        Ok(Box::pin(MachineIssuer::open(&secrets, domain.clone(), now)).await?)
    })?;
    let opened = |path: &Path| format!("failed to open folder {}", path.display());
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&args.out);
    made.with_context(|| opened(&args.out))?;
    let folder = fs::canonicalize(&args.out).with_context(|| opened(&args.out))?;
    let seen = seen(args.credentials.as_deref().unwrap_or(&folder))?;

    let key_path = folder.join(KEY_FILE);
    let (pair, is_new_key) = key(&key_path)?;
    let lifetime = Duration::days(args.days.into());
    let issued = authority.issue(&args.machine, &*pair, lifetime, now)?;
    let MachineCertificate { chain, not_after } = issued;
    let [sds, certificate] = [CERTIFICATE_SDS_FILE, CERTIFICATE_FILE].map(|file| folder.join(file));
    replace(&sds, certificate_sds(&seen).as_bytes())?;
    // Last, so that whoever sees the certificate has everything.
    replace(&certificate, chain.as_bytes())?;
    Ok(Report {
        machine: args.machine.to_string(),
        identity: args.machine.uri(&domain),
        certificate,
        not_after: Timestamp::from_second(not_after.unix_timestamp())?.to_string(),
        key: key_path,
        is_new_key,
        sds,
        public_key: format!("sha256:{}", Hex(&key_digest(&pair.subject_public_key_info()))),
    })
}

/// Returns the path of a folder as Envoy reads it: absolute, as Envoy may be started anywhere.
pub(super) fn seen(folder: &Path) -> anyhow::Result<String> {
    match folder.to_str() {
        Some(path) if folder.is_absolute() => Ok(path.trim_end_matches('/').to_owned()),
        _ => bail!("invalid --credentials {:?}: expected an absolute path in UTF-8", folder.display()),
    }
}

impl Report {
    fn text(&self) -> String {
        let Self { machine, identity: _, certificate, not_after, key, is_new_key, sds, public_key } = self;
        let of_key = if *is_new_key { "wrote" } else { "kept " };
        format!(
            "wrote {}: {machine}, valid until {not_after}\n{of_key} {}\nwrote {}\nkey   {public_key}\n",
            certificate.display(),
            key.display(),
            sds.display()
        )
    }
}

/// Returns the key in the file at `path`, or a new one that is then there.
fn key(path: &Path) -> anyhow::Result<(Zeroizing<KeyPair>, bool)> {
    if let Some(pair) = read_key(path)? {
        return Ok((pair, false));
    }
    let pair = issue::pair()?;
    let text = pem::PrivateKey::from_pkcs8(pair.serialized_der()).expose();
    let unfinished = write(path, text.as_bytes(), 0o600)?;
    // A link replaces nothing, so the key of a command that was faster stays.
    let linked = fs::hard_link(&unfinished, path);
    let _ = fs::remove_file(&unfinished);
    match linked {
        Ok(()) => Ok((pair, true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let pair = read_key(path)?.with_context(|| format!("{} came and went", path.display()))?;
            Ok((pair, false))
        }
        Err(error) => Err(error).with_context(|| format!("failed to write {}", path.display())),
    }
}

fn read_key(path: &Path) -> anyhow::Result<Option<Zeroizing<KeyPair>>> {
    let read = || format!("failed to read {}", path.display());
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(read),
    };
    let mode = fs::metadata(path).with_context(read)?.permissions().mode() & 0o777;
    if mode & EVERY_USER != 0 {
        bail!(
            "refused to use {}: mode {mode:04o} gives every user the machine's key; expected 0600, or 0640 for the \
             proxy's group (hint: remove it for a new key, and pin that one)",
            path.display()
        );
    }
    // The library's errors may quote what it read.
    let pair = pem::private_key(&text).and_then(|der| KeyPair::try_from(der.as_slice()).ok());
    let pair = pair.with_context(|| {
        format!(
            "{} is no private key in PEM (hint: remove it for a new key, and pin that one)",
            path.display()
        )
    })?;
    Ok(Some(Zeroizing::new(pair)))
}

/// Replaces a file by moving another one to its name.
fn replace(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let unfinished = write(path, text, 0o644)?;
    let moved = fs::rename(&unfinished, path);
    if moved.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    moved.with_context(|| format!("failed to write {}", path.display()))
}

/// Writes a file beside `path`, so that no reader sees a part of it.
fn write(path: &Path, text: &[u8], mode: u32) -> anyhow::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let unfinished = PathBuf::from(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished);
    let written = file.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("failed to write {}", path.display()))?;
    Ok(unfinished)
}
