//! The comparison with a real API server, which `e2e/suite sources` starts.
//!
//! What it refuses is in neither source, and is counted; what authors leave to it (addresses of Services, times, names)
//! is in the folder as well, and so are the objects that it has by itself. It has no controllers, so pods and
//! EndpointSlices are those of the cases, and nothing changes while it is read.

mod server;

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, json};
use smidge::documents;
use tempfile::TempDir;
use tokio::time::timeout;

use self::server::Server;
use super::{Comparison, cases, write};

/// Time limit of the whole comparison.
const LIMIT: Duration = Duration::from_mins(5);

/// Form in which the objects of a case are stored.
type Form = fn(&str) -> Vec<Value>;

fn as_written(text: &str) -> Vec<Value> {
    let source = documents::Source { name: "in.yaml".to_owned(), text: text.to_owned() };
    documents::parse(&source).0.into_iter().map(|document| document.value).collect()
}

/// Returns the objects of a cluster with these manifests. Images of the proxies and what a controller writes about itself,
/// of which the mesh reads nothing, are required of pods by an API server.
fn as_running(text: &str) -> Vec<Value> {
    let mut objects = cases::running(text);
    for pod in objects.iter_mut().filter(|object| object["kind"] == "Pod") {
        for (list, field, default) in [
            ("/spec/containers", "image", "image"),
            ("/spec/initContainers", "image", "image"),
            ("/metadata/ownerReferences", "apiVersion", "apps/v1"),
            ("/metadata/ownerReferences", "uid", "uid"),
        ] {
            for item in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if item[field].as_str().is_none_or(str::is_empty) {
                    item[field] = json!(default);
                }
            }
        }
    }
    objects
}

/// Compares cases one after another, each with an API server that has nothing else. Returns the sizes and the refused
/// objects.
async fn compare(server: &Server, cases: &BTreeMap<String, String>, form: Form) -> (Comparison, usize) {
    let (mut comparison, mut refused, mut readdressed) = (Comparison::default(), 0, 0);
    for (case, text) in cases {
        let stored = server.store(form(text)).await;
        for refusal in &stored.refused {
            println!("refused: {case}: {refusal}");
        }
        let folder = TempDir::new().unwrap();
        let own: Vec<_> = server.own.iter().map(|object| documents::print(object).unwrap()).collect();
        fs::write(folder.path().join("0-own.yaml"), own.join("\n---\n")).unwrap();
        write(folder.path(), &stored.objects);
        comparison.sizes.objects += stored.objects.len();
        refused += stored.refused.len();
        readdressed += stored.readdressed;
        comparison.compare(case, folder.path(), &server.client).await;
        server.remove(stored).await;
    }
    println!(
        "{} cases, {refused} objects refused, {readdressed} Services at another address: {:?}",
        cases.len(),
        comparison.sizes
    );
    (comparison, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_gives_the_same_as_a_folder() {
    let Some(server) = Server::connect().await else { return };
    let comparing = async {
        let (running, refused) = compare(&server, &cases::golden(), as_running).await;
        let sizes = running.sizes;
        assert!(sizes.objects > 1000 && sizes.proxies > 250 && sizes.resources > 2000, "{sizes:?}");
        assert!(refused < 50, "{refused} objects were refused");
        if let Some(corpus) = cases::corpus() {
            compare(&server, &corpus, as_written).await;
        }
    };
    timeout(LIMIT, comparing).await.expect("the comparison is not complete in time");
}
