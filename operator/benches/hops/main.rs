//! Cost of each hop of the pipeline, from the objects of a cluster to the bytes for one proxy. `make bench-hops`.
//!
//! One program for all hops, those of `xds` among them: they measure the mesh that `lower` makes of the objects that
//! the bench end to end puts into its cluster (`e2e/bench/src/shape.rs`), and only here both are available. The size is
//! in each name. Reports figures (`table`); judges none.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench ends where it goes wrong"
)]

mod certificate;
mod delta;
mod injection;
mod lower;
mod publish;
mod resources;
#[path = "../../../e2e/bench/src/review.rs"]
mod review;
mod rollout;
mod scenario;
#[path = "../../../e2e/bench/src/shape.rs"]
mod shape;
mod table;
mod view;

use std::time::Duration;

use criterion::Criterion;
use scenario::Scenario;
use shape::Shape;

/// The sizes: 100 and 1,000 Services, with 100, 1,000 and 10,000 pods.
const SIZES: [Shape; 5] = [
    Shape { services: 100, pods: 1 },
    Shape { services: 100, pods: 10 },
    Shape { services: 100, pods: 100 },
    Shape { services: 1000, pods: 1 },
    Shape { services: 1000, pods: 10 },
];

fn main() {
    let folder = table::folder();
    let mut criterion = Criterion::default()
        .output_directory(&folder)
        .without_plots()
        // Some ninety figures in some three minutes.
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .nresamples(10_000)
        .configure_from_args();
    for shape in SIZES {
        let scenario = Scenario::new(shape);
        lower::bench(&mut criterion, &scenario);
        publish::bench(&mut criterion, &scenario);
        resources::bench(&mut criterion, &scenario);
        view::bench(&mut criterion, &scenario);
        delta::bench(&mut criterion, &scenario);
    }
    rollout::bench(&mut criterion);
    certificate::bench(&mut criterion);
    injection::bench(&mut criterion);
    criterion.final_summary();
    table::print(&folder);
}
