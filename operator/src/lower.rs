//! Turns the objects of the clusters into a mesh and findings.
