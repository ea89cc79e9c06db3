//! Values for the traces of sidecars, and for what the operator itself sends.

use super::{helm, render, run, texts};

#[test]
fn a_collector_becomes_a_flag() {
    let Some(helm) = helm() else { return };
    let flags = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let args = &objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"];
        let is_meant = |arg: &String| arg.starts_with("--tracing") || arg.starts_with("--operator-");
        texts(args).into_iter().filter(is_meant).collect::<Vec<_>>()
    };
    let endpoint = "tracing.endpoint=http://otel.observability:4317";
    assert!(flags(&[]).is_empty());
    assert!(flags(&["tracing=null"]).is_empty());
    let expected = ["--tracing-endpoint=http://otel.observability:4317", "--tracing-sample-percent=1"];
    assert_eq!(flags(&[endpoint]), expected);
    let all = flags(&[endpoint, "tracing.samplePercent=100"]);
    assert_eq!(all.last().map(String::as_str), Some("--tracing-sample-percent=100"));
    assert_eq!(flags(&[endpoint, "tracing.operator=null"]), expected);
    // Without a collector there is no place to send to.
    assert!(flags(&["tracing.operator.traces=true", "tracing.operator.logs=true"]).is_empty());
    // In the order of the alphabet.
    let traces = flags(&[endpoint, "tracing.operator.traces=true", "tracing.operator.samplePercent=12.5"]);
    assert_eq!(traces[..2], ["--operator-trace-sample-percent=12.5", "--operator-traces=true"]);
    assert_eq!(flags(&[endpoint, "tracing.operator.logs=true"])[..1], ["--operator-logs=true"]);
    for wrong in
        ["tracing.operator.traces=1", "tracing.operator.samplePercent=-1", "tracing.operator.trace=true"]
    {
        assert!(!run(&helm, &[wrong]).status.success(), "{wrong}");
    }
    for wrong in ["tracing.endpoint=otel:4317", "tracing.endpoint=https://otel", "tracing.samplePercent=101"]
    {
        assert!(!run(&helm, &[wrong]).status.success(), "{wrong}");
    }
}
