//! The HTTPS server of the webhooks.
