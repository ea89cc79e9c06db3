//! Drives `delta::Session` through random sequences of events against a reference Envoy: subscriptions, refusals,
//! changes, renewals and reconnects, with messages under way in both directions. The invariants are in `model`.

mod envoy;
mod model;

use std::sync::Arc;

use model::{Model, NAMES, VERSIONS};
use proptest::{collection::vec, prelude::*};
use smidge_xds::{
    delta::{Request, Session},
    resources::ResourceType,
};
use smidge_xds_testing::properties;

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
    Drain,
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
        2 => Just(Step::Drain),
        1 => Just(Step::Settle),
    ]
}

fn take(model: &mut Model, step: &Step) {
    match step {
        Step::Edit(edits) => {
            let edits: Vec<_> =
                edits.iter().map(|(name, version)| (NAMES[*name], VERSIONS[*version])).collect();
            model.edit(&edits);
        }
        Step::Subscribe(name) => {
            let request = model.envoy.subscribe(NAMES[*name].0, NAMES[*name].1);
            model.say(request);
        }
        Step::Unsubscribe(name) => {
            let request = model.envoy.unsubscribe(NAMES[*name].0, NAMES[*name].1);
            model.say(request);
        }
        Step::Wildcard(cluster, on) => {
            let request = model
                .envoy
                .wildcard(if *cluster { ResourceType::Cluster } else { ResourceType::Listener }, *on);
            model.say(request);
        }
        Step::Stale(name) => {
            let request = model.envoy.subscribe(NAMES[*name].0, NAMES[*name].1);
            model.say(Request { response_nonce: "stale".to_owned(), ..request });
        }
        Step::Unknown(kind) => {
            let request = model.envoy.subscribe(ResourceType::ALL[*kind], "nobody has this");
            model.say(request);
        }
        Step::Superfluous => {
            let unsubscribe = vec!["nobody asked for this".to_owned()];
            let type_url = ResourceType::Route.type_url().to_owned();
            model.say(Request { type_url, unsubscribe, ..Request::default() });
            model.say(Request { type_url: "type.googleapis.com/unknown".to_owned(), ..Request::default() });
        }
        Step::ServerReads => model.server_reads(),
        Step::ServerSpeaks => model.server_speaks(),
        Step::ClientReads => model.client_reads(),
        Step::Renew => model.renew(),
        Step::Reconnect => model.reconnect(),
        Step::Drain => model.drain(),
        Step::Settle => model.settle(),
    }
}

#[test]
fn a_cluster_outlives_the_listeners_that_led_to_it() {
    let (cluster, listener) = ((ResourceType::Cluster, "a"), (ResourceType::Listener, "outbound/a"));
    let mut model = Model::new();
    for kind in [cluster.0, listener.0] {
        let request = model.envoy.wildcard(kind, true);
        model.say(request);
    }
    model.settle();
    let has = |model: &Model, (kind, name): (ResourceType, &str)| {
        model.envoy.held.contains_key(&(kind, name.to_owned()))
    };
    for is_back in [true, false] {
        model.edit(&[(cluster, None), (listener, None)]);
        model.deliver();
        assert!(!has(&model, listener) && has(&model, cluster) && model.is_settled());
        model.drain();
        model.deliver();
        assert!(has(&model, cluster), "it began to wait at any time before");
        if is_back {
            model.edit(&[(cluster, Some("1")), (listener, Some("1"))]);
            model.deliver();
            assert!(has(&model, listener));
        }
        model.drain();
        model.deliver();
        assert_eq!(has(&model, cluster), is_back);
    }
}

proptest! {
    #![proptest_config(properties::config(1000))]

    #[test]
    fn any_life_keeps_the_laws_and_converges(steps in vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in &steps {
            take(&mut model, step);
        }
        model.settle();
        // Nothing changed: a client that reconnects is sent nothing.
        model.reconnect();
        let has_all = model.envoy.awaited.is_empty();
        model.settle();
        prop_assert!(!has_all || model.sent() == 0 || model.refuses(), "sent {} on reconnect", model.sent());
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
