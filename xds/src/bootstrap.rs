//! What a proxy starts with: the static Envoy bootstrap, inline in the injected container.
//!
//! Called by the operator's injector; holds no secret and no Kubernetes type.
