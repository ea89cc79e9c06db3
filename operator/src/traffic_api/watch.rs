//! Sends the changes of a list of figures to a client, for a limited time.
//!
//! Started by `traffic_api` for `watch=true`. Reads the figures in every period; `smidge_traffic_metrics::api::changes`
//! decides what has changed. A client that does not read causes no work.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use futures::stream;
use smidge_traffic_metrics::{
    api::{
        accept::Form,
        assemble,
        changes::{self, Sent},
        request::Figures,
        status::Status,
    },
    traffic::TrafficSource,
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{REQUEST_TIMEOUT, Shared, front_proxy::User, objects::MAX_OBJECTS};
use crate::http::ActiveUntil;

/// Number of states between bookmarks.
const BOOKMARK_PERIODS: u32 = 6;
/// Shortest time without `timeoutSeconds` after which a watch ends. Up to as much is added, so that watches that began
/// together do not end together.
const LENGTH: Duration = Duration::from_mins(5);
/// Maximum length of a watch.
const MAX_LENGTH: Duration = Duration::from_mins(10);
/// Maximum number of watches, in all and of one user.
const AT_ONCE: (usize, usize) = (64, 8);

/// Watches in progress, by user.
#[derive(Default)]
pub(super) struct Watches(Arc<Mutex<HashMap<String, usize>>>);

/// A watch in progress, which counts until it is dropped.
struct Place {
    of: Arc<Mutex<HashMap<String, usize>>>,
    user: String,
}

impl Watches {
    /// Takes a place for a watch of the user; `None` if there is none.
    fn take(&self, user: &str) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = taken.get(user).copied().unwrap_or_default();
        if taken.values().sum::<usize>() >= AT_ONCE.0 || of_user >= AT_ONCE.1 {
            return None;
        }
        taken.insert(user.to_owned(), of_user + 1);
        Some(Place { of: Arc::clone(&self.0), user: user.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

/// A watch.
struct Watch<S> {
    shared: Arc<Shared<S>>,
    figures: Figures,
    form: Form,
    sent: Sent,
    /// Events that were not passed on yet.
    first: Option<Vec<u8>>,
    next: Instant,
    end: Instant,
    periods: u32,
    _place: Place,
}

/// Starts a watch: reads the first state, so that an error becomes the answer, and answers with a stream of events.
pub(super) async fn start<S: TrafficSource + 'static>(
    shared: Arc<Shared<S>>,
    figures: Figures,
    form: Form,
    user: &User,
) -> Result<Response, Status> {
    let place = shared.watches.take(&user.name).ok_or_else(|| {
        let (in_all, per_user) = AT_ONCE;
        Status::too_many(format!("there are too many watches: at most {per_user} of a user, {in_all} in all"))
    })?;
    let parameters = &figures.parameters;
    let length = parameters.timeout.unwrap_or_else(|| LENGTH + LENGTH.mul_f64(rand::random::<f64>()));
    let (bookmarks, initial_events) = (parameters.bookmarks, parameters.initial_events);
    let now = Instant::now();
    let end = now + length.min(MAX_LENGTH);
    let next = now + shared.watch_period;
    let mut watch = Watch {
        shared,
        figures,
        form,
        sent: Sent::default(),
        first: None,
        next,
        end,
        periods: 0,
        _place: place,
    };
    let mut events = watch.events().await?;
    if bookmarks {
        events.extend(changes::bookmark(&watch.figures, initial_events, watch.shared.now()));
    }
    watch.first = Some(events);
    let events = stream::unfold(watch, |mut watch| async move {
        let events = watch.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(events)), watch))
    });
    let mut response = ([(CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response();
    response.extensions_mut().insert(ActiveUntil(end));
    Ok(response)
}

impl<S: TrafficSource + 'static> Watch<S> {
    /// Waits for the next events; `None` at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take() {
            // Headers alone would wait for the first change.
            return Some(first);
        }
        loop {
            if self.next >= self.end {
                sleep_until(self.end).await;
                return None;
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + self.shared.watch_period;
            self.periods += 1;
            // A state that cannot be read is passed over: the next one has the same changes.
            let events = timeout(REQUEST_TIMEOUT, self.events()).await.ok().and_then(Result::ok);
            let Some(mut events) = events else { continue };
            if self.figures.parameters.bookmarks && self.periods.is_multiple_of(BOOKMARK_PERIODS) {
                events.extend(changes::bookmark(&self.figures, false, self.shared.now()));
            }
            if !events.is_empty() {
                return Some(events);
            }
        }
    }

    /// Reads the present state; returns what has changed.
    async fn events(&mut self) -> Result<Vec<u8>, Status> {
        let _turn = self.shared.turn().await?;
        let (part, traffic) = self.shared.read(&self.figures).await?;
        if !part.continue_token.is_empty() {
            return Err(Status::bad_request(format!(
                "a watch covers at most {MAX_OBJECTS} objects, and there are more (hint: watch one namespace, or select \
                 objects by labelSelector)"
            )));
        }
        let items = assemble::wholes(&self.figures, &part.subjects, &traffic, self.shared.now());
        self.sent.next(&self.figures, self.form, items)
    }
}
