//! Determines the options of a pod's proxy: those of the mesh's settings, unless annotations of the namespace or of the pod
//! set others.
//!
//! Pure. Each is about the proxy of the pod itself, and is bounded so that the owner of a pod can neither read another
//! workload's secrets by it nor keep a connection that a policy has ended (docs/injection.md). Requests and limits are
//! those of `resources`.

use serde_json::Value;
use smidge_crds::labels::{
    PROXY_CONCURRENCY, PROXY_DRAIN_SECONDS, PROXY_LOG_LEVEL, PROXY_MAX_CONNECTIONS,
    PROXY_START_TIMEOUT_SECONDS,
};
use smidge_xds::bootstrap::CONNECTIONS;

use super::{Namespace, Settings};

/// Annotations that are read here.
#[cfg(test)]
pub(super) const ANNOTATIONS: [&str; 5] = [
    PROXY_CONCURRENCY,
    PROXY_MAX_CONNECTIONS,
    PROXY_LOG_LEVEL,
    PROXY_DRAIN_SECONDS,
    PROXY_START_TIMEOUT_SECONDS,
];

/// Maximum number of worker threads. Each has connections and buffers of its own.
const MAX_CONCURRENCY: u32 = 64;
/// Minimum of the annotation for the number of connections: fewer than a few callers have open at once.
const MIN_CONNECTIONS: u32 = 100;
/// Maximum of the annotation for the number of connections, which then take some 2.7 GB.
const MAX_CONNECTIONS: u32 = 100_000;
/// Time over which a proxy ends connections whose listener or filter chain was removed, in seconds, and the maximum of
/// the annotation: a withdrawn allowance ends its TCP connections within 30 s, delivery included, and clusters outlive
/// their listeners by 20 s.
const DRAIN_SECONDS: u32 = 15;
/// Time for which a pod waits for its proxy, in seconds, before the kubelet starts the proxy again.
const START_SECONDS: u32 = 600;
/// Minimum of the annotation for that time. A proxy that is ended before it has its configuration never gets it.
const MIN_START_SECONDS: u32 = 10;
/// Maximum of the annotation for that time.
const MAX_START_SECONDS: u32 = 3600;
/// Levels of Envoy that an annotation may choose.
const LEVELS: [&str; 5] = ["info", "warning", "error", "critical", "off"];
/// Levels of Envoy at which it prints the headers of requests and of its own calls, tokens among them.
const PRINTING_TOKENS: [&str; 2] = ["trace", "debug"];

/// Options of one proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Worker threads.
    pub concurrency: u32,
    /// Maximum number of connections that it accepts, from callers and from its workload.
    pub connections: u32,
    /// Level of `--log-level`.
    pub log_level: String,
    /// Time of draining, in seconds.
    pub drain_seconds: u32,
    /// Time for which the pod waits for the proxy, in seconds.
    pub start_seconds: u32,
}

/// Returns the options of a pod's proxy. An error names annotation, value and expected values.
pub(super) fn of(pod: &Value, namespace: Namespace<'_>, settings: &Settings) -> Result<Options, String> {
    let number = |name: &str, least: u32, most: u32, what: &str, default: u32| {
        let Some((text, annotation)) = namespace.nearest(pod, name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            format!(
                "{annotation} has the value {text:?}: expected {what} from {least} to {most}; hint: without it, {default} is in \
                 effect"
            )
        })
    };
    let seconds = "whole seconds";
    Ok(Options {
        concurrency: number(
            PROXY_CONCURRENCY,
            1,
            MAX_CONCURRENCY,
            "a number of worker threads",
            settings.concurrency.into(),
        )?,
        connections: number(
            PROXY_MAX_CONNECTIONS,
            MIN_CONNECTIONS,
            MAX_CONNECTIONS,
            "a number of connections",
            CONNECTIONS,
        )?,
        log_level: level(pod, namespace, settings)?,
        drain_seconds: number(PROXY_DRAIN_SECONDS, 1, DRAIN_SECONDS, seconds, DRAIN_SECONDS)?,
        start_seconds: number(
            PROXY_START_TIMEOUT_SECONDS,
            MIN_START_SECONDS,
            MAX_START_SECONDS,
            seconds,
            START_SECONDS,
        )?,
    })
}

