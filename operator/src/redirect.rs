//! Turns redirection settings into firewall rules, and applies them inside a pod.
