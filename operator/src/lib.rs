//! From Kubernetes to the mesh model, and the other faces of Smidge.
