//! Turns mesh values into Envoy messages: a file per Envoy noun.
