//! Watches the API server.
