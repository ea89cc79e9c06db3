//! The cases: golden ones of lowering and files of the corpus, as they are written and as a cluster would run them.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;
use serde_json::{Value, json};
use smidge::{
    documents::{self, Source},
    inputs::{Inputs, Objects},
};
use smidge_testing::corpus;

use super::stored::kinds;

/// The golden cases by name.
pub fn golden() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_dir())
        .map(|path| {
            let text = fs::read_to_string(path.join("in.yaml")).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// The files of the corpus by name, if there is a corpus.
pub fn corpus() -> Option<BTreeMap<String, String>> {
    let corpus = corpus::corpus()?;
    let files = corpus::files(&corpus).into_iter();
    Some(files.map(|name| (name.clone(), fs::read_to_string(corpus.join(name)).unwrap())).collect())
}

/// Returns the objects of a cluster with these manifests: custom ones as they are written, and of Kubernetes' own kinds
/// those that it has after it has made pods of templates and EndpointSlices of pods.
pub fn running(text: &str) -> Vec<Value> {
    let documents = parsed(text);
    let inputs = documents::cluster(&documents).inputs;
    let mut objects = Vec::new();
    objects.extend(values(&inputs.namespaces));
    objects.extend(values(&inputs.services));
    objects.extend(values(&inputs.pods));
    objects.extend(values(&inputs.slices));
    let custom: Vec<_> = kinds().into_iter().filter(|kind| kind.is_custom).collect();
    let is_custom =
        |it: &documents::Document| custom.iter().any(|kind| kind.group == it.group && kind.name == it.kind);
    objects.extend(documents.into_iter().filter(is_custom).map(|document| document.value));
    objects
}

/// Returns them as inputs of lowering.
pub fn inputs(text: &str) -> Inputs {
    documents::cluster(&parsed(text)).inputs
}

fn parsed(text: &str) -> Vec<documents::Document> {
    documents::parse(&Source { name: "in.yaml".to_owned(), text: text.to_owned() }).0
}

fn values<K: Serialize + k8s_openapi::Resource>(objects: &Objects<K>) -> impl Iterator<Item = Value> {
    objects.values().map(|object| {
        let mut value = serde_json::to_value(&**object).unwrap();
        value["apiVersion"] = json!(K::API_VERSION);
        value["kind"] = json!(K::KIND);
        value
    })
}
