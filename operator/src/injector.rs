//! Turns a pod into a pod with a proxy.
