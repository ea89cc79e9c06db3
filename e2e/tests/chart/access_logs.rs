//! Values for the access logs of sidecars.

use super::{helm, render, run, texts};

#[test]
fn access_logs_become_flags() {
    let Some(helm) = helm() else { return };
    let flags = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let args = &objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"];
        texts(args).into_iter().filter(|arg| arg.starts_with("--access-log")).collect::<Vec<_>>()
    };
    let of = |mode: &str, percent: &str| {
        vec![format!("--access-log-sample-percent={percent}"), format!("--access-logs={mode}")]
    };
    assert_eq!(flags(&[]), of("errors", "100"));
    assert_eq!(flags(&["accessLogs.mode=all", "accessLogs.samplePercent=0.1"]), of("all", "0.1"));
    assert_eq!(flags(&["accessLogs.mode=all", "accessLogs.samplePercent=0"]), of("all", "0"));
    // YAML reads a bare off as false.
    assert_eq!(flags(&["accessLogs.mode=false"]), of("off", "100"));
    // `helm upgrade --reuse-values` after a release without the settings.
    assert!(flags(&["accessLogs=null"]).is_empty());
    for wrong in ["accessLogs.mode=some", "accessLogs.mode=true", "accessLogs.samplePercent=101"] {
        assert!(!run(&helm, &[wrong]).status.success(), "{wrong}");
    }
}
