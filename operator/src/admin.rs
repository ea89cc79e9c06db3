//! The operator's own pages: readiness, metrics and debug dumps.
