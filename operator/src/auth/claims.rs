//! Judges the claims of a token: audience, validity and bound pod.
//!
//! Called by `auth` with the issuer's keys as currently known; `pods` then checks that the pod is alive. Pure: the time
//! is a parameter. Does not decide what the keys cannot: such a token is left open, for a review by the API server.

use super::{
    keys::{Known, Signature},
    reason::Reason,
    token::{Claims, Token},
};

/// Maximum difference between our clock and the API server's, in seconds.
const LEEWAY: i64 = 30;

/// Result of judging a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The token proves this pod.
    Good(Subject),
    /// The token proves nothing.
    Refused(Reason),
    /// The claims are valid, but the issuer's keys cannot decide: the API server must.
    Open(Subject),
    /// The claims are valid, but the token is signed by no key of the issuer, as far as its keys are known.
    UnknownKey,
}

/// Pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Namespace of pod and ServiceAccount.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub service_account: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// Expiry of the token, in seconds since 1970.
    pub expires: i64,
}

impl Subject {
    /// Returns the user name that Kubernetes gives the ServiceAccount.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

/// Judges `token` for `audience`, with the known name and keys of the issuer.
pub fn judge(token: &Token<'_>, known: Option<&Known>, audience: &str, now: i64) -> Verdict {
    // The signature first: a token without a valid one gets no more precise reason.
    let claims = token.claims();
    let signature = match known {
        Some(known) => known.keys.verify(token),
        None if token.header().alg.eq_ignore_ascii_case("none") => Signature::Bad(Reason::Algorithm),
        None => Signature::Undecided,
    };
    if let Signature::Bad(reason) = signature {
        return Verdict::Refused(reason);
    }
    // A renamed issuer still accepts tokens of its old name; only the API server knows the old names.
    let is_issuers = known.is_some_and(|known| known.issuer == claims.iss);
    match (subject(claims, audience, now), signature) {
        (Err(reason), _) => Verdict::Refused(reason),
        (Ok(_), Signature::UnknownKey) => Verdict::UnknownKey,
        (Ok(subject), Signature::Good) if is_issuers => Verdict::Good(subject),
        (Ok(subject), _) => Verdict::Open(subject),
    }
}

fn subject(claims: &Claims, audience: &str, now: i64) -> Result<Subject, Reason> {
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
    // A name with a slash would form another identity; no name of Kubernetes has one.
    let names = [&subject.namespace, &subject.service_account, &subject.pod, &subject.uid];
    let is_name = |name: &&String| !name.is_empty() && !name.contains(['/', ':']);
    if !names.iter().all(is_name) || claims.sub != subject.user() {
        return Err(Reason::Malformed);
    }
    Ok(subject)
}
