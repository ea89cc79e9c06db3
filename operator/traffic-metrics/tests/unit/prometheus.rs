//! Counters for Prometheus: what a push adds to which metric, how long counters last, and their bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use smidge_traffic_metrics::{
    counters::KEPT,
    families::{FAMILIES, Names},
    series::{
        ADDRESS, ATTEMPT, CHAIN, CODE, ENFORCED, FLAGS, GRPC, Histogram, Metric, PEER_ID, PEER_SUBJECT, ROOT,
        SERVICE, TERMINATION, Value,
    },
    store::{DropReason, Dropped, Limits, Store},
    traffic::BUCKETS,
};

use super::{
    directory::{Objects, objects, proxy},
    otlp::{Sample, counter, push},
};

const FRONT: [(&str, &str); 2] =
    [(PEER_ID, "spiffe://cluster.local/ns/shop/sa/web"), (PEER_SUBJECT, "CN=front,OU=Deployment")];
const DB: [(&str, &str); 2] =
    [(PEER_ID, "spiffe://cluster.local/ns/shop/sa/data"), (PEER_SUBJECT, "CN=db,OU=StatefulSet")];

fn latency(metric: Metric, labels: &[(&'static str, &str)], slow: u64, sum: u64) -> Sample {
    let mut buckets = [0; BUCKETS];
    (buckets[0], buckets[BUCKETS - 1]) = (1, slow);
    let value = Value::Histogram(Box::new(Histogram { buckets, sum }));
    Sample { value, ..counter(metric, labels, 0) }
}

fn report(store: &mut Store, pod: &str, time: u64, samples: &[Sample], known: &Objects) -> Dropped {
    store.report(&proxy(pod), &push(time.saturating_sub(9), time, samples), known, Duration::from_secs(time))
}

/// Returns the metrics of a set of names, a sample a line.
fn page(store: &Store, names: Names) -> String {
    let counters = store.counters();
    let mut page = String::new();
    for family in FAMILIES.iter().filter(|family| family.names == names) {
        for (labels, value) in family.samples(&counters, "cluster.local") {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let value = match value {
                Value::Count(count) => count.to_string(),
                Value::Histogram(it) => format!("{:?} sum {} us", it.buckets, it.sum),
            };
            writeln!(page, "{}{{{}}} {value}", family.full_name(), labels.join(",")).unwrap();
        }
    }
    page
}

fn both_sides(limits: Limits) -> Store {
    let mut store = Store::new(limits);
    let with =
        |base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]| [base, more].concat();
    let received = [
        counter(
            Metric::InboundRequests,
            &with(&FRONT, &[(CODE, "200"), (FLAGS, "-"), (ENFORCED, "allowed")]),
            7,
        ),
        counter(Metric::InboundRequests, &with(&FRONT, &[(CODE, "503"), (FLAGS, "UF,URX")]), 2),
        counter(Metric::InboundRequests, &[(CODE, "403"), (FLAGS, "-"), (ENFORCED, "denied")], 3),
        counter(
            Metric::InboundRequests,
            &with(&FRONT, &[(CODE, "200"), (GRPC, "14"), (FLAGS, "made\"up")]),
            1,
        ),
        latency(Metric::InboundLatency, &FRONT, 2, 41_500),
        counter(Metric::InboundConnections, &with(&FRONT, &[(TERMINATION, "")]), 5),
        counter(Metric::InboundConnections, &[(TERMINATION, "rbac_access_denied_matched_policy[none]")], 6),
    ];
    let (root, service) = ((ROOT, "shop/db/80"), (SERVICE, "shop/db-v2/80"));
    let sent = [
        counter(Metric::OutboundRequests, &with(&DB, &[root, service, (CODE, "200"), (ATTEMPT, "1")]), 7),
        counter(Metric::OutboundRequests, &[root, service, (CODE, "0"), (FLAGS, "UF"), (ATTEMPT, "1")], 9),
        counter(Metric::OutboundRequests, &[root, service, (CODE, "0"), (FLAGS, "UF"), (ATTEMPT, "3")], 1),
        latency(Metric::OutboundLatency, &with(&DB, &[root, service]), 0, 900),
        counter(Metric::OutboundRefused, &[(ADDRESS, "10.0.0.1:80"), (CHAIN, "refuse/80/http")], 4),
        counter(Metric::OutboundRefused, &[(ADDRESS, "10.0.0.1:80"), (CHAIN, "no-endpoint/80/http")], 1),
        counter(Metric::OutboundRefused, &[(ADDRESS, "10.9.9.9:90"), (CHAIN, "refuse/90/tcp")], 2),
    ];
    assert_eq!(report(&mut store, "db-0", 10, &received, &objects()), Dropped::new());
    assert_eq!(report(&mut store, "front-7d9-a", 10, &sent, &objects()), Dropped::new());
    store
}

#[test]
fn every_set_of_names_has_the_same_calls() {
    let store = both_sides(Limits::default());
    let page: String = Names::ALL.into_iter().map(|names| page(&store, names)).collect();
    expect("prometheus.txt", &page);
}

#[test]
fn pods_are_counted_apart_and_change_nothing_else() {
    let (without, with) = (both_sides(Limits::default()), both_sides(with_pods()));
    let of_pods = |line: &&str| line.starts_with("smidge_pod_");
    let page_of = |names| page(&with, names);
    expect("pods.txt", &page_of(Names::Smidge).lines().filter(of_pods).collect::<Vec<_>>().join("\n"));
    for names in Names::ALL {
        let rest: Vec<_> = page_of(names).lines().filter(|it| !of_pods(it)).map(str::to_owned).collect();
        assert_eq!(rest, page(&without, names).lines().collect::<Vec<_>>(), "{names:?}");
    }
    assert!(with.size().counters > without.size().counters);
}

#[test]
fn counters_of_a_pod_end_an_hour_after_it() {
    let mut store = Store::new(with_pods());
    let requests = [counter(Metric::InboundRequests, &[(CODE, "200")], 4)];
    report(&mut store, "db-0", 10, &requests, &objects());
    let mut unknown = proxy("made-up");
    unknown.namespace = "other".to_owned();
    store.report(&unknown, &push(1, 10, &requests), &objects(), Duration::from_secs(10));
    let pods = |store: &Store| {
        let keys = store.counters().counters.into_iter().map(|(key, value)| (key.pod.clone(), value));
        keys.filter(|(pod, _)| !pod.is_empty()).collect::<Vec<_>>()
    };
    // One that is not known has the name of its proxy.
    let names: BTreeSet<String> = pods(&store).into_iter().map(|(pod, _)| pod).collect();
    assert_eq!(names, BTreeSet::from(["db-0".to_owned(), "made-up".to_owned()]));
    // The last sweep before the pods are forgotten.
    store.sweep(Duration::from_hours(1));
    store.sweep(Duration::from_secs(3_600 + KEPT - 1));
    assert_eq!((store.size().proxies, pods(&store).len()), (0, 2));
    store.sweep(Duration::from_secs(3_600 + KEPT));
    assert!(store.counters().counters.is_empty());
    // A machine is no pod.
    let mut machine = objects();
    machine.instances.get_mut(&proxy("db-0")).unwrap().pod.clear();
    report(&mut store, "db-0", 20_000, &requests, &machine);
    assert_eq!((pods(&store).len(), store.counters().counters.len()), (0, 1));
}

/// Sums of counters: by code for Open Service Mesh, where a flag is not a label, and without the caller for Linkerd.
#[test]
fn a_sum_does_not_decrease_when_one_of_its_counters_ends() {
    let mut store = Store::new(Limits::default());
    let failed = |labels: &[(&'static str, &str)], flag, count| {
        let with = [labels, &[(CODE, "503"), (FLAGS, flag)]].concat();
        counter(Metric::InboundRequests, &with, count)
    };
    let sum = |store: &Store, names| -> BTreeMap<String, u64> {
        let page = page(store, names);
        let samples = page.lines().filter(|line| line.contains("503"));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        samples.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap())).collect()
    };
    let first = [failed(&FRONT, "UF", 5), failed(&FRONT, "UC", 2), failed(&DB, "UF", 7)];
    report(&mut store, "db-0", 10, &first, &objects());
    let before = [Names::Osm, Names::Linkerd].map(|names| sum(&store, names));
    assert_eq!(before[0].values().copied().collect::<Vec<_>>(), [7, 7], "{before:?}");
    assert_eq!(before[1].values().copied().collect::<Vec<_>>(), [14], "{before:?}");
    // One counter goes on; the others end, one after the other.
    let go_on = |store: &mut Store, time: u64| {
        let message = push(1, time, &[failed(&FRONT, "UC", 2)]);
        store.report(&proxy("db-0"), &message, &objects(), Duration::from_secs(time));
        store.sweep(Duration::from_secs(time));
    };
    (1..200).for_each(|minutes| go_on(&mut store, 10 + 60 * minutes));
    let after = [Names::Osm, Names::Linkerd].map(|names| sum(&store, names));
    assert_eq!(store.size().counters, 1);
    assert_eq!(after[0].values().copied().collect::<Vec<_>>(), [7], "the other caller's sum ends: {after:?}");
    assert_eq!(after[1], before[1]);
    assert_eq!(sum(&store, Names::Smidge).values().copied().collect::<Vec<_>>(), [2]);
    // A counter that comes back adds to it, and what ended goes with the last one that has its labels.
    let again = push(1, 12_000, &[failed(&FRONT, "UC", 2), failed(&FRONT, "UF", 1)]);
    store.report(&proxy("db-0"), &again, &objects(), Duration::from_mins(200));
    assert_eq!(sum(&store, Names::Osm).values().copied().collect::<Vec<_>>(), [8]);
    store.sweep(Duration::from_secs(12_200));
    store.sweep(Duration::from_secs(12_200 + 2 * KEPT));
    store.sweep(Duration::from_secs(12_200 + 4 * KEPT));
    let rest = store.counters();
    assert!(rest.counters.is_empty() && rest.ended.is_empty(), "{rest:?}");
}

