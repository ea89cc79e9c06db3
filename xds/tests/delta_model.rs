//! Drives `delta::Session` through random sequences of events against a reference Envoy: subscriptions, refusals,
//! changes, renewals and reconnects, with messages under way in both directions. The laws are in `world`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

#[path = "delta_model/envoy.rs"]
mod envoy;
#[path = "delta_model/world.rs"]
mod world;

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use smidge_xds::{
    delta::{Request, Session},
    resources::ResourceType,
};
use smidge_xds_testing::properties;
use world::{NAMES, VERSIONS, World};

/// An event.
#[derive(Debug, Clone)]
enum Step {
    Edit(Vec<(usize, usize)>),
    Subscribe(usize),
    Unsubscribe(usize),
    Wildcard(bool, bool),
    /// A subscription with a nonce that no response had.
    Stale(usize),
    Unknown(usize),
    Superfluous,
    ServerReads,
    ServerSpeaks,
    ClientReads,
    Renew,
    Reconnect,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => vec((name(), 0..VERSIONS.len()), 1..5).prop_map(Step::Edit),
        6 => name().prop_map(Step::Subscribe),
        2 => name().prop_map(Step::Unsubscribe),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(cluster, on)| Step::Wildcard(cluster, on)),
        1 => name().prop_map(Step::Stale),
        1 => (0..ResourceType::ALL.len()).prop_map(Step::Unknown),
        1 => Just(Step::Superfluous),
        6 => Just(Step::ServerReads),
        6 => Just(Step::ServerSpeaks),
        6 => Just(Step::ClientReads),
        1 => Just(Step::Renew),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Settle),
    ]
}

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Edit(edits) => {
            let edits: Vec<_> =
                edits.iter().map(|(name, version)| (NAMES[*name], VERSIONS[*version])).collect();
            world.edit(&edits);
        }
        Step::Subscribe(name) => {
            let request = world.envoy.subscribe(NAMES[*name].0, NAMES[*name].1);
            world.say(request);
        }
        Step::Unsubscribe(name) => {
            let request = world.envoy.unsubscribe(NAMES[*name].0, NAMES[*name].1);
            world.say(request);
        }
        Step::Wildcard(cluster, on) => {
            let request = world
                .envoy
                .wildcard(if *cluster { ResourceType::Cluster } else { ResourceType::Listener }, *on);
            world.say(request);
        }
        Step::Stale(name) => {
            let request = world.envoy.subscribe(NAMES[*name].0, NAMES[*name].1);
            world.say(Request { response_nonce: "stale".to_owned(), ..request });
        }
        Step::Unknown(kind) => {
            let request = world.envoy.subscribe(ResourceType::ALL[*kind], "nobody has this");
            world.say(request);
        }
        Step::Superfluous => {
            let unsubscribe = vec!["nobody asked for this".to_owned()];
            let type_url = ResourceType::Route.type_url().to_owned();
            world.say(Request { type_url, unsubscribe, ..Request::default() });
            world.say(Request { type_url: "type.googleapis.com/unknown".to_owned(), ..Request::default() });
        }
        Step::ServerReads => world.server_reads(),
        Step::ServerSpeaks => world.server_speaks(),
        Step::ClientReads => world.client_reads(),
        Step::Renew => world.renew(),
        Step::Reconnect => world.reconnect(),
        Step::Settle => world.settle(),
    }
}

proptest! {
    #![proptest_config(properties::config(1000))]

    #[test]
    fn any_life_keeps_the_laws_and_converges(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            take(&mut world, step);
        }
        world.settle();
        // Nothing changed: a client that reconnects is sent nothing.
        world.reconnect();
        let has_all = world.envoy.awaited.is_empty();
        world.settle();
        prop_assert!(!has_all || world.sent() == 0 || world.refuses(), "sent {} on reconnect", world.sent());
    }

    #[test]
    fn no_request_is_a_panic(
        url in prop_oneof![Just(String::new()), (0..ResourceType::ALL.len()).prop_map(|k| ResourceType::ALL[k].type_url().to_owned())],
        subscribe in vec("[*a-c/]{0,3}", 0..4),
        unsubscribe in vec("[*a-c/]{0,3}", 0..4),
        initial in proptest::collection::hash_map("[*a-c]{0,2}", ".{0,3}", 0..3),
        nonce in "[0-3]?",
    ) {
        let request = Request {
            type_url: url, subscribe, unsubscribe, initial_versions: initial, response_nonce: nonce,
            ..Request::default()
        };
        let mut session = Session::new();
        for _ in 0..2 {
            session.on_request(&request);
            prop_assert!(session.next_response().is_none(), "answered before the first view");
        }
        session.on_view(Arc::default());
        for _ in 0..10 {
            session.next_response();
            session.on_request(&request);
        }
    }
}
