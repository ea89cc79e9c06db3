//! Sends the API server a TokenReview of a token that the issuer's keys cannot judge.
//!
//! Last resort of `auth`, for clusters whose keys the operator may not read and for issuers that were renamed; `admin`
//! learns the user of a debug page from it. Holds the token no longer than the request, and never logs it.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Client, Resource as _, api::PostParams, core::Request};
use tokio::{sync::Semaphore, time::timeout};
use zeroize::{Zeroize as _, Zeroizing};

use super::{REVIEW_TIMEOUT, claims::Subject, reason::Reason, token::Token};

/// Maximum number of concurrent reviews: any client may send tokens, and the API server has other work.
const AT_ONCE: usize = 16;

/// Reviews tokens with the API server.
pub struct Reviewer {
    client: Client,
    slots: Semaphore,
}

impl Reviewer {
    /// Creates a reviewer with the API server of `client`.
    pub fn new(client: Client) -> Self {
        Self { client, slots: Semaphore::new(AT_ONCE) }
    }

    /// Checks that the API server accepts `token` for `audience`, and as a token of `subject`.
    pub async fn review(&self, token: &Token<'_>, audience: &str, subject: &Subject) -> Result<(), Reason> {
        let _slot = self.slots.acquire().await.map_err(|_| Reason::Unavailable)?;
        let user = ask(&self.client, token, audience).await?;
        is_of(&user, subject).then_some(()).ok_or(Reason::Rejected)
    }
}

/// Returns the user of the token, if the API server accepts it for `audience`. The caller bounds the number of
/// concurrent reviews.
pub async fn ask(client: &Client, token: &Token<'_>, audience: &str) -> Result<UserInfo, Reason> {
    let mut asked = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![audience.to_owned()]),
            token: Some(token.expose().to_owned()),
        },
        ..TokenReview::default()
    };
    let body = serde_json::to_vec(&asked);
    asked.spec.token.zeroize();
    let request = Request::new(TokenReview::url_path(&(), None));
    let request = request.create(&PostParams::default(), body.map_err(|_| Reason::Unavailable)?);
    let request = request.map_err(|_| Reason::Unavailable)?;
    // Requests the text and not the object: the client would log an answer that it cannot parse, and the token is in
    // it.
    let answer = timeout(REVIEW_TIMEOUT, client.request_text(request)).await;
    let answer = answer.map_err(|_| Reason::Unavailable)?.map_err(|error| {
        tracing::warn!(%error, "TokenReview failed");
        Reason::Unavailable
    })?;
    let answer = Zeroizing::new(answer);
    let mut answer: TokenReview = serde_json::from_str(&answer).map_err(|_| Reason::Unavailable)?;
    answer.spec.token.zeroize();
    let status = answer.status.unwrap_or_default();
    // A server that does not understand audiences names none, and must not be trusted.
    let is_ours = status.audiences.iter().flatten().any(|one| one == audience);
    status.user.filter(|_| status.authenticated == Some(true) && is_ours).ok_or(Reason::Rejected)
}

/// Returns true if the user is the ServiceAccount of the same pod.
fn is_of(user: &UserInfo, subject: &Subject) -> bool {
    let extra = |key: &str| user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice);
    user.username.as_deref() == Some(subject.user().as_str())
        && extra("authentication.kubernetes.io/pod-name") == Some(std::slice::from_ref(&subject.pod))
        && extra("authentication.kubernetes.io/pod-uid") == Some(std::slice::from_ref(&subject.uid))
}
