//! Turns the name of an ExternalWorkload into that of its instance in the mesh, and back.
//!
//! Pure. An instance is called `external:NAME`, which no pod can be called, so that a pod and an ExternalWorkload of one
//! name are two instances. Used by lowering and by the authenticator of proxies. `kubernetes::external_workload` reads
//! the object.

/// Prefix of the names of instances. Names of pods have no colon.
const PREFIX: &str = "external:";

/// Returns the name of the instance of the ExternalWorkload called `name`.
pub fn instance(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Returns the name of the ExternalWorkload of an instance, if it is one of an ExternalWorkload.
pub fn name(instance: &str) -> Option<&str> {
    instance.strip_prefix(PREFIX)
}
