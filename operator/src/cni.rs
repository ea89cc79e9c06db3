//! The CNI plugin: redirects the traffic of injected pods from outside of them, so that they need no privilege.
//!
//! `protocol` has the specification's messages, `conflist` the configuration that the plugin is chained in; both are
//! pure. `plugin` is the program that the container runtime runs on the node: a thin client that opens the pod's network
//! and passes it, over a Unix socket, to the `agent` of the DaemonSet, which applies the rules there with the tools of its
//! image. `message` is what they exchange, `install` puts the plugin on the node, and `removal` finds out whether it is to
//! be taken off. `taint` is the operator's part: nodes whose plugin is ready lose a taint. Neither plugin nor agent reads the API server: the runtime passes the pod's annotations. Decides nothing
//! about the rules.

pub mod agent;
pub mod conflist;
pub mod install;
pub mod message;
pub mod plugin;
pub mod protocol;
pub mod removal;
pub mod taint;

/// Name of the plugin: its file, and its `type` in the configuration.
pub const PLUGIN: &str = "smidge-cni";
/// Default path of the agent's socket, on the node and in the agent's container.
pub const SOCKET: &str = "/run/smidge-cni/agent.sock";
/// Capability of a plugin by which the container runtime passes it the pod's annotations.
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
