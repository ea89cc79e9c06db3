//! Takes, renews and releases the Lease, and publishes the leader.
//!
//! Impure. Started by `runtime`; watched by `status` and `report`. Queries the API server every two seconds. Written
//! here because it is a hundred lines, and the crates that do it need a Kubernetes client of another version.

use std::{pin::pin, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{DEADLINE, DURATION, Leader, Lease, RETRY, Seen, Step};
use crate::clock::Clock;

/// Name of the Lease.
pub const NAME: &str = "smidge-leader";

/// Time limit of an update of the Lease, so that a leader can try three times before its deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Replica that may lead.
pub struct Candidate {
    /// Client of the API server.
    pub client: Client,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of this replica's pod.
    pub name: String,
    /// Clock of the times in the Lease, which are for people.
    pub clock: Clock,
    /// Channel on which the leader is published.
    pub leader: watch::Sender<Leader>,
}

/// Error of reading or writing the Lease.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("failed to reach the API server for the Lease {NAME}")]
    Api(#[from] kube::Error),
    #[error("the API server took too long over the Lease {NAME}")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

impl Candidate {
    /// Takes part in the election until `stop`, and then releases the lease.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let started = Instant::now();
        let (mut seen, mut renewed) = (Seen::default(), None::<Instant>);
        loop {
            let begun = Instant::now();
            let poll = timeout(REQUEST_TIMEOUT, self.poll(&mut seen, begun - started));
            let result = tokio::select! {
                () = &mut stop => break,
                result = poll => result.map_err(LeaseError::from).flatten(),
            };
            match result {
                Ok(leader) => {
                    renewed = (leader == Leader::Me).then_some(begun);
                    self.publish(leader);
                }
                Err(error) => {
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    warn!(%error, cause, "failed to update the leader lease, retrying");
                    if renewed.is_none_or(|renewed| renewed.elapsed() >= DEADLINE) {
                        self.publish(Leader::None);
                    }
                }
            }
            tokio::select! {
                () = &mut stop => break,
                () = sleep(RETRY) => {}
            }
        }
        if *self.leader.borrow() == Leader::Me {
            self.publish(Leader::None);
            if let Ok(Ok(())) = timeout(REQUEST_TIMEOUT, self.release()).await {
                info!("released leader lease");
            } else {
                warn!("failed to release leader lease, it expires by itself");
            }
        }
    }

    fn publish(&self, leader: Leader) {
        self.leader.send_if_modified(|current| {
            let before = std::mem::replace(current, leader);
            match (before, leader) {
                (Leader::None | Leader::Other, Leader::Me) => {
                    info!(replica = self.name, "acquired leader lease");
                }
                (Leader::Me, Leader::None | Leader::Other) => {
                    info!(replica = self.name, "lost leader lease");
                }
                _ => {}
            }
            before != leader
        });
    }

    fn api(&self) -> Api<Object> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn poll(&self, seen: &mut Seen, now: Duration) -> Result<Leader, LeaseError> {
        let found = self.api().get_opt(NAME).await?;
        let step = seen.decide(found.as_ref().map(read), &self.name, now);
        let params = PostParams::default();
        let written = match (step, found) {
            (Step::Wait, _) => return Ok(Leader::Other),
            (Step::Create, _) | (_, None) => {
                self.api().create(&params, &self.object(LeaseSpec::default(), ObjectMeta::default())).await
            }
            (Step::Acquire | Step::Renew, Some(Object { metadata, spec })) => {
                // With the version that was read: a replica that comes second gets a conflict, and reads again.
                let object = self.object(spec.unwrap_or_default(), metadata);
                self.api().replace(NAME, &params, &object).await
            }
        };
        match written {
            Ok(_) => Ok(Leader::Me),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Leader::Other),
            Err(error) => Err(error.into()),
        }
    }

    /// Builds the Lease with this replica as its holder.
    fn object(&self, before: LeaseSpec, metadata: ObjectMeta) -> Object {
        let is_ours = before.holder_identity.as_deref() == Some(&self.name);
        let now = Timestamp::from_nanosecond(self.clock.now().unix_timestamp_nanos()).unwrap_or_default();
        let spec = LeaseSpec {
            acquire_time: before.acquire_time.filter(|_| is_ours).or(Some(MicroTime(now))),
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!is_ours)),
            renew_time: Some(MicroTime(now)),
            ..before
        };
        Object { metadata: ObjectMeta { name: Some(NAME.to_owned()), ..metadata }, spec: Some(spec) }
    }

    async fn release(&self) -> Result<(), LeaseError> {
        let Some(mut lease) = self.api().get_opt(NAME).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.name) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.api().replace(NAME, &PostParams::default(), &lease).await?;
        Ok(())
    }
}

fn read(lease: &Object) -> Lease {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Lease {
        holder: spec.holder_identity.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: seconds.map_or(DURATION, Duration::from_secs),
    }
}
