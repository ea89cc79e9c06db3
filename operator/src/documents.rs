//! Turns files of Kubernetes YAML into objects, for the offline tools.
