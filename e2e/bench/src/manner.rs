//! How proxies misbehave, once they have everything.
//!
//! Used by `fleet` for a crowd of one manner. They are configured as honest proxies first, so that the operator has
//! something to tell them.

use crate::{
    sidecar::Outbox,
    wire::{Request, Response},
};

/// What a proxy does with what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes and acknowledges it.
    Honest,
    /// Leaves it in its socket.
    Deaf,
    /// Reads it and answers nothing.
    Mute,
    /// Refuses it.
    Refusing,
    /// Refuses it and asks for it anew in the same breath, for ever.
    Insisting,
}

impl Manner {
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
