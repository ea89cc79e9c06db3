//! Names that do not exist: bounds on those that a client may request, and may claim to hold.

use smidge_xds_testing::{client, fixture};
use std::sync::Arc;

use client::{Net, sent};
use fixture::{server, view};
use smidge_xds::{
    delta::{Request, Session},
    resources::ResourceType,
    view::View,
};
use tonic::Code;

/// Maximum number of such names that a client may request, and that it may claim to hold.
const ASKED: usize = 1024;
const CLAIMED: usize = 16_384;

fn names(start: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{start}/{number}")).collect()
}

/// A view with routes of these names.
fn routes(names: &[String]) -> Arc<View> {
    view(&names.iter().map(|name| (ResourceType::Route, name.as_str(), "1")).collect::<Vec<_>>())
}

fn asks(subscribe: Vec<String>) -> Request {
    Request { type_url: ResourceType::Route.type_url().to_owned(), subscribe, ..Request::default() }
}

fn claims<'a>(names: impl IntoIterator<Item = &'a String>, version: &str) -> Request {
    let initial_versions = names.into_iter().map(|name| (name.clone(), version.to_owned())).collect();
    Request { type_url: ResourceType::Route.type_url().to_owned(), initial_versions, ..Request::default() }
}

/// Returns the number of names that the client is sent, and that it is sent as removed. It acknowledges everything, so
/// that only a bound ends the responses.
fn receives(session: &mut Session) -> (usize, usize) {
    let (mut updated, mut removed) = (0, 0);
    while let Some(response) = session.next_response() {
        updated += response.updated.len();
        removed += response.removed.len();
        let (type_url, response_nonce) = (response.kind.type_url().to_owned(), response.nonce.to_string());
        session.on_request(&Request { type_url, response_nonce, ..Request::default() });
    }
    (updated, removed)
}

#[test]
fn a_flood_of_names_that_do_not_exist_is_bounded() {
    let mut session = Session::new();
    session.on_view(routes(&names("there", 1)));
    let mut denied = 0;
    for number in 0..40 {
        session.on_request(&asks(names(&format!("no/{number}"), 1000)));
        denied += receives(&mut session).1;
    }
    assert_eq!(denied, ASKED);
    // Names that are dropped make room, and names that exist need none.
    let unsubscribe = vec!["no/0/0".to_owned()];
    session.on_request(&Request { unsubscribe, ..asks(names("more", 2)) });
    assert_eq!(receives(&mut session), (0, 1));
    session.on_request(&asks(names("there", 1)));
    assert_eq!(receives(&mut session), (1, 0));
}

#[test]
fn names_that_come_to_exist_make_room_and_those_that_go_take_it() {
    let mut session = Session::new();
    session.on_view(Arc::default());
    let first = names("first", ASKED);
    session.on_request(&asks(first.clone()));
    assert_eq!(receives(&mut session), (0, ASKED));
    session.on_view(routes(&first));
    assert_eq!(receives(&mut session), (ASKED, 0));
    session.on_request(&asks(names("second", 1)));
    assert_eq!(receives(&mut session), (0, 1), "there is room");
    session.on_view(Arc::default());
    assert_eq!(receives(&mut session), (0, ASKED));
    session.on_request(&asks(names("third", 1)));
    assert_eq!(receives(&mut session), (0, 0), "there is none");
    let unsubscribe = first[..2].to_vec();
    session.on_request(&Request { unsubscribe, ..asks(names("third", 1)) });
    assert_eq!(receives(&mut session), (0, 1), "what is dropped makes room");
}

#[test]
fn names_asked_before_the_first_view_are_measured_by_it() {
    let mut session = Session::new();
    let (there, gone) = (names("there", 3 * ASKED), names("gone", 3 * ASKED));
    session.on_request(&asks(gone.iter().chain(&there).cloned().collect()));
    assert_eq!(receives(&mut session), (0, 0));
    session.on_view(routes(&there));
    assert_eq!(receives(&mut session), (3 * ASKED, ASKED));
}

#[test]
fn claims_are_bounded_where_the_view_lacks_the_names() {
    let (there, gone) = (names("there", 100), names("gone", CLAIMED + 1));
    let all = || there.iter().chain(&gone);
    let too_long = "x".repeat(257);
    for (request, is_too_much) in [
        (claims(all().take(100 + CLAIMED), "1"), false),
        (claims(all(), "1"), true),
        (claims([&too_long], "1"), true),
        (claims(&there, &too_long), true),
    ] {
        for view_comes_first in [true, false] {
            let mut session = Session::new();
            if view_comes_first {
                session.on_view(routes(&there));
                session.on_request(&request);
            } else {
                session.on_request(&request);
                session.on_view(routes(&there));
            }
            assert_eq!(session.claims_too_much(), is_too_much);
            if !is_too_much {
                assert_eq!(receives(&mut session), (0, CLAIMED), "it must hear of each that it is gone");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_claims_too_much_is_sent_away_with_a_reason() {
    let (server, handles) = server(None);
    let net = Net::serve(server);
    let there = routes(&names("there", 1));
    handles.publish(&[("greedy", &there), ("other", &there)]);
    let mut other = net.connect("other").await;
    other.want(ResourceType::Route, &["there/0"], &[]).await;
    assert_eq!(sent(&other.next().await), [("there/0", "1")]);
    let mut greedy = net.connect("greedy").await;
    let gone = names("gone", CLAIMED + 1);
    greedy
        .want(ResourceType::Route, &[], &gone.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>())
        .await;
    assert_eq!(greedy.ends().await, (Code::ResourceExhausted, "too many resources claimed".to_owned()));
    assert!(handles.scrape().contains("TooManyInitialVersions\"} 1"), "{}", handles.scrape());
    other.receives_nothing().await;
    assert_eq!(handles.proxies.len(), 1);
}
