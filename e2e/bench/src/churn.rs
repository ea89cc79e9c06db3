//! Background changes during a measurement: an endpoint of one Service after the other.
//!
//! Started and stopped by scenarios. Does not wait for one change before it makes the next, but skips changes rather
//! than overload a slower API server; measures nothing but their number. It restores every endpoint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hyper::Method;
use tokio::{
    task::{JoinError, JoinHandle, JoinSet},
    time::MissedTickBehavior,
};

use crate::{bench::ready, cluster::Cluster, shape::Shape};

/// Maximum number of concurrent changes.
const UNDER_WAY: usize = 32;

/// Changes in the background.
pub struct Churn {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<f64>>,
}

impl Churn {
    /// Starts to make a change after each `pause`, at all Services but `quiet`.
    pub fn start(cluster: Cluster, shape: Shape, quiet: &[usize], pause: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let services = (0..shape.services).filter(|service| !quiet.contains(service));
        let endpoints = services.map(|service| Endpoint { service, is_ready: true, is_changing: false });
        let (endpoints, calls) = (endpoints.collect(), JoinSet::new());
        let going = Going { cluster, endpoints, calls, made: 0 };
        let task = tokio::spawn(going.on(pause, Arc::clone(&is_over)));
        Self { is_over, task }
    }

    /// Stops the changes, once every endpoint in the API server has its first state; returns the number of changes per
    /// second.
    pub async fn stop(self) -> anyhow::Result<f64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.context("the churn has ended by itself")?
    }
}

/// First endpoint of a Service.
struct Endpoint {
    service: usize,
    is_ready: bool,
    is_changing: bool,
}

struct Going {
    cluster: Cluster,
    endpoints: Vec<Endpoint>,
    /// Index of an endpoint, with the outcome of its change.
    calls: JoinSet<(usize, anyhow::Result<()>)>,
    made: usize,
}

impl Going {
    async fn on(mut self, pause: Duration, is_over: Arc<AtomicBool>) -> anyhow::Result<f64> {
        anyhow::ensure!(!self.endpoints.is_empty(), "no Service is left whose endpoints may change");
        let (mut every, started) = (tokio::time::interval(pause), Instant::now());
        every.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut next = 0;
        while !is_over.load(Ordering::Relaxed) {
            every.tick().await;
            while let Some(call) = self.calls.try_join_next() {
                self.note(call)?;
            }
            if self.calls.len() < UNDER_WAY {
                self.change(next)?;
                next = (next + 1) % self.endpoints.len();
            }
        }
        self.all_made().await?;
        let rate = self.made as f64 / started.elapsed().as_secs_f64();
        for number in 0..self.endpoints.len() {
            if !self.endpoints[number].is_ready {
                self.change(number)?;
            }
            if self.calls.len() >= UNDER_WAY {
                self.all_made().await?;
            }
        }
        self.all_made().await?;
        let left = self.endpoints.iter().filter(|endpoint| !endpoint.is_ready).count();
        anyhow::ensure!(left == 0, "the churn has left {left} endpoints that are not ready");
        Ok(rate)
    }

    /// Starts to invert an endpoint's readiness, unless a change of it is in progress.
    fn change(&mut self, number: usize) -> anyhow::Result<()> {
        let endpoint = &mut self.endpoints[number];
        if std::mem::replace(&mut endpoint.is_changing, true) {
            return Ok(());
        }
        let slices = self.cluster.path("EndpointSlice", &Shape::namespace(endpoint.service))?;
        let path = format!("{slices}/{}-0", Shape::name(endpoint.service));
        let (cluster, change) = (self.cluster.clone(), ready(0, !endpoint.is_ready));
        self.calls.spawn(async move {
            let call = cluster.call(Method::PATCH, &path, Some(&change)).await;
            (number, call.map(drop))
        });
        Ok(())
    }

    async fn all_made(&mut self) -> anyhow::Result<()> {
        while let Some(call) = self.calls.join_next().await {
            self.note(call)?;
        }
        Ok(())
    }

    fn note(&mut self, call: Result<(usize, anyhow::Result<()>), JoinError>) -> anyhow::Result<()> {
        let (number, call) = call?;
        let endpoint = &mut self.endpoints[number];
        endpoint.is_changing = false;
        match call {
            Ok(()) => {
                endpoint.is_ready = !endpoint.is_ready;
                self.made += 1;
            }
            Err(error) => eprintln!("    churn: {error:#}"),
        }
        Ok(())
    }
}
