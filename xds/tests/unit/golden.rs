//! Golden cases: turns a mesh into the Envoy configuration of each of its proxies and the validation contexts it may
//! request.
//!
//! `UPDATE_EXPECT=1` writes the current output; without it, any difference and any extra file is a failure.
//! `envoy_accepts.rs` validates the same files with real Envoys.

use smidge_xds_testing::meshes;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use smidge_xds::{
    mesh::Mesh,
    render::{self, Settings},
    resources::ResourceType,
    snapshot::Snapshot,
};

#[test]
fn golden_meshes_become_these_configurations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let made: BTreeMap<PathBuf, String> = meshes::all()
        .into_iter()
        .flat_map(|(case, mesh)| {
            outputs(mesh).into_iter().map(move |(file, text)| (Path::new(case).join(file), text))
        })
        .collect();
    let there = files(&folder);
    if env::var_os("UPDATE_EXPECT").is_some() {
        for file in there.keys().filter(|file| !made.contains_key(*file)) {
            fs::remove_file(folder.join(file)).unwrap();
        }
        for (file, text) in &made {
            fs::create_dir_all(folder.join(file.parent().unwrap())).unwrap();
            fs::write(folder.join(file), text).unwrap();
        }
        return;
    }
    let differs = |file: &&PathBuf| made.get(*file) != there.get(*file);
    let mut wrong: Vec<&PathBuf> = made.keys().chain(there.keys()).filter(differs).collect();
    wrong.dedup();
    assert!(wrong.is_empty(), "not as expected: {wrong:#?}\nUPDATE_EXPECT=1 writes what the code makes now");
}

/// The files of one case.
fn outputs(mesh: Mesh) -> BTreeMap<String, String> {
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    let mut files = BTreeMap::from([("mesh.yaml".to_owned(), yaml(snapshot.mesh().as_ref()))]);
    let settings = |name: &str| Settings { node: name.to_owned(), xds: "198.18.0.1:15012".parse().unwrap() };
    for proxy in snapshot.mesh().workloads.keys() {
        let view = snapshot.view(proxy).unwrap();
        let static_form = render::render(&view, &settings(&proxy.to_string())).unwrap();
        files.insert(format!("{}.envoy.yaml", proxy.instance), yaml(&static_form));
    }
    let secrets: BTreeMap<&str, _> = snapshot
        .resources()
        .iter()
        .filter(|(_, resource)| resource.kind == ResourceType::Secret)
        .map(|(_, resource)| (&*resource.name, render::resource(resource).unwrap()))
        .collect();
    files.insert("secrets.yaml".to_owned(), yaml(&secrets));
    files
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap()
}

/// The existing files of every case.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    cases
        .filter(|case| case.is_dir() && !case.ends_with("roots"))
        .flat_map(|case| fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>())
        .map(|file| (file.strip_prefix(folder).unwrap().to_owned(), fs::read_to_string(&file).unwrap()))
        .collect()
}
