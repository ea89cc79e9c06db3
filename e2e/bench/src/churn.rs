//! Changes that go on elsewhere while something is measured: an endpoint of one Service after the other.
//!
//! Started and stopped by scenarios. Does not wait for one change before it makes the next, but leaves changes out rather
//! than drown an API server that is slower; measures nothing but how many it made.

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
    task::{JoinHandle, JoinSet},
    time::MissedTickBehavior,
};

use crate::{cluster::Cluster, scenario::ready, shape::Shape};

/// Changes that may be under way at the same time.
const UNDER_WAY: usize = 32;

/// Changes that go on.
pub struct Churn {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<f64>>,
}

impl Churn {
    /// Makes a change after each `pause`, at all Services but `quiet`.
    pub fn start(cluster: Cluster, shape: Shape, quiet: Vec<usize>, pause: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(churn(cluster, shape, quiet, pause, Arc::clone(&is_over)));
        Self { is_over, task }
    }

    /// Ends them, when the last one is in the API server. The answer is how many there were in a second.
    pub async fn stop(self) -> anyhow::Result<f64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.context("the churn has ended by itself")?
    }
}

async fn churn(
    cluster: Cluster,
    shape: Shape,
    quiet: Vec<usize>,
    pause: Duration,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<f64> {
    let services: Vec<usize> = (0..shape.services).filter(|service| !quiet.contains(service)).collect();
    anyhow::ensure!(!services.is_empty(), "no Service is left whose endpoints may change");
    let (mut calls, mut made, mut number) = (JoinSet::new(), 0_usize, 0_usize);
    let (mut every, started) = (tokio::time::interval(pause), Instant::now());
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !is_over.load(Ordering::Relaxed) {
        every.tick().await;
        while let Some(call) = calls.try_join_next() {
            made += usize::from(is_made(call?));
        }
        if calls.len() >= UNDER_WAY {
            continue;
        }
        let service = services[number % services.len()];
        let slices = cluster.path("EndpointSlice", &Shape::namespace(service))?;
        let path = format!("{slices}/{}-0", Shape::name(service));
        // To and fro in turn, so that every change is one.
        let change = ready(number / services.len() % 2 == 1);
        let cluster = cluster.clone();
        calls.spawn(async move { cluster.call(Method::PATCH, &path, Some(&change)).await.map(drop) });
        number += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    while let Some(call) = calls.join_next().await {
        made += usize::from(is_made(call?));
    }
    Ok(made as f64 / seconds)
}

fn is_made(call: anyhow::Result<()>) -> bool {
    call.inspect_err(|error| eprintln!("    churn: {error:#}")).is_ok()
}
