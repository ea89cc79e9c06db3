//! Values for the containers that are injected.

use super::{helm, render, run, texts};

/// Requests and limits of injected containers reach the operator, and a part that is left out is none.
#[test]
fn resources_of_injected_containers_become_flags() {
    let Some(helm) = helm() else { return };
    let flags = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let args = &objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"];
        let is_of_sidecar = |arg: &String| {
            ["-request=", "-limit=", "--image-pull-secret="].iter().any(|part| arg.contains(part))
        };
        texts(args).into_iter().filter(is_of_sidecar).collect::<Vec<_>>()
    };
    let defaults = [
        "--init-cpu-limit=none",
        "--init-cpu-request=10m",
        "--init-memory-limit=64Mi",
        "--init-memory-request=16Mi",
        "--proxy-cpu-limit=none",
        "--proxy-cpu-request=10m",
        "--proxy-memory-limit=512Mi",
        "--proxy-memory-request=64Mi",
    ];
    assert_eq!(flags(&[]), defaults);
    let set = flags(&[
        "proxy.resources.limits.cpu=2",
        "proxy.resources.limits.memory=null",
        "proxy.initResources=null",
        "proxy.imagePullSecrets=[{\"name\": \"mesh\"}]",
    ]);
    assert_eq!(
        set,
        [
            "--image-pull-secret=mesh",
            "--proxy-cpu-limit=2",
            "--proxy-cpu-request=10m",
            "--proxy-memory-limit=none",
            "--proxy-memory-request=64Mi",
        ]
    );
    assert!(!run(&helm, &["proxy.resources.limits.storage=1Gi"]).status.success());
}
