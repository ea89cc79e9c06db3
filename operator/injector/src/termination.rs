//! Delays the end of a pod's containers, so that they serve until no proxy and no node sends them new connections.
//!
//! A container without `preStop` gets one that sleeps, and the pod's grace period grows by the same time, so that the
//! application keeps its own. Pods that end by themselves (Jobs) are left alone, as are containers with a `preStop`.
//! Pure. `restore` undoes it; docs/design/030-retries.md has the reasons and figures.

use serde_json::{Map, Value, json};
use smidge_crds::labels::{TERMINATION, TERMINATION_DELAY_SECONDS};

use super::{Namespace, Settings, annotation, child, listed, name_of, object};

/// Maximum delay, in seconds.
pub const MAXIMUM: u64 = 3600;
/// Grace period of a pod that sets none, in seconds.
const DEFAULT_GRACE: u64 = 30;

/// Returns the delay in seconds: that of the pod's annotation, else of the namespace's, else of the settings.
pub(super) fn delay(pod: &Value, namespace: Namespace<'_>, settings: &Settings) -> Result<u64, String> {
    let Some((text, annotation)) = namespace.nearest(pod, TERMINATION_DELAY_SECONDS) else {
        return Ok(settings.termination_delay_seconds.min(MAXIMUM));
    };
    text.parse().ok().filter(|seconds| *seconds <= MAXIMUM).ok_or_else(|| {
        format!("{annotation} has the value {text:?}: expected whole seconds from 0 (no delay) to {MAXIMUM}")
    })
}

/// Delays the end of the pod's containers by `seconds`. Returns the record by which [`remove`] undoes it, if there is
/// anything to undo.
pub(super) fn add(pod: &mut Value, seconds: u64) -> Option<Value> {
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    let ends_by_itself = spec.get("restartPolicy").is_some_and(|policy| policy != "Always");
    let written = spec.get("terminationGracePeriodSeconds").filter(|grace| !grace.is_null()).cloned();
    let grace = written.as_ref().map_or(Some(DEFAULT_GRACE), Value::as_u64)?;
    // A pod without a grace period is killed at once, and its `preStop` would not run.
    if seconds == 0 || ends_by_itself || grace == 0 {
        return None;
    }
    let mut delayed = Vec::new();
    for container in spec.get_mut("containers")?.as_array_mut()?.iter_mut().filter_map(Value::as_object_mut) {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(lifecycle) = object(container, "lifecycle") else { continue };
        if lifecycle.get("preStop").is_none_or(Value::is_null) {
            lifecycle.insert("preStop".to_owned(), sleep(seconds));
            delayed.push(name);
        }
    }
    if delayed.is_empty() {
        return None;
    }
    spec.insert("terminationGracePeriodSeconds".to_owned(), json!(grace.saturating_add(seconds)));
    Some(json!({"containers": delayed, "gracePeriodSeconds": written, "seconds": seconds}))
}

/// Removes what [`add`] did, as far as the pod still has it. `record` is what a pod states about itself: it can make
/// nothing but such a `preStop` go.
pub(super) fn remove(pod: &mut Value) {
    if let Some(record) = annotation(pod, TERMINATION).and_then(|text| serde_json::from_str(text).ok()) {
        undo(pod, &record);
    }
}

/// Removes what [`add`] did with this delay from the copy of an injected pod, which has lost the record. What is equal to
/// it counts as ours: injection adds the same again, unless the copy has another restart policy.
pub(super) fn remove_from_copy(pod: &mut Value, seconds: u64) {
    let Some(spec) = pod.get("spec") else { return };
    let is_ours = |container: &&Value| container.pointer("/lifecycle/preStop") == Some(&sleep(seconds));
    let containers: Vec<&str> = listed(pod, "containers").filter(is_ours).map(name_of).collect();
    let now = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
    // The delay was added to a grace period above 0.
    let Some(own) = now.and_then(|now| now.checked_sub(seconds)).filter(|own| *own > 0) else { return };
    let written = (own != DEFAULT_GRACE).then_some(own);
    let record = json!({"containers": containers, "gracePeriodSeconds": written, "seconds": seconds});
    if let (false, Value::Object(record)) = (containers.is_empty(), record) {
        undo(pod, &record);
    }
}

fn undo(pod: &mut Value, record: &Map<String, Value>) {
    let (Some(seconds), Some(spec)) = (record.get("seconds").and_then(Value::as_u64), child(pod, "spec"))
    else {
        return;
    };
    let named = record.get("containers").and_then(Value::as_array).into_iter().flatten();
    let named: Vec<_> = named.filter_map(Value::as_str).collect();
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten();
    for container in containers.filter(|container| named.contains(&name_of(container))) {
        let Some(container) = container.as_object_mut() else { continue };
        let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) else { continue };
        if lifecycle.get("preStop") == Some(&sleep(seconds)) {
            lifecycle.remove("preStop");
        }
        if lifecycle.is_empty() {
            container.remove("lifecycle");
        }
    }
    let written = record.get("gracePeriodSeconds").filter(|grace| !grace.is_null());
    let grace = written.map_or(Some(DEFAULT_GRACE), Value::as_u64);
    let now = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
    if grace.is_none() || now != grace.map(|grace| grace.saturating_add(seconds)) {
        return;
    }
    match written {
        Some(grace) => spec.insert("terminationGracePeriodSeconds".to_owned(), grace.clone()),
        None => spec.remove("terminationGracePeriodSeconds"),
    };
}

