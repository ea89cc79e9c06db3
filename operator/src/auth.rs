//! Turns the token of a stream into the identity of a proxy.