fn level(pod: &Value, namespace: Namespace<'_>, settings: &Settings) -> Result<String, String> {
    let Some((text, annotation)) = namespace.nearest(pod, PROXY_LOG_LEVEL) else {
        return Ok(settings.log_level.clone());
    };
    if LEVELS.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = if PRINTING_TOKENS.contains(&text) {
        "at this level Envoy prints the headers of requests, with tokens and cookies, into the log of the pod; \
         docs/access-logs.md has a line for each call"
    } else {
        "the levels are those of Envoy, in lower case"
    };
    Err(format!("{annotation} has the value {text:?}: expected one of {}; hint: {hint}", LEVELS.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, text: &str) -> Value {
        json!({"metadata": {"annotations": {(name): text}}})
    }

    fn try_of(name: &str, text: &str) -> Result<Options, String> {
        of(&pod(name, text), Namespace::from("shop"), &Settings::default())
    }

    #[test]
    fn without_annotations_the_options_are_those_of_the_mesh() {
        let settings = Settings { concurrency: 3, log_level: "error".to_owned(), ..Settings::default() };
        let expected = Options {
            concurrency: 3,
            connections: 10_000,
            log_level: "error".to_owned(),
            drain_seconds: DRAIN_SECONDS,
            start_seconds: START_SECONDS,
        };
        assert_eq!(of(&json!({}), Namespace::from("shop"), &settings), Ok(expected));
    }

    #[test]
    fn the_pod_has_precedence_over_its_namespace() {
        let annotations = BTreeMap::from([
            (PROXY_CONCURRENCY.to_owned(), "4".to_owned()),
            (PROXY_LOG_LEVEL.to_owned(), "info".to_owned()),
        ]);
        let namespace = Namespace { name: "shop", labels: None, annotations: Some(&annotations) };
        let options = of(&pod(PROXY_CONCURRENCY, "1"), namespace, &Settings::default()).unwrap();
        assert_eq!((options.concurrency, options.log_level.as_str()), (1, "info"));
    }

    /// Every way to exceed a bound is refused, and the message has annotation, value, bounds and a hint.
    #[test]
    fn values_outside_of_their_bounds_are_refused() {
        for (name, refused, expected) in [
            (PROXY_CONCURRENCY, vec!["0", "65", "-1", "", "two", "4294967296", "1.5"], "from 1 to 64"),
            (PROXY_MAX_CONNECTIONS, vec!["0", "99", "100001", "10k", "1_000"], "from 100 to 100000"),
            (PROXY_DRAIN_SECONDS, vec!["0", "16", "5s", "1e1"], "from 1 to 15"),
            (PROXY_START_TIMEOUT_SECONDS, vec!["0", "9", "3601", " 60"], "from 10 to 3600"),
            (
                PROXY_LOG_LEVEL,
                vec!["trace", "debug", "INFO", "", "info,debug"],
                "info, warning, error, critical, off",
            ),
        ] {
            for text in refused {
                let message = try_of(name, text).unwrap_err();
                for part in [&format!("annotation {name} has the value {text:?}"), expected, "; hint: "] {
                    assert!(message.contains(part), "{part} is missing in {message}");
                }
            }
        }
        for (name, text) in [
            (PROXY_CONCURRENCY, "64"),
            (PROXY_MAX_CONNECTIONS, "100000"),
            (PROXY_DRAIN_SECONDS, "1"),
            (PROXY_START_TIMEOUT_SECONDS, "3600"),
            (PROXY_LOG_LEVEL, "off"),
        ] {
            try_of(name, text).unwrap();
        }
    }
}
