//! A folder of manifests that changes while it is served: what takes effect, and what takes nothing away.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus_client::registry::Registry;
use smidge::{
    inputs::Inputs,
    objects::{KnownObjects, refresh},
    source::{
        Edit, Scope,
        folder::{FolderError, Limits, Metrics, Source},
    },
};
use smidge_xds::mesh::id::ClusterId;
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A folder that is served, and the inputs that came of it.
struct Served {
    parent: TempDir,
    inputs: watch::Receiver<Inputs>,
    /// Names of the routes after each edit.
    steps: Arc<Mutex<Vec<BTreeSet<String>>>>,
    /// Objects that each edit names.
    scopes: Arc<Mutex<Vec<usize>>>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn route(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: specs.smi-spec.io/v1alpha4\nkind: TCPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{matches: {{ports: [{port}]}}}}\n"
    )
}

fn open(path: &Path, limits: Limits) -> Result<Source, FolderError> {
    let metrics = Metrics::register(&mut Registry::default());
    Source::open(path, ClusterId::default(), "default", limits, metrics)
}

fn serve(prepare: impl FnOnce(&Path)) -> Served {
    serve_within(Limits::default(), prepare)
}

/// Serves the folder `mesh`, which `prepare` fills.
fn serve_within(limits: Limits, prepare: impl FnOnce(&Path)) -> Served {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("mesh");
    prepare(&folder);
    let source = open(&folder, limits).unwrap();
    let (edits, mut receiver) = mpsc::channel(16);
    let (inputs, seen) = watch::channel(Inputs::default());
    let steps = Arc::<Mutex<Vec<_>>>::default();
    let scopes = Arc::<Mutex<Vec<_>>>::default();
    let (kept, named) = (Arc::clone(&steps), Arc::clone(&scopes));
    let task = tokio::spawn(async move {
        let apply = async {
            let mut known = KnownObjects::default();
            while let Some(Edit { apply, scope, .. }) = receiver.recv().await {
                inputs.send_modify(|inputs| {
                    apply(inputs);
                    refresh(&mut known, inputs, &scope);
                    assert_eq!(known, all_known(inputs), "the edit does not name all that it changes");
                    kept.lock().unwrap().push(routes(inputs));
                    let Scope::Objects(objects) = scope else { panic!("expected names, not {scope:?}") };
                    named.lock().unwrap().push(objects.len());
                });
            }
        };
        tokio::join!(source.run(edits), apply);
    });
    Served { parent, inputs: seen, steps, scopes, task }
}

fn all_known(inputs: &Inputs) -> KnownObjects {
    let mut known = KnownObjects::default();
    for row in smidge_crds::KINDS {
        refresh(&mut known, inputs, &Scope::Kind(row.kind));
    }
    known
}

