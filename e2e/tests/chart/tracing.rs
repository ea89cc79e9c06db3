//! Values for the traces of sidecars.

use super::{helm, render, run, texts};

#[test]
fn a_collector_becomes_a_flag() {
    let Some(helm) = helm() else { return };
    let flags = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let args = &objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"];
        texts(args).into_iter().filter(|arg| arg.starts_with("--tracing")).collect::<Vec<_>>()
    };
    let endpoint = "tracing.endpoint=http://otel.observability:4317";
    assert!(flags(&[]).is_empty());
    assert!(flags(&["tracing=null"]).is_empty());
    let expected = ["--tracing-endpoint=http://otel.observability:4317", "--tracing-sample-percent=1"];
    assert_eq!(flags(&[endpoint]), expected);
    let all = flags(&[endpoint, "tracing.samplePercent=100"]);
    assert_eq!(all.last().map(String::as_str), Some("--tracing-sample-percent=100"));
    for wrong in ["tracing.endpoint=otel:4317", "tracing.endpoint=https://otel", "tracing.samplePercent=101"]
    {
        assert!(!run(&helm, &[wrong]).status.success(), "{wrong}");
    }
}
