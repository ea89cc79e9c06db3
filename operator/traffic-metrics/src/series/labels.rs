//! Labels of a point, by the names that the contract in `series` gives them.
//!
//! Pure. Filled by `series`, judged by `flow` and `outcome`.

use super::{
    ADDRESS, ATTEMPT, CHAIN, CODE, ENFORCED, FLAGS, GRPC, PEER_ID, PEER_SUBJECT, RETRIED, ROOT, ROUTE,
    SERVICE, SHADOW, TERMINATION,
};

/// Labels of a point; empty where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[expect(missing_docs, reason = "the constants of the same names have it")]
pub struct Labels<'a> {
    pub peer_id: &'a str,
    pub peer_subject: &'a str,
    pub code: &'a str,
    pub flags: &'a str,
    pub grpc: &'a str,
    pub enforced: &'a str,
    pub shadow: &'a str,
    pub route: &'a str,
    pub termination: &'a str,
    pub attempt: &'a str,
    pub retried: &'a str,
    pub chain: &'a str,
    pub service: &'a str,
    pub root: &'a str,
    pub address: &'a str,
}

impl<'a> Labels<'a> {
    /// Returns the label of a name, to be set; `None` if there is none of it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut &'a str> {
        Some(match key {
            PEER_ID => &mut self.peer_id,
            PEER_SUBJECT => &mut self.peer_subject,
            CODE => &mut self.code,
            FLAGS => &mut self.flags,
            GRPC => &mut self.grpc,
            ENFORCED => &mut self.enforced,
            SHADOW => &mut self.shadow,
            ROUTE => &mut self.route,
            TERMINATION => &mut self.termination,
            ATTEMPT => &mut self.attempt,
            RETRIED => &mut self.retried,
            CHAIN => &mut self.chain,
            SERVICE => &mut self.service,
            ROOT => &mut self.root,
            ADDRESS => &mut self.address,
            _ => return None,
        })
    }
}
