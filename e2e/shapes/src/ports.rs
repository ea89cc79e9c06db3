//! Ports of the server, and how a Service declares them.
//!
//! `serve` listens at each, and a shape names the one that it calls.

use serde_json::{Value, json};

/// HTTP of both versions, declared.
pub const HTTP: u16 = 8080;
/// HTTP over gRPC's own declaration.
pub const GRPC: u16 = 8081;
/// HTTP of both versions, at a port that declares nothing.
pub const HTTP_UNDECLARED: u16 = 8082;
/// HTTP at a privileged port.
pub const PRIVILEGED: u16 = 80;
/// Sends back what it receives.
pub const ECHO: u16 = 9000;
/// The same, undeclared.
pub const ECHO_UNDECLARED: u16 = 9001;
/// Sends a greeting before it receives anything.
pub const GREETING: u16 = 9002;
/// The same, undeclared.
pub const GREETING_UNDECLARED: u16 = 9003;
/// Sends a greeting, and answers each line.
pub const DIALOGUE: u16 = 9004;
/// TLS of the application, declared.
pub const TLS: u16 = 9443;
/// The same, undeclared.
pub const TLS_UNDECLARED: u16 = 9444;
/// Forward proxy of HTTP.
pub const FORWARD_PROXY: u16 = 3128;
/// First of the ports that send back what they receive, to have many.
pub const MANY: u16 = 10_000;
/// Their number.
pub const MANY_COUNT: u16 = 20;

/// Each port with the application protocol that its Service declares; empty: none.
const DECLARED: &[(u16, &str)] = &[
    (HTTP, "http"),
    (GRPC, "kubernetes.io/h2c"),
    (HTTP_UNDECLARED, ""),
    (PRIVILEGED, "http"),
    (ECHO, "tcp"),
    (ECHO_UNDECLARED, ""),
    (GREETING, "tcp"),
    (GREETING_UNDECLARED, ""),
    (DIALOGUE, "tcp"),
    (TLS, "https"),
    (TLS_UNDECLARED, ""),
    (FORWARD_PROXY, "tcp"),
];

/// Returns the ports as `spec.ports` of a Service.
pub fn of_a_service() -> Value {
    let many = (MANY..MANY + MANY_COUNT).map(|port| (port, "tcp"));
    let ports = DECLARED.iter().copied().chain(many).map(|(port, protocol)| {
        let name = format!("p{port}");
        if protocol.is_empty() {
            json!({"name": name, "port": port})
        } else {
            json!({"name": name, "port": port, "appProtocol": protocol})
        }
    });
    ports.collect()
}