fn with_pods() -> Limits {
    Limits::with_pod_counters()
}

/// One client of the page can be sent 64 MiB, of which the operator's own metrics are a part.
#[test]
fn the_page_with_pods_is_no_longer_than_without() {
    let (without, with) = (Limits::default(), with_pods());
    assert_eq!(4 * without.counter_bytes, 60 << 20);
    assert_eq!(5 * with.counter_bytes, 60 << 20);
    assert_eq!((4 * with.namespace_counter_bytes, with.pod_counters), (with.counter_bytes, true));
}

/// Compares with the committed text, or writes it.
fn expect(name: &str, page: &str) {
    let file = format!("{}/tests/unit/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    assert_eq!(page, std::fs::read_to_string(&file).unwrap_or_default(), "UPDATE_EXPECT=1 rewrites {file}");
}

#[test]
fn counters_exist_before_they_count_and_outlive_their_proxies() {
    let mut store = Store::new(Limits::default());
    let requests = |count| [counter(Metric::InboundRequests, &[(CODE, "200")], count)];
    let total = |store: &Store| -> Vec<Value> {
        store.counters().counters.into_iter().map(|(_, value)| value).collect()
    };
    // A proxy that has counted for long: what it counted before is not known to be of this time.
    let old = |time, count| push(1, time, &requests(count));
    store.report(&proxy("db-0"), &old(10_000, 900), &objects(), Duration::from_secs(10_000));
    assert_eq!(total(&store), [Value::Count(0)]);
    store.report(&proxy("db-0"), &old(10_010, 905), &objects(), Duration::from_secs(10_010));
    assert_eq!(total(&store), [Value::Count(5)]);
    // Another pod of the same workload adds to it, and a restart takes nothing away.
    let mut both = objects();
    let instance = both.instances[&proxy("db-0")].clone();
    both.instances.insert(proxy("db-1"), instance);
    report(&mut store, "db-1", 10_020, &requests(3), &both);
    store.report(&proxy("db-0"), &push(10_025, 10_030, &requests(1)), &both, Duration::from_secs(10_030));
    assert_eq!(total(&store), [Value::Count(9)]);
    store.sweep(Duration::from_secs(10_040));
    // The pods are gone; the counter stays for its time.
    let gone = 10_030 + 3_601;
    store.sweep(Duration::from_secs(gone));
    assert_eq!((store.size().proxies, total(&store)), (0, vec![Value::Count(9)]));
    store.sweep(Duration::from_secs(10_040 + KEPT));
    assert_eq!((store.size().counters, total(&store)), (0, vec![]));
}

#[test]
fn a_pod_that_becomes_known_counts_under_its_name() {
    let mut store = Store::new(Limits::default());
    let requests = |count| [counter(Metric::InboundRequests, &[(CODE, "200")], count)];
    let at = |store: &mut Store, time, count, known: &Objects| {
        store.report(&proxy("db-0"), &push(1, time, &requests(count)), known, Duration::from_secs(time))
    };
    at(&mut store, 10, 2, &Objects::default());
    at(&mut store, 20, 5, &objects());
    let named: Vec<_> = store
        .counters()
        .counters
        .into_iter()
        .map(|(key, value)| (key.calls.destination.name.clone(), value))
        .collect();
    assert_eq!(named, [(String::new(), Value::Count(2)), ("db".to_owned(), Value::Count(3))]);
}

#[test]
fn text_is_bounded_in_all_and_for_a_namespace() {
    let limits = Limits { counter_bytes: 100_000, namespace_counter_bytes: 40_000, ..with_pods() };
    let mut store = Store::new(limits);
    let long = "n\"\\".repeat(80);
    let samples: Vec<Sample> = (0..100)
        .flat_map(|number| {
            let subject = format!("CN={long}{number},OU=K");
            let id = format!("spiffe://d/ns/{long}/sa/{long}");
            let labels = [(PEER_ID, &*id), (PEER_SUBJECT, &*subject), (CODE, "200")];
            [counter(Metric::InboundRequests, &labels, 1), latency(Metric::InboundLatency, &labels, 1, 1)]
        })
        .collect();
    let dropped = report(&mut store, "db-0", 10, &samples, &objects());
    assert_eq!(dropped.keys().collect::<Vec<_>>(), [&DropReason::Counters]);
    assert_eq!(store.size().series, 200, "windows have them");
    let lines =
        |text: &str| text.lines().map(|line| line.len() * if line.contains('[') { 16 } else { 1 }).sum();
    for names in Names::ALL {
        // Pods have the same bound once more.
        let page = page(&store, names);
        let (pods, rest): (Vec<&str>, Vec<&str>) =
            page.lines().partition(|line| line.starts_with("smidge_pod_"));
        assert_eq!(pods.is_empty(), names != Names::Smidge);
        let bytes: usize = lines(&pods.join("\n"));
        assert!(bytes < 40_000, "{names:?}: {bytes} of pods");
        let bytes: usize = lines(&rest.join("\n"));
        assert!((1..40_000).contains(&bytes), "{names:?}: {bytes}");
    }
    // Another namespace still has room.
    let mut other = proxy("web-0");
    other.namespace = "other".to_owned();
    let message = push(1, 10, &[counter(Metric::InboundRequests, &[(CODE, "200")], 1)]);
    assert_eq!(store.report(&other, &message, &objects(), Duration::from_secs(10)), Dropped::new());
}

/// The documentation has the table, between two marks.
#[test]
fn the_documentation_lists_every_metric() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/prometheus.md");
    let (begin, end) = ("<!-- names: begin -->\n", "<!-- names: end -->");
    let page = std::fs::read_to_string(file).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    let mut expected = "| set | metric | what it counts | labels |\n| --- | --- | --- | --- |\n".to_owned();
    for family in &FAMILIES {
        let labels: Vec<_> = family.label_names().map(|label| format!("`{label}`")).collect();
        let (set, name) = (family.names.as_str(), family.full_name());
        writeln!(expected, "| `{set}` | `{name}` | {} | {} |", family.help, labels.join(", ")).unwrap();
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(file, format!("{before}{begin}{expected}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(table, expected, "UPDATE_EXPECT=1 rewrites {file}");
}

#[test]
fn names_and_labels_are_those_that_prometheus_accepts() {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
    };
    let mut names = BTreeSet::new();
    for family in &FAMILIES {
        assert!(is_name(family.name) && names.insert(family.name), "{}", family.name);
        assert!(!family.name.ends_with("_total"), "the page adds it: {}", family.name);
        let labels: Vec<_> = family.label_names().collect();
        assert!(labels.iter().all(|label| is_name(label) && *label != "le"), "{labels:?}");
        assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len(), "{labels:?}");
    }
}
