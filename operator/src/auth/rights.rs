//! Has the API server review a user's right, and keeps verdicts for a short time.
//!
//! Used by `admin::readers` for pages, and by `traffic_api` for figures. What the question is, and for how long a verdict
//! is kept, is theirs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::authorization::v1::{
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, timeout};
use tracing::warn;

/// Returns true if the API server allows what is asked about; `None` if it gives no verdict within `limit`.
pub async fn review(client: &Client, spec: SubjectAccessReviewSpec, limit: Duration) -> Option<bool> {
    let api = Api::<SubjectAccessReview>::all(client.clone());
    let question = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = timeout(limit, api.create(&PostParams::default(), &question)).await;
    let answer = answer.map_err(|_| warn!(?limit, "SubjectAccessReview timed out")).ok()?;
    let answer = answer.map_err(|error| warn!(%error, "SubjectAccessReview failed")).ok()?;
    let SubjectAccessReviewStatus { allowed, denied, .. } = answer.status?;
    Some(allowed && denied != Some(true))
}

/// Verdicts by a hash of the question, each until its time ends. Of too many, the one that ends first is dropped.
pub struct Verdicts<V> {
    known: Mutex<HashMap<[u8; 32], (V, Instant)>>,
    most: usize,
}

impl<V: Clone> Verdicts<V> {
    /// Creates a cache of at most this number of verdicts.
    pub fn new(most: usize) -> Self {
        Self { known: Mutex::default(), most }
    }

    /// Returns the verdict, if there is one that has not ended.
    pub fn recall(&self, key: &[u8; 32]) -> Option<V> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| Instant::now() < *until).map(|(verdict, _)| verdict.clone())
    }

    /// Keeps a verdict for this time.
    pub fn keep(&self, key: [u8; 32], verdict: V, time: Duration) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.most {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() >= self.most {
            let first = known.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key);
            first.map(|key| known.remove(&key));
        }
        known.insert(key, (verdict, now + time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn verdicts_end_and_their_number_is_bounded() {
        let known = Verdicts::new(100);
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        let (long, short) = (Duration::from_secs(5), Duration::from_secs(1));
        known.keep(key(0), true, long);
        known.keep(key(1), false, short);
        assert_eq!((known.recall(&key(0)), known.recall(&key(1))), (Some(true), Some(false)));
        tokio::time::advance(short).await;
        assert_eq!((known.recall(&key(0)), known.recall(&key(1))), (Some(true), None));
        (0..200).for_each(|number| known.keep(key(number), true, long));
        assert_eq!(known.known.lock().unwrap().len(), 100);
        tokio::time::advance(long).await;
        assert_eq!(known.recall(&key(199)), None);
    }
}
