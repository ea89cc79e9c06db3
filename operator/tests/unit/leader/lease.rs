//! Candidates for the Lease.

use std::{sync::Arc, sync::atomic::Ordering::SeqCst, time::Duration};

use smidge::{
    clock::Clock,
    lease::{Leader, candidate::Candidate},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::api_server::{self, Objects};

const TIMEOUT: Duration = Duration::from_secs(8);

struct Replica {
    leads: watch::Receiver<Leader>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn candidate(client: &kube::Client, name: &str) -> Replica {
    let leader = watch::Sender::new(Leader::None);
    let leads = leader.subscribe();
    let candidate = Candidate {
        client: client.clone(),
        namespace: "smidge-system".to_owned(),
        name: name.to_owned(),
        clock: Clock::system(),
        leader,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(candidate.run(async { drop(stopped.await) }));
    Replica { leads, stop, task }
}

async fn becomes(replica: &mut Replica, leader: Leader, within: Duration) {
    let waited = timeout(within, replica.leads.wait_for(|now| *now == leader)).await;
    waited.unwrap_or_else(|_| unreachable!("it does not become {leader:?}")).unwrap();
}

fn holder_is(objects: &Arc<Objects>, name: &str) {
    assert_eq!(objects.holder(), name);
}

#[tokio::test]
async fn one_leads_and_hands_over_when_it_stops() {
    let (objects, client) = api_server::start().await;
    let mut first = candidate(&client, "first");
    becomes(&mut first, Leader::Me, TIMEOUT).await;
    let mut second = candidate(&client, "second");
    becomes(&mut second, Leader::Other, TIMEOUT).await;
    holder_is(&objects, "first");

    let stopped = Instant::now();
    first.stop.send(()).unwrap();
    first.task.await.unwrap();
    assert_ne!(*first.leads.borrow(), Leader::Me, "it went while it led");
    becomes(&mut second, Leader::Me, TIMEOUT).await;
    let handed_over = stopped.elapsed();
    assert!(handed_over < Duration::from_secs(5), "handing over took {handed_over:?}");
    holder_is(&objects, "second");
    let lease = objects.lease.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
}

#[tokio::test]
async fn of_many_that_start_together_one_leads() {
    let (objects, client) = api_server::start().await;
    let mut all: Vec<Replica> = (0..5).map(|n| candidate(&client, &format!("replica-{n}"))).collect();
    for replica in &mut all {
        timeout(TIMEOUT, replica.leads.wait_for(|now| *now != Leader::None))
            .await
            .expect("undecided")
            .unwrap();
    }
    let leaders: Vec<usize> = (0..5).filter(|n| *all[*n].leads.borrow() == Leader::Me).collect();
    assert_eq!(leaders.len(), 1, "{leaders:?} lead");
    holder_is(&objects, &format!("replica-{}", leaders[0]));
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_leading_before_others_may_begin() {
    let (objects, client) = api_server::start().await;
    let mut only = candidate(&client, "only");
    becomes(&mut only, Leader::Me, TIMEOUT).await;
    let since = Instant::now();
    objects.down.store(true, SeqCst);
    becomes(&mut only, Leader::None, Duration::from_secs(15)).await;
    let took = since.elapsed();
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(15), "it led on for {took:?}");
    objects.down.store(false, SeqCst);
    becomes(&mut only, Leader::Me, TIMEOUT).await;
}
