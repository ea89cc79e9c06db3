//! The loop that writes statuses, with one TCPRoute that no object uses: its status needs no proxy.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use prometheus_client::registry::Registry;
use smidge::{
    clock::Clock,
    finding::ObjectRef,
    lease::Leader,
    objects::Known,
    publish::Published,
    status::{
        programmed::AckCounts,
        status_loop::{self, Metrics, Sources},
    },
};
use smidge_xds::{mesh::Mesh, server::Proxies, snapshot::Snapshot};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::api_server::{self, Objects};

const TIMEOUT: Duration = Duration::from_secs(10);

struct Scenario {
    objects: Arc<Objects>,
    published: watch::Sender<Option<Arc<Published>>>,
    leader: watch::Sender<Leader>,
}

async fn start(leader: Leader) -> Scenario {
    let (objects, client) = api_server::start().await;
    let (published, leader) = (watch::Sender::new(None), watch::Sender::new(leader));
    let sources = Sources {
        published: published.subscribe(),
        proxies: Proxies::default(),
        others: watch::channel(Arc::default()).1,
        leader: leader.subscribe(),
        own: watch::Sender::new(AckCounts::default()),
        writer: client,
        clock: Clock::system(),
        metrics: Metrics::register(&mut Registry::default()),
    };
    tokio::spawn(status_loop::run(sources));
    Scenario { objects, published, leader }
}

impl Scenario {
    /// Publishes TCPRoutes with these names, at this generation, with the statuses that the API server has.
    fn publish(&self, names: &[&str], generation: i64) {
        let statuses = self.objects.statuses.lock().unwrap();
        let known = |name: &&str| {
            let status = statuses.get(&("tcproutes".to_owned(), (*name).to_owned()));
            let known = Known {
                uid: format!("uid of {name}"),
                generation: Some(generation),
                status: status.map(|status| serde_json::from_value(status.clone()).unwrap()),
                uses: Vec::new(),
            };
            (ObjectRef::new("TCPRoute", "shop", *name), Arc::new(known))
        };
        self.published.send_replace(Some(Arc::new(Published {
            objects: names.iter().map(known).collect(),
            findings: Arc::default(),
            snapshot: Arc::new(Snapshot::next(Arc::new(Mesh::default()), None)),
            operator_pods: Arc::default(),
        })));
    }

    async fn writes(&self, wanted: u64) {
        let writes = || self.objects.writes.load(SeqCst);
        let there = async {
            while writes() < wanted {
                sleep_until(Instant::now() + Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, there).await.unwrap_or_else(|_| unreachable!("{} of {wanted} writes", writes()));
    }

    /// Makes the loop write one more status, after everything else that it may have to write.
    async fn quiet(&self, names: &[&str], writes: u64) {
        let mut all = names.to_vec();
        all.push("marker");
        self.publish(&all, 1);
        self.writes(writes + 1).await;
        assert_eq!(self.objects.writes.load(SeqCst), writes + 1, "more was written than the marker");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_written_once_and_again_for_another_generation() {
    let scenario = start(Leader::Me).await;
    scenario.publish(&["one"], 1);
    scenario.writes(1).await;
    let key = ("tcproutes".to_owned(), "one".to_owned());
    let status = scenario.objects.statuses.lock().unwrap()[&key].clone();
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["conditions"][2]["reason"], "NotInUse");
    // The status comes back through the watch; the state is published again with it, twice.
    scenario.publish(&["one"], 1);
    scenario.publish(&["one"], 1);
    scenario.quiet(&["one"], 1).await;
    scenario.publish(&["one"], 2);
    scenario.writes(3).await;
    assert_eq!(scenario.objects.statuses.lock().unwrap()[&key]["observedGeneration"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_lead_writes_nothing_and_who_comes_to_lead_catches_up() {
    let scenario = start(Leader::Other).await;
    scenario.publish(&["one", "two"], 1);
    scenario.leader.send_replace(Leader::None);
    assert_eq!(scenario.objects.writes.load(SeqCst), 0);
    scenario.leader.send_replace(Leader::Me);
    scenario.writes(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_and_what_is_gone_is_not() {
    let scenario = start(Leader::Me).await;
    scenario.objects.gone.lock().unwrap().push("gone".to_owned());
    scenario.objects.down.store(true, SeqCst);
    scenario.publish(&["gone", "one"], 1);
    assert_eq!(scenario.objects.writes.load(SeqCst), 0);
    scenario.objects.down.store(false, SeqCst);
    scenario.writes(1).await;
    assert!(scenario.objects.statuses.lock().unwrap().keys().all(|(_, name)| name == "one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_takes_away_is_written_again() {
    let scenario = start(Leader::Me).await;
    scenario.publish(&["one"], 1);
    scenario.writes(1).await;
    scenario.publish(&["one"], 1);
    scenario.quiet(&["one"], 1).await;
    scenario.objects.statuses.lock().unwrap().clear();
    scenario.publish(&["one"], 1);
    scenario.writes(3).await;
}
