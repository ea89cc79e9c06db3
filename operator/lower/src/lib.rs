//! Turns the objects of the clusters into one mesh, and into findings about what is wrong with them.
//!
//! Pure and total: any inputs yield a mesh. A defect in an object removes only the effect of that object and yields a
//! finding; what cannot be read allows nothing. One file per Kubernetes or SMI noun; `publish` and the offline tools
//! call it. Does not know Envoy.
//!
//! Lowering is a graph (`engine`, docs/design/010) of nodes (`node`). Each node records what it has read (`context`),
//! so that a change recomputes only the nodes that it can affect.

pub mod admission;
mod budget;
pub mod bypass;
mod cluster;
mod compute;
mod context;
mod cost;
pub mod documents;
mod engine;
pub mod explain;
pub mod external_workload;
pub mod finding;
pub mod inputs;
pub mod kinds;
mod kubernetes;
mod lowering;
mod merge;
pub mod near;
mod node;
mod other_mesh;
mod route_source;
mod smi;
mod source;
mod table;
mod value;

pub use self::{
    cluster::{Bindings, bindings},
    kubernetes::{machine, settings::injects_strictly, workload},
    lowering::{Lowering, lower},
    smi::regex,
    source::Lowered,
};
