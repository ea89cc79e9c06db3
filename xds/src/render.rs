//! One proxy's configuration as one complete, static Envoy configuration.
