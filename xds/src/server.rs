//! The gRPC shell around `delta::Session`.