fn routes(inputs: &Inputs) -> BTreeSet<String> {
    inputs.tcp_routes.keys().map(|(_, name)| name.clone()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Writes a file as tools do that mean it: beside its place, and then moved there.
fn put(folder: &Path, name: &str, text: &str) {
    let draft = folder.join(format!(".{name}"));
    fs::write(&draft, text).unwrap();
    fs::rename(draft, folder.join(name)).unwrap();
}

impl Served {
    fn folder(&self) -> PathBuf {
        self.parent.path().join("mesh")
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Inputs) -> bool) {
        let waited = timeout(DEADLINE, self.inputs.wait_for(|inputs| holds(inputs))).await.map(drop);
        if waited.is_err() {
            let inputs = self.inputs.borrow();
            panic!(
                "not within {DEADLINE:?}: {what}; routes {:?}, findings {:?}",
                routes(&inputs),
                inputs.reported
            );
        }
    }

    async fn has(&mut self, names: &[&str]) {
        self.until(&format!("the routes are {names:?}"), |inputs| routes(inputs) == set(names)).await;
    }

    async fn reports(&mut self, words: &str) {
        let says =
            |inputs: &Inputs| inputs.reported.iter().any(|finding| finding.to_string().contains(words));
        self.until(&format!("a finding with {words:?}"), says).await;
    }

    async fn reports_nothing(&mut self) {
        self.until("no finding", |inputs| inputs.reported.is_empty()).await;
    }

    fn now(&self) -> BTreeSet<String> {
        routes(&self.inputs.borrow())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_take_effect_and_only_they() {
    let mut served = serve(|folder| {
        fs::create_dir_all(folder.join("below")).unwrap();
        put(folder, "a.yaml", &(route("one", 1) + &route("two", 2)));
        put(&folder.join("below"), "b.yml", &route("three", 3));
        fs::write(folder.join("notes.txt"), "no manifest").unwrap();
    });
    served.has(&["one", "two", "three"]).await;
    let two = |served: &Served| {
        let inputs = served.inputs.borrow();
        std::ptr::from_ref(&*inputs.tcp_routes[&("shop".to_owned(), "two".to_owned())])
    };
    let before = two(&served);
    put(&served.folder(), "a.yaml", &(route("one", 9) + &route("two", 2)));
    let port = |inputs: &Inputs| {
        format!("{:?}", inputs.tcp_routes[&("shop".to_owned(), "one".to_owned())].spec).contains('9')
    };
    served.until("the port is 9", port).await;
    assert_eq!(two(&served), before, "an object of the same file was replaced though it is the same");
    fs::remove_file(served.folder().join("below/b.yml")).unwrap();
    served.has(&["one", "two"]).await;
    put(
        &served.folder(),
        "c.json",
        r#"{"apiVersion":"specs.smi-spec.io/v1alpha4","kind":"TCPRoute","metadata":{"name":"four"},"spec":{}}"#,
    );
    served.has(&["one", "two", "four"]).await;
    assert!(served.inputs.borrow().tcp_routes.contains_key(&("default".to_owned(), "four".to_owned())));
    served.reports_nothing().await;
}

/// Checks that what follows of an edit costs what its objects cost, however many files there are.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_names_the_objects_of_its_file_alone() {
    let mut served = serve(|folder| {
        fs::create_dir_all(folder).unwrap();
        for file in 0..200 {
            put(folder, &format!("{file:03}.yaml"), &route(&format!("r{file}"), 1));
        }
    });
    served.until("all files are read", |inputs| inputs.tcp_routes.len() == 200).await;
    put(&served.folder(), "100.yaml", &(route("r100", 2) + &route("new", 1)));
    served.until("there is one route more", |inputs| inputs.tcp_routes.len() == 201).await;
    fs::remove_file(served.folder().join("007.yaml")).unwrap();
    served.until("there is one route less", |inputs| inputs.tcp_routes.len() == 200).await;
    assert_eq!(*served.scopes.lock().unwrap(), [200, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_takes_nothing_away() {
    let mut served = serve(|folder| {
        fs::create_dir(folder).unwrap();
        put(folder, "a.yaml", &(route("one", 1) + &route("two", 2)));
        put(folder, "b.yaml", &route("three", 3));
    });
    served.has(&["one", "two", "three"]).await;
    for (text, words) in [
        (route("one", 1) + "---\nkind: [", "document 2: is not YAML"),
        (route("one", 1) + &route("two", 2).replace("[2]", "{a: b}"), "document 2, spec.matches.ports"),
        (String::new(), "holds no Kubernetes object any more"),
        ("x".repeat(5 << 20), "expected at most 4194304"),
    ] {
        put(&served.folder(), "a.yaml", &text);
        served.reports(words).await;
        assert_eq!(served.now(), set(&["one", "two", "three"]), "{words}");
        served.reports("stay in effect").await;
        // Other files are not concerned.
        put(&served.folder(), "b.yaml", &route("five", 5));
        served.has(&["one", "two", "five"]).await;
        put(&served.folder(), "b.yaml", &route("three", 3));
        put(&served.folder(), "a.yaml", &(route("one", 1) + &route("two", 2)));
        served.reports_nothing().await;
        served.has(&["one", "two", "three"]).await;
    }
    fs::remove_file(served.folder().join("a.yaml")).unwrap();
    symlink("missing", served.folder().join("a.yaml")).unwrap();
    served.has(&["three"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_written_is_not_looked_at() {
    let mut served = serve(|folder| {
        fs::create_dir(folder).unwrap();
        put(folder, "a.yaml", &(route("one", 1) + &route("two", 2)));
    });
    served.has(&["one", "two"]).await;
    let mut file = File::create(served.folder().join("a.yaml")).unwrap();
    file.write_all(route("one", 1).as_bytes()).unwrap();
    file.flush().unwrap();
    // Any other change makes the folder be read meanwhile.
    for number in 0..5 {
        put(&served.folder(), "b.yaml", &route(&format!("other-{number}"), 7));
        served.has(&["one", "two", &format!("other-{number}")]).await;
    }
    file.write_all(route("new", 3).as_bytes()).unwrap();
    drop(file);
    served.has(&["one", "new", "other-4"]).await;
    let steps = served.steps.lock().unwrap().clone();
    let is_whole = |step: &BTreeSet<String>| step.contains("two") || step.contains("new");
    assert!(steps.iter().all(is_whole), "a half-written file took effect: {steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_exchanged_takes_effect_as_a_whole() {
    let mut served = serve(|folder| {
        let parent = folder.parent().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(parent.join(version)).unwrap();
            for file in 0..20 {
                let text = route(&format!("{version}-{file}"), 1);
                fs::write(parent.join(version).join(format!("{file}.yaml")), text).unwrap();
            }
        }
        symlink("v1", folder).unwrap();
    });
    let all = |version: &str| -> Vec<String> { (0..20).map(|file| format!("{version}-{file}")).collect() };
    let names = |version| all(version).into_iter().collect::<BTreeSet<_>>();
    served.until("version 1", |inputs| routes(inputs) == names("v1")).await;
    for version in ["v2", "v1", "v2"] {
        let draft = served.parent.path().join("next");
        symlink(version, &draft).unwrap();
        fs::rename(draft, served.folder()).unwrap();
        served.until(version, |inputs| routes(inputs) == names(version)).await;
    }
    let steps = served.steps.lock().unwrap().clone();
    assert!(steps.iter().all(|step| *step == names("v1") || *step == names("v2")), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_lost_takes_nothing_away() {
    let mut served = serve(|folder| {
        fs::create_dir(folder).unwrap();
        put(folder, "a.yaml", &route("one", 1));
    });
    served.has(&["one"]).await;
    let aside = served.parent.path().join("aside");
    fs::rename(served.folder(), &aside).unwrap();
    served.reports("does not exist; what was last read of it stays in effect").await;
    fs::create_dir(served.folder()).unwrap();
    served.reports("holds no manifest").await;
    fs::remove_dir(served.folder()).unwrap();
    fs::write(served.folder(), "a file").unwrap();
    served.reports("is not a folder").await;
    assert_eq!(served.now(), set(&["one"]));
    fs::remove_file(served.folder()).unwrap();
    put(&aside, "b.yaml", &route("two", 2));
    fs::rename(aside, served.folder()).unwrap();
    served.has(&["one", "two"]).await;
    served.reports_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_of_an_empty_folder_until_it_is_filled() {
    let mut served = serve(|folder| fs::create_dir(folder).unwrap());
    fs::write(served.folder().join("readme.txt"), "").unwrap();
    assert!(!served.inputs.has_changed().unwrap());
    put(&served.folder(), "a.yaml", &route("one", 1));
    served.has(&["one"]).await;
    assert_eq!(served.steps.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_path_that_is_no_folder_is_an_error_that_names_it() {
    let parent = TempDir::new().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, words) in [(parent.path().join("none"), "does not exist"), (file, "is not a folder")] {
        let error = open(&path, Limits::default()).err().unwrap().to_string();
        assert!(error.contains(words) && error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_two_files_is_reported_and_the_later_file_counts() {
    let mut served = serve(|folder| {
        fs::create_dir(folder).unwrap();
        put(folder, "a.yaml", &route("one", 1));
        put(folder, "b.yaml", &route("one", 2));
    });
    served.reports("TCPRoute shop/one: is also in a.yaml: the one in b.yaml counts").await;
    let port = |inputs: &Inputs, port| {
        format!("{:?}", inputs.tcp_routes[&("shop".to_owned(), "one".to_owned())].spec).contains(port)
    };
    assert!(port(&served.inputs.borrow(), '2'));
    fs::remove_file(served.folder().join("b.yaml")).unwrap();
    served.until("the port is 1", |inputs| port(inputs, '1')).await;
    served.reports_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_beyond_the_limits_are_left_out_and_reported() {
    let limits = Limits { files: 3, depth: 1, ..Limits::default() };
    let mut served = serve_within(limits, |folder| {
        fs::create_dir_all(folder.join("x/y")).unwrap();
        put(&folder.join("x/y"), "deep.yaml", &route("deep", 1));
        for file in ["a", "b", "c", "d"] {
            put(folder, &format!("{file}.yaml"), &route(file, 1));
        }
    });
    served.has(&["a", "b", "c"]).await;
    served.reports("has 2 manifests or folders beyond 3 files or 1 levels; they are left out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_never_stops_changing_is_read_now_and_then() {
    let mut served = serve(|folder| {
        fs::create_dir(folder).unwrap();
        put(folder, "a.yaml", &route("r-0", 1));
        for file in 0..500 {
            put(folder, &format!("z{file}.yaml"), &route(&format!("z{file}"), 1));
        }
    });
    served.until("all files", |inputs| inputs.tcp_routes.len() == 501).await;
    let folder = served.folder();
    let writer = tokio::task::spawn_blocking(move || {
        for number in 1..=2000 {
            put(&folder, "a.yaml", &route(&format!("r-{number}"), 1));
        }
    });
    let moves = |inputs: &Inputs| !routes(inputs).contains("r-0");
    served.until("one of the states meanwhile", moves).await;
    writer.await.unwrap();
    served.until("the last state", |inputs| routes(inputs).contains("r-2000")).await;
    let steps = served.steps.lock().unwrap().clone();
    assert!(steps.iter().all(|step| step.len() == 501), "a state without the file was served");
}
