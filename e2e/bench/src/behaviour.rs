//! Misbehaviour of proxies, once they are configured.
//!
//! Used by `fleet` for proxies with the same misbehaviour. They are configured as well-behaved proxies first, so that
//! the operator has something to send to them.

use crate::{
    sidecar::Outbox,
    wire::{Request, Response},
};

/// Behaviour of a proxy on a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Accepts and acknowledges it.
    Honest,
    /// Leaves it unread in its socket.
    Deaf,
    /// Reads it and sends no answer.
    Mute,
    /// Sends a NACK.
    Refusing,
    /// Sends a NACK that subscribes to the same resources again, without end.
    Insisting,
}

impl Behaviour {
    /// Answers a response in place of the proxy.
    pub fn answer(self, response: &Response<'_>, out: &mut Outbox) {
        let mut request = Request { nonce: response.nonce, refusal: "no", ..Request::default() };
        match self {
            Self::Honest | Self::Deaf | Self::Mute => return,
            Self::Refusing => {}
            Self::Insisting => {
                let names = response.resources.iter().map(|resource| resource.name);
                request.subscribe = names.filter_map(|name| std::str::from_utf8(name).ok()).collect();
            }
        }
        let mut message = Vec::new();
        request.write(response.kind, &mut message);
        out.push(message);
    }
}
