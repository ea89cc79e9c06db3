//! Writes the statistics that a proxy pushes: an OTLP message with the series of some callers and some Services called.
//!
//! Used by `fleet::pushing`. Each caller is two counters and a histogram, and so is each Service: the calls that
//! succeeded, those that failed, and their latency. All of them grow with each push, which is the dearest case for the
//! operator. Sends nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    shape::Shape,
    wire::{field, header},
};

/// Number of series of a caller, and of a Service that is called.
const SERIES: usize = 3;
const BOUNDS_MS: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4];

/// A label and its value.
type Label<'a> = (&'a str, &'a str);

/// Proxies that push.
#[derive(Debug, Clone, Copy)]
pub struct Push {
    pub shape: Shape,
    /// Number of callers of each proxy.
    pub callers: usize,
    /// Number of Services that each proxy calls.
    pub called: usize,
}

impl Push {
    /// Returns the number of series of a push.
    pub fn series(&self) -> usize {
        SERIES * (self.callers + self.called)
    }

    /// Writes the push of a proxy after `made` earlier ones; `start` is the time at which it started.
    pub fn message(&self, slot: usize, made: u64, start: SystemTime) -> Vec<u8> {
        let (own, _) = self.shape.slot(slot);
        let other = |step: usize| (own + step + 1) % self.shape.services.max(1);
        let mut metrics: [Vec<Vec<u8>>; 4] = Default::default();
        let clock = [nanoseconds(start), nanoseconds(SystemTime::now())];
        for service in (0..self.callers).map(other) {
            let [id, subject] = peer(service);
            let labels = [("peer_id", &*id), ("peer_subject", &*subject)];
            for code in ["200", "500"] {
                let outcome = [("code", code), ("flags", "-"), ("enforced", "allowed")];
                metrics[0].push(counter(clock, &[&labels[..], &outcome].concat(), made + 1));
            }
            metrics[1].push(histogram(clock, &labels, made + 1));
        }
        for service in (0..self.called).map(other) {
            let [id, subject] = peer(service);
            let cluster = format!("{}/{}/80", Shape::namespace(service), Shape::name(service));
            let labels =
                [("root", &*cluster), ("service", &*cluster), ("peer_id", &*id), ("peer_subject", &*subject)];
            for code in ["200", "503"] {
                let outcome = [("code", code), ("flags", "-"), ("attempt", "1")];
                metrics[2].push(counter(clock, &[&labels[..], &outcome].concat(), made + 1));
            }
            metrics[3].push(histogram(clock, &labels, made + 1));
        }
        message(&metrics)
    }
}

/// Returns identity and subject of the workload of a Service.
fn peer(service: usize) -> [String; 2] {
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    [format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"), format!("CN={name},OU=Deployment")]
}

fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// Writes the `ExportMetricsServiceRequest` around the points of inbound and outbound counters and histograms.
fn message(metrics: &[Vec<Vec<u8>>; 4]) -> Vec<u8> {
    let names = [
        ("smidge_inbound_requests", 7),
        ("smidge_inbound_latency_ms", 9),
        ("smidge_outbound_requests", 7),
        ("smidge_outbound_latency_ms", 9),
    ];
    let mut scope = Vec::new();
    for ((name, form), points) in names.into_iter().zip(metrics) {
        let (mut metric, mut data) = (Vec::new(), Vec::new());
        for point in points {
            field(1, point, &mut data);
        }
        // AGGREGATION_TEMPORALITY_CUMULATIVE.
        data.extend([2 << 3, 2]);
        field(1, name.as_bytes(), &mut metric);
        field(form, &data, &mut metric);
        field(2, &metric, &mut scope);
    }
    let (mut resource, mut message) = (Vec::new(), Vec::new());
    field(2, &scope, &mut resource);
    field(1, &resource, &mut message);
    message
}

fn counter([start, time]: [u64; 2], labels: &[Label<'_>], count: u64) -> Vec<u8> {
    let mut point = Vec::new();
    attributes(7, labels, &mut point);
    for (number, value) in [(2, start), (3, time), (6, count)] {
        fixed(number, value, &mut point);
    }
    point
}

/// Writes a histogram with as many values in its fifth bucket as in its sixth.
fn histogram([start, time]: [u64; 2], labels: &[Label<'_>], count: u64) -> Vec<u8> {
    let mut point = Vec::new();
    attributes(9, labels, &mut point);
    for (number, value) in [(2, start), (3, time), (4, 2 * count), (5, (50.0 * count as f64).to_bits())] {
        fixed(number, value, &mut point);
    }
    let counts = (0..=BOUNDS_MS.len()).map(|bucket| if [4, 5].contains(&bucket) { count } else { 0 });
    field(6, &counts.flat_map(u64::to_le_bytes).collect::<Vec<_>>(), &mut point);
    field(7, &BOUNDS_MS.into_iter().flat_map(f64::to_le_bytes).collect::<Vec<_>>(), &mut point);
    point
}

fn attributes(number: u8, labels: &[Label<'_>], point: &mut Vec<u8>) {
    for (key, value) in labels {
        let mut attribute = Vec::new();
        field(1, key.as_bytes(), &mut attribute);
        header(2, value.len() + 1 + len_of_len(value.len()), &mut attribute);
        field(1, value.as_bytes(), &mut attribute);
        field(number, &attribute, point);
    }
}

fn len_of_len(len: usize) -> usize {
    if len < 0x80 { 1 } else { 2 }
}

fn fixed(number: u8, value: u64, out: &mut Vec<u8>) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}
