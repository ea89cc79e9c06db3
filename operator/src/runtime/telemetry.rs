//! Flags for the spans and log records of the operator itself.
//!
//! Part of the settings of `smidge run`; `cli::run` starts `telemetry` with them. The collector is that of the sidecars
//! (`traces`).

use smidge_xds::mesh::settings::Share;

use super::{Settings, switch};
use crate::telemetry;

/// Settings of what the operator sends to the collector of spans.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_args(switch::named(&["operator_traces", "operator_logs"])))]
pub struct TelemetryFlags {
    /// Send spans of the operator's own work to the collector of --tracing-endpoint: requests of the API server, and
    /// publications of changes.
    #[arg(
        id = "operator_traces",
        long = "operator-traces",
        env = "SMIDGE_OPERATOR_TRACES",
        requires = "tracing_endpoint"
    )]
    traces: bool,
    /// Percentage of the traces that begin at the operator, from 0 to 100 with at most four decimals. Traces that the API
    /// server has begun are continued as it decided.
    #[arg(
        id = "operator_trace_sample",
        long = "operator-trace-sample-percent",
        env = "SMIDGE_OPERATOR_TRACE_SAMPLE_PERCENT",
        value_name = "PERCENT",
        default_value = "100",
        requires = "operator_traces"
    )]
    sample: Share,
    /// Send the operator's log records to the collector of --tracing-endpoint as well, by OTLP: those of --log-level.
    #[arg(
        id = "operator_logs",
        long = "operator-logs",
        env = "SMIDGE_OPERATOR_LOGS",
        requires = "tracing_endpoint"
    )]
    logs: bool,
}

impl Settings {
    /// Returns the settings of what the operator sends; `None`: nothing.
    pub fn telemetry(&self) -> Option<telemetry::Settings> {
        let TelemetryFlags { traces, sample, logs } = self.telemetry;
        let endpoint = self.traces.endpoint().filter(|_| traces || logs)?;
        let mut resource = vec![("service.instance.id", self.pod_name.clone())];
        if self.standalone.dir.is_none() {
            resource.extend([
                ("k8s.cluster.name", self.cluster_name.clone()),
                ("k8s.namespace.name", self.system_namespace.clone()),
                ("k8s.pod.name", self.pod_name.clone()),
            ]);
        }
        Some(telemetry::Settings { endpoint, traces: traces.then_some(sample), logs, resource })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    const COLLECTOR: &str = "--tracing-endpoint=http://otel";

    fn of(arguments: &[&str]) -> Result<Option<telemetry::Settings>, String> {
        let all = ["smidge", "--init-image=smidge", "--pod-name=smidge-0"].iter().chain(arguments);
        Command::try_parse_from(all).map(|it| it.settings.telemetry()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[COLLECTOR]), Ok(None));
        assert_eq!(of(&[COLLECTOR, "--operator-traces=false"]), Ok(None));
        let traces = of(&[COLLECTOR, "--operator-traces"]).unwrap().unwrap();
        assert_eq!((traces.traces, traces.logs), (Some(Share::ALL), false));
        assert_eq!(traces.endpoint, "http://otel:4317");
        let logs = of(&[COLLECTOR, "--operator-logs=true"]).unwrap().unwrap();
        assert_eq!((logs.traces, logs.logs), (None, true));
        let some = ["--operator-traces=true", "--operator-trace-sample-percent=0.5", COLLECTOR];
        assert_eq!(of(&some).unwrap().unwrap().traces, Some("0.5".parse().unwrap()));
    }

    #[test]
    fn a_replica_is_named() {
        let keys = |arguments: &[&str]| {
            let settings = of(arguments).unwrap().unwrap();
            settings.resource.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let in_cluster = [
            "service.instance.id=smidge-0",
            "k8s.cluster.name=local",
            "k8s.namespace.name=smidge-system",
            "k8s.pod.name=smidge-0",
        ];
        assert_eq!(keys(&[COLLECTOR, "--operator-traces"]), in_cluster);
        let folder = [COLLECTOR, "--operator-traces", "--dir=a", "--state=b"];
        assert_eq!(keys(&folder), ["service.instance.id=smidge-0"]);
    }

    #[test]
    fn a_collector_is_needed() {
        for flag in ["--operator-traces", "--operator-logs"] {
            assert!(of(&[flag]).unwrap_err().contains("--tracing-endpoint"), "{flag}");
        }
        let error = of(&[COLLECTOR, "--operator-trace-sample-percent=5"]).unwrap_err();
        assert!(error.contains("--operator-traces"), "{error}");
    }
}
