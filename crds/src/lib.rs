//! Kubernetes wire types of Smidge.
