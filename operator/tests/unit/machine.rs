//! `smidge machine` as a user runs it: files and their rights, renewal, the bootstrap, and errors that harm nothing.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use smidge::{
    auth::machines::{Hex, key_digest},
    ca::{Authorities, Metrics, Secrets, pem},
    clock::Clock,
};
use smidge_xds::mesh::id::TrustDomain;
use tempfile::TempDir;
use x509_parser::prelude::{FromDer as _, X509Certificate};

fn smidge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smidge")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the message of a command that fails.
fn failure(output: &Output) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    error
}

/// The folders of a control plane and of a machine.
struct Folders {
    parent: TempDir,
    authorities: Authorities,
}

impl Folders {
    async fn new() -> Self {
        let parent = TempDir::new().unwrap();
        let secrets = Secrets::folder(&parent.path().join("state")).await.unwrap();
        let (domain, metrics) = (TrustDomain::default(), Metrics::default());
        let opening = Authorities::open_with_machines(secrets, domain, Clock::system(), metrics);
        let authorities = Box::pin(opening).await.unwrap();
        Self { parent, authorities }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn certificate(&self, more: &[&str]) -> Output {
        let (state, out) = (self.text("state"), self.text("machine"));
        let arguments = ["machine", "certificate", "shop/db-1", "--state", &state, "--out", &out];
        smidge(&[&arguments, more].concat())
    }
}

fn leaf(file: &Path) -> CertificateDer<'static> {
    pem::certificates(&fs::read(file).unwrap()).unwrap().remove(0)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_certificate_is_written_with_its_key_and_renewed_for_the_same_key() {
    let folders = Folders::new().await;
    let text = stdout(&folders.certificate(&[]));
    let [certificate, key, sds] =
        ["tls.crt", "tls.key", "certificate-sds.json"].map(|file| folders.path("machine").join(file));
    assert_eq!((mode(&folders.path("machine")), mode(&key)), (0o700, 0o600));
    let (first, first_key) = (leaf(&certificate), fs::read_to_string(&key).unwrap());
    let (_, parsed) = X509Certificate::from_der(&first).unwrap();
    let pin = format!("sha256:{}", Hex(&key_digest(parsed.public_key().raw)));
    assert!(text.contains(&pin) && text.contains(&format!("wrote {}", key.display())), "{text}");
    let lifetime = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
    assert_eq!(lifetime, 30 * 86_400 + 300);
    let read: Value = serde_json::from_slice(&fs::read(&sds).unwrap()).unwrap();
    let named = &read["resources"][0]["tls_certificate"];
    let expected = fs::canonicalize(&key).unwrap();
    assert_eq!(named["private_key"]["filename"], expected.to_str().unwrap());

    let report = stdout(&folders.certificate(&["--days", "2", "-o", "json", "--credentials", "/etc/smidge"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["publicKey"], &report["isNewKey"]), (&json!(pin), &json!(false)));
    assert_eq!(report["identity"], "spiffe://cluster.local/machine/shop/db-1");
    assert_ne!(leaf(&certificate), first);
    assert_eq!(fs::read_to_string(&key).unwrap(), first_key);
    let read: Value = serde_json::from_slice(&fs::read(&sds).unwrap()).unwrap();
    assert_eq!(read["resources"][0]["tls_certificate"]["watched_directory"]["path"], "/etc/smidge");
    assert_eq!(fs::read_dir(folders.path("machine")).unwrap().count(), 3, "something was left over");
}

#[tokio::test]
async fn a_command_that_fails_writes_nothing() {
    let folders = Folders::new().await;
    let (empty, out) = (folders.text("empty"), folders.text("other"));
    let without = ["machine", "certificate", "shop/db-1", "--out", &out, "--state"];
    let error = failure(&smidge(&[&without[..], &[&empty]].concat()));
    assert!(error.contains(&empty) && !folders.path("empty").exists(), "{error}");
    fs::create_dir(folders.path("empty")).unwrap();
    fs::set_permissions(folders.path("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let error = failure(&smidge(&[&without[..], &[&empty]].concat()));
    assert!(error.contains("smidge-root-machines"), "{error}");
    let error = failure(&folders.certificate(&["--trust-domain", "other.domain"]));
    assert!(error.contains("another trust domain"), "{error}");
    assert!(failure(&folders.certificate(&["--days", "0"])).contains("--days"));
    let state = folders.text("state");
    let error = failure(&smidge(&["machine", "certificate", "db-1", "--state", &state, "--out", &out]));
    assert!(error.contains("NAMESPACE/NAME"), "{error}");
    assert!(!folders.path("machine").exists() && !folders.path("other").exists());
    let error = failure(&folders.certificate(&["--credentials", "etc"]));
    assert!(error.contains("absolute path"), "{error}");
    assert!(!folders.path("machine/tls.key").exists());
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_left_alone() {
    let folders = Folders::new().await;
    stdout(&folders.certificate(&[]));
    let key = folders.path("machine/tls.key");
    let (whole, first) = (fs::read(&key).unwrap(), leaf(&folders.path("machine/tls.crt")));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = failure(&folders.certificate(&[]));
    assert!(error.contains("0644") && error.contains("0600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&key, "no key").unwrap();
    let error = failure(&folders.certificate(&[]));
    assert!(error.contains("no private key") && !error.contains("no key\n"), "{error}");
    assert_eq!(fs::read(&key).unwrap(), b"no key");
    assert_eq!(leaf(&folders.path("machine/tls.crt")), first);
    fs::write(&key, whole).unwrap();
    stdout(&folders.certificate(&[]));
}

#[tokio::test]
async fn a_bootstrap_has_the_roots_of_the_control_plane_and_names_the_files() {
    let folders = Folders::new().await;
    let print = |control_plane: &str, address: &str, more: &[&str]| {
        let arguments = ["machine", "bootstrap", "shop/db-1", "--control-plane", control_plane];
        smidge(&[&arguments[..], &["--address", address, "--credentials", "/etc/smidge/"], more].concat())
    };
    let state = folders.text("state");
    let text = stdout(&print("cp.example:15012", "10.9.0.7", &["--state", &state]));
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["node"]["id"], "external:db-1.shop");
    let clusters = config["static_resources"]["clusters"].as_array().unwrap();
    let xds = clusters.iter().find(|cluster| cluster["name"] == "xds").unwrap();
    let tls = &xds["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "smidge.standalone");
    let roots = folders.authorities.control_plane_roots().concat();
    assert_eq!(tls["common_tls_context"]["validation_context"]["trusted_ca"]["inline_string"], roots);
    let source = &tls["common_tls_context"]["tls_certificate_sds_secret_configs"][0]["sds_config"];
    assert_eq!(source["path_config_source"]["path"], "/etc/smidge/certificate-sds.json");
    assert!(!text.contains("credential_injector") && !text.contains("PRIVATE"), "{text}");
    let listeners = config["static_resources"]["listeners"].as_array().unwrap();
    assert!(listeners.iter().all(|it| it["address"]["socket_address"]["address"] == "10.9.0.7"), "{text}");

    // Of a file, only the certificates count.
    let file = folders.text("roots.pem");
    fs::write(&file, format!("{roots}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
        .unwrap();
    assert_eq!(stdout(&print("cp.example:15012", "10.9.0.7", &["--root", &file])), text);
    let six = stdout(&print("[2001:db8::1]:15012", "2001:db8::7", &["--root", &file]));
    assert!(
        six.contains(r#""address": "2001:db8::1""#) && six.contains(r#""address": "2001:db8::7""#),
        "{six}"
    );

    fs::write(&file, "no certificate").unwrap();
    assert!(failure(&print("cp:1", "10.9.0.7", &["--root", &file])).contains(&file));
    assert!(failure(&print("cp:1", "10.9.0.7", &[])).contains("--state"));
    assert!(failure(&print("cp:1", "10.9.0.7", &["--root", &file, "--state", &state])).contains("--root"));
    for control_plane in
        ["cp", "cp:", "cp:0", "cp:70000", ":1", "2001:db8::1:15012", "[cp]:1", "c p:1", "http://cp:1"]
    {
        assert!(
            failure(&print(control_plane, "10.9.0.7", &["--state", &state])).contains("HOST:PORT"),
            "{control_plane}"
        );
    }
}
