//! Judges what a token says: for us, for now, and of which pod.
//!
//! Called by `auth` with the issuer's keys as they are known; `pods` then says whether that pod lives. Pure: the time is
//! a parameter. What the keys cannot judge is left open, for the API server to say.

use super::{
    keys::{Known, Signature},
    reason::Reason,
    token::{Claims, Token},
};

/// By how many seconds our clock and the API server's may differ.
const LEEWAY: i64 = 30;

/// What is made of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It proves this.
    Good(Subject),
    /// It proves nothing.
    Refused(Reason),
    /// All that it says would do, but the issuer's keys cannot decide: the API server must.
    Open(Subject),
    /// All that it says would do, but it is signed by no key of the issuer, as far as its keys are known.
    UnknownKey,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The namespace of pod and account.
    pub namespace: String,
    /// The account.
    pub service_account: String,
    /// The pod's name.
    pub pod: String,
    /// Which pod of that name.
    pub uid: String,
    /// When the token ends, in seconds since 1970.
    pub expires: i64,
}

impl Subject {
    /// The user name that Kubernetes gives the account.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

/// What `token` proves to whoever is `audience`, with what is known of the issuer.
pub fn judge(token: &Token<'_>, known: Option<&Known>, audience: &str, now: i64) -> Verdict {
    // The signature first: what is not signed does not deserve a better reason.
    let claims = token.claims();
    let signature = match known {
        Some(known) => known.keys.verify(token),
        None if token.header().alg.eq_ignore_ascii_case("none") => Signature::Bad(Reason::Algorithm),
        None => Signature::Undecided,
    };
    if let Signature::Bad(reason) = signature {
        return Verdict::Refused(reason);
    }
    // An issuer that was renamed goes on accepting tokens of its old name; only the API server knows the old ones.
    let is_issuers = known.is_some_and(|known| known.issuer == claims.iss);
    match (said(claims, audience, now), signature) {
        (Err(reason), _) => Verdict::Refused(reason),
        (Ok(_), Signature::UnknownKey) => Verdict::UnknownKey,
        (Ok(subject), Signature::Good) if is_issuers => Verdict::Good(subject),
        (Ok(subject), _) => Verdict::Open(subject),
    }
}

fn said(claims: &Claims, audience: &str, now: i64) -> Result<Subject, Reason> {
    if !claims.aud.contain(audience) {
        return Err(Reason::WrongAudience);
    }
    if claims.exp.saturating_add(LEEWAY) <= now {
        return Err(Reason::Expired);
    }
    if claims.nbf.saturating_sub(LEEWAY) > now {
        return Err(Reason::NotYetValid);
    }
    let bound = claims.bound.as_ref().ok_or(Reason::NotPodBound)?;
    let pod = bound.pod.as_ref().ok_or(Reason::NotPodBound)?;
    let subject = Subject {
        namespace: bound.namespace.clone(),
        service_account: bound.serviceaccount.name.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        expires: claims.exp,
    };
    // A name with a slash would be another identity; no name of Kubernetes has one.
    let names = [&subject.namespace, &subject.service_account, &subject.pod, &subject.uid];
    let is_name = |name: &&String| !name.is_empty() && !name.contains(['/', ':']);
    if !names.iter().all(is_name) || claims.sub != subject.user() {
        return Err(Reason::Malformed);
    }
    Ok(subject)
}
