//! The authorities in a folder: created once by any number of processes, refused to others' eyes, renewed, never
//! replaced because they are broken.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use smidge::ca::{Authorities, Metrics, Secrets, Written, root::RootError};
use smidge_testing::api_server::Hands;
use smidge_xds::{mesh::id::TrustDomain, server::CertSource as _};
use tempfile::TempDir;

use super::{NOW, holder, leaf};

const ROOT: &str = "smidge-root-workloads.yaml";

/// A folder below one that everybody may read.
fn place() -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("var/state");
    (parent, path)
}

async fn open(path: &Path, hands: &Hands) -> Result<Authorities, RootError> {
    let secrets = Secrets::folder(path).await?;
    Box::pin(Authorities::open(secrets, TrustDomain::default(), hands.clock(), Metrics::default())).await
}

async fn error(path: &Path, hands: &Hands) -> String {
    open(path, hands).await.expect_err("the folder was used").to_string()
}

/// Content of every file.
fn content(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_share_one_set_of_authorities() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    let openings = (0..8).map(|_| {
        let (path, hands) = (path.clone(), hands.clone());
        tokio::spawn(async move { open(&path, &hands).await.unwrap() })
    });
    let all = futures::future::join_all(openings.collect::<Vec<_>>()).await;
    let all: Vec<Authorities> = all.into_iter().map(Result::unwrap).collect();
    let issued = leaf(&all[0]).await;
    for other in &all {
        assert_eq!(other.control_plane_roots(), all[0].control_plane_roots());
        assert_eq!(other.workload_bundle(), all[0].workload_bundle());
        assert!(
            other.leaves().renew_in(&holder("web"), &issued.version).is_some(),
            "another key of the mesh"
        );
    }
    let names: Vec<String> = content(&path).into_keys().collect();
    let expected = [
        ".lock",
        "smidge-issuer-control-plane.yaml",
        "smidge-issuer-webhooks.yaml",
        "smidge-issuer-workloads.yaml",
        "smidge-mesh-key.yaml",
        "smidge-root-control-plane.yaml",
        "smidge-root-webhooks.yaml",
        ROOT,
    ];
    assert_eq!(names, expected);
    assert_eq!(mode(&path), 0o700);
    for name in names {
        assert_eq!(mode(&path.join(&name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_restart_writes_nothing_and_reads_what_kubectl_exports() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    let first = open(&path, &hands).await.unwrap();
    let before = content(&path);
    assert_eq!(open(&path, &hands).await.unwrap().workload_bundle(), first.workload_bundle());
    assert_eq!(content(&path), before);
    let mut exported: serde_json::Value = serde_json::from_slice(&before[ROOT]).unwrap();
    assert_eq!(exported["kind"], "Secret");
    exported["metadata"]["uid"] = "0b1e".into();
    exported["metadata"]["resourceVersion"] = "17".into();
    fs::write(path.join(ROOT), serde_saphyr::to_string(&exported).unwrap()).unwrap();
    assert_eq!(open(&path, &hands).await.unwrap().workload_bundle(), first.workload_bundle());
}

#[tokio::test]
async fn keys_that_others_may_read_are_refused() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    open(&path, &hands).await.unwrap();
    let file = path.join(ROOT);
    for (of, good, bad) in
        [(&path, 0o700, 0o750), (&path, 0o700, 0o701), (&file, 0o600, 0o604), (&file, 0o600, 0o620)]
    {
        set_mode(of, bad);
        let error = error(&path, &hands).await;
        let expected =
            [format!("{bad:04o}"), format!("{good:04o}"), format!("chmod {good:04o} {}", of.display())];
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        set_mode(of, good);
    }
    // The owner may have taken rights from himself.
    set_mode(&file, 0o400);
    open(&path, &hands).await.unwrap();
    // Only root can give a file away.
    for of in [&path, &file] {
        if chown(of, Some(65_534), None).is_ok() {
            let error = error(&path, &hands).await;
            assert!(
                error.contains("65534") && error.contains(&format!("chown 0 {}", of.display())),
                "{error}"
            );
            chown(of, Some(0), None).unwrap();
        }
    }
    open(&path, &hands).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_alone() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    open(&path, &hands).await.unwrap();
    let file = path.join(ROOT);
    let whole = fs::read_to_string(&file).unwrap();
    let key: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let key = key["data"]["active.key"].as_str().unwrap();
    let damaged = [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("\"Secret\"", "\"ConfigMap\""),
        whole.replace("smidge-root-workloads", "smidge-root-webhooks"),
        whole.replace(key, "?"),
        format!("{whole}{}", " ".repeat(1 << 20)),
        key.to_owned(),
    ];
    for text in damaged {
        fs::write(&file, &text).unwrap();
        let error = error(&path, &hands).await;
        assert!(error.contains(&*file.to_string_lossy()) && error.contains("backup"), "{error}");
        assert!(!error.contains(&key[40..80]), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "it was touched");
    }
    // A Secret in whose data something is missing is what it is at an API server.
    fs::write(&file, whole.replace("active.key", "other.key")).unwrap();
    let missing = error(&path, &hands).await;
    assert!(missing.contains("smidge-root-workloads: active.key: missing"), "{missing}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(error(&path, &hands).await.contains("is not a file"));
}

#[tokio::test]
async fn a_path_that_is_no_folder_is_an_error() {
    let ((parent, path), hands) = (place(), Hands::at(NOW));
    let missing = Secrets::existing_folder(&path).await.unwrap_err().to_string();
    assert!(missing.contains(&*path.to_string_lossy()), "{missing}");
    assert!(!path.exists(), "only asked for, and created");
    fs::write(parent.path().join("var"), "a file").unwrap();
    assert!(error(&path, &hands).await.contains(&*path.to_string_lossy()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_renew_an_intermediate_once_and_touch_nothing_else() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    let (one, two) = (open(&path, &hands).await.unwrap(), open(&path, &hands).await.unwrap());
    fs::write(path.join("notes.txt"), "of a user").unwrap();
    let before = content(&path);
    hands.advance(time::Duration::days(183));
    let (first, second) = tokio::join!(one.refresh(), two.refresh());
    first.unwrap();
    second.unwrap();
    let after = content(&path);
    let changed: Vec<&str> = after
        .iter()
        .filter(|(name, text)| before.get(*name) != Some(text))
        .map(|(name, _)| &**name)
        .collect();
    let expected =
        ["smidge-issuer-control-plane.yaml", "smidge-issuer-webhooks.yaml", "smidge-issuer-workloads.yaml"];
    assert_eq!((changed.as_slice(), after.len()), (expected.as_slice(), before.len()));
    let (next, other) = (leaf(&one).await, leaf(&two).await);
    let issuer = |version: &str| version.split('.').next().unwrap().to_owned();
    assert_eq!(issuer(next.version.as_str()), issuer(other.version.as_str()));
}

#[tokio::test]
async fn a_secret_is_replaced_only_as_it_was_read() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    open(&path, &hands).await.unwrap();
    let secrets = Secrets::existing_folder(&path).await.unwrap();
    let name = "smidge-mesh-key";
    let read = secrets.get(name).await.unwrap().unwrap();
    let mut next = read.clone();
    next.data.as_mut().unwrap().values_mut().for_each(|value| value.0.reverse());
    assert!(matches!(secrets.create(name, &next).await.unwrap(), Written::Conflict));
    assert!(matches!(secrets.replace(name, &next).await.unwrap(), Written::Ours(_)));
    assert!(matches!(secrets.replace(name, &read).await.unwrap(), Written::Conflict));
    let mut unread = next.clone();
    unread.metadata.resource_version = None;
    assert!(matches!(secrets.replace(name, &unread).await.unwrap(), Written::Conflict));
    assert_eq!(secrets.get(name).await.unwrap().unwrap().data, next.data);
    assert_eq!(secrets.get("smidge-other").await.unwrap(), None);
    let absent = secrets.require("smidge-other").await.unwrap_err().to_string();
    assert!(absent.contains("smidge-other.yaml"), "{absent}");
}

#[tokio::test]
async fn what_a_killed_process_has_left_is_removed() {
    let ((_parent, path), hands) = (place(), Hands::at(NOW));
    open(&path, &hands).await.unwrap();
    let before = content(&path);
    fs::write(path.join(".smidge-root-workloads.0123456789abcdef.unfinished"), "a part of a key").unwrap();
    open(&path, &hands).await.unwrap();
    assert_eq!(content(&path), before);
}
