//! From the mesh model to Envoy on the wire.