fn sleep(seconds: u64) -> Value {
    json!({"sleep": {"seconds": seconds}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &Value) -> Value {
        json!({"metadata": {"annotations": {}}, "spec": spec})
    }

    /// Adds the delay and notes the record, as injection does.
    fn delayed(spec: &Value, seconds: u64) -> Value {
        let mut pod = pod(spec);
        if let Some(record) = add(&mut pod, seconds) {
            pod["metadata"]["annotations"][TERMINATION] = Value::String(record.to_string());
        }
        pod
    }

    #[test]
    fn containers_sleep_and_the_pod_has_that_much_more_time() {
        let spec = json!({"containers": [
            {"name": "a"}, {"name": "b", "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}},
            {"name": "c", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": null}},
        ]});
        let with = delayed(&spec, 5);
        assert_eq!(with.pointer("/spec/terminationGracePeriodSeconds"), Some(&json!(35)));
        assert_eq!(with.pointer("/spec/containers/0/lifecycle/preStop"), Some(&sleep(5)));
        assert_eq!(with.pointer("/spec/containers/1"), spec.pointer("/containers/1"));
        assert_eq!(with.pointer("/spec/containers/2/lifecycle/preStop"), Some(&sleep(5)));
        assert!(with.pointer("/spec/containers/2/lifecycle/postStart").is_some());
    }

    #[test]
    fn removal_restores_the_pod() {
        for spec in [
            json!({"containers": [{"name": "a"}, {"name": "b", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}]}),
            json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a"}], "restartPolicy": "Always"}),
            json!({"containers": [{"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}]}),
        ] {
            let mut with = delayed(&spec, 5);
            remove(&mut with);
            assert_eq!(with["spec"], spec);
        }
    }

    /// A copy has no record, and may have another restart policy: what is left is as it was before injection.
    #[test]
    fn a_copy_without_a_record_gets_its_own_times_back() {
        for (spec, expected) in [
            (json!({"containers": [{"name": "a"}]}), json!({"containers": [{"name": "a"}]})),
            (
                json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a"}]}),
                json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a"}]}),
            ),
            // The default grace period is the same as none.
            (
                json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": "a"}]}),
                json!({"containers": [{"name": "a"}]}),
            ),
        ] {
            let mut copy = pod(&delayed(&spec, 5)["spec"]);
            remove_from_copy(&mut copy, 5);
            assert_eq!(copy["spec"], expected);
        }
        // Another delay, a hook of another kind, and a grace period that was never longer are not ours.
        let sleeping = |grace: u64, seconds: u64| {
            json!({"terminationGracePeriodSeconds": grace, "containers": [
                {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}},
            ]})
        };
        for spec in
            [sleeping(35, 6), sleeping(5, 5), sleeping(4, 5), json!({"containers": null}), json!(null)]
        {
            let mut copy = pod(&spec);
            remove_from_copy(&mut copy, 5);
            assert_eq!(copy["spec"], spec);
        }
    }

    #[test]
    fn pods_that_end_by_themselves_or_at_once_are_left_alone() {
        for spec in [
            json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
            json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}]}),
            json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "a"}]}),
        ] {
            assert_eq!(delayed(&spec, 5)["spec"], spec);
        }
        let plain = json!({"containers": [{"name": "a"}]});
        assert_eq!(delayed(&plain, 0)["spec"], plain);
    }

    #[test]
    fn a_record_that_is_made_up_removes_no_hook_of_the_application() {
        let spec = json!({"terminationGracePeriodSeconds": 40, "containers": [
            {"name": "a", "lifecycle": {"preStop": {"exec": {"command": ["save"]}}}},
        ]});
        for record in [
            "{",
            "[]",
            "{\"containers\":[\"a\"],\"seconds\":5}",
            "{\"containers\":\"a\",\"seconds\":10,\"gracePeriodSeconds\":-1}",
        ] {
            let mut pod = pod(&spec);
            pod["metadata"]["annotations"][TERMINATION] = json!(record);
            remove(&mut pod);
            assert_eq!(pod["spec"], spec, "{record}");
        }
    }

    #[test]
    fn the_delay_is_that_of_the_nearest_annotation() {
        let settings = Settings { termination_delay_seconds: 3, ..Settings::default() };
        let annotations =
            std::collections::BTreeMap::from([(TERMINATION_DELAY_SECONDS.to_owned(), "8".to_owned())]);
        let namespace = Namespace { name: "shop", labels: None, annotations: Some(&annotations) };
        let of = |text: &str| json!({"metadata": {"annotations": {(TERMINATION_DELAY_SECONDS): text}}});
        assert_eq!(delay(&json!({}), Namespace::from("shop"), &settings), Ok(3));
        assert_eq!(delay(&json!({}), namespace, &settings), Ok(8));
        assert_eq!(delay(&of("0"), namespace, &settings), Ok(0));
        for text in ["-1", "5s", "", "3601", "1e3"] {
            let message = delay(&of(text), namespace, &settings).unwrap_err();
            assert!(message.contains(&format!("{text:?}")), "{message}");
        }
    }
}
