//! Builds the messages that Envoy's OTLP sink sends, for tests.

use smidge_traffic_metrics::{
    series::{Histogram, Metric, Value},
    traffic::{BOUNDS_MS, BUCKETS},
};

/// Appends a field with a length.
fn bytes(message: &mut Vec<u8>, number: u8, content: &[u8]) {
    message.push(number << 3 | 2);
    let mut len = content.len();
    while len > 0x7f {
        message.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
        len >>= 7;
    }
    message.push(u8::try_from(len).unwrap());
    message.extend_from_slice(content);
}

fn fixed(message: &mut Vec<u8>, number: u8, value: u64) {
    message.push(number << 3 | 1);
    message.extend_from_slice(&value.to_le_bytes());
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    let (mut any, mut attribute) = (Vec::new(), Vec::new());
    bytes(&mut any, 1, value.as_bytes());
    bytes(&mut attribute, 1, key.as_bytes());
    bytes(&mut attribute, 2, &any);
    attribute
}

/// One series of a push.
#[derive(Debug, Clone)]
pub struct Sample {
    pub metric: Metric,
    pub labels: Vec<(&'static str, String)>,
    pub value: Value,
}

/// A sample of a counter.
pub fn counter(metric: Metric, labels: &[(&'static str, &str)], count: u64) -> Sample {
    let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Sample { metric, labels, value: Value::Count(count) }
}

/// A sample of a histogram.
pub fn histogram(metric: Metric, labels: &[(&'static str, &str)], buckets: [u64; BUCKETS]) -> Sample {
    let histogram = Histogram { buckets, sum: 0 };
    Sample { value: Value::Histogram(Box::new(histogram)), ..counter(metric, labels, 0) }
}

/// Builds the point of a sample.
pub fn point((start, time): (u64, u64), sample: &Sample, bounds: &[f64]) -> Vec<u8> {
    let mut point = Vec::new();
    let attributes = if sample.metric.is_histogram() { 9 } else { 7 };
    for (key, value) in &sample.labels {
        bytes(&mut point, attributes, &attribute(key, value));
    }
    fixed(&mut point, 2, start);
    fixed(&mut point, 3, time);
    match &sample.value {
        Value::Count(count) => fixed(&mut point, 6, *count),
        Value::Histogram(histogram) => {
            fixed(&mut point, 4, histogram.buckets.iter().sum());
            let sum = f64::from(u32::try_from(histogram.sum).unwrap()) / 1_000.0;
            fixed(&mut point, 5, sum.to_bits());
            let packed: Vec<u8> = histogram.buckets.iter().flat_map(|count| count.to_le_bytes()).collect();
            bytes(&mut point, 6, &packed);
            let packed: Vec<u8> = bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect();
            bytes(&mut point, 7, &packed);
        }
    }
    point
}

/// Builds the message around metrics: name, field of the form, temporality, points.
pub fn message(metrics: &[(&str, u8, u8, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut scope = Vec::new();
    for (name, form, temporality, points) in metrics {
        let (mut metric, mut data) = (Vec::new(), Vec::new());
        for point in points {
            bytes(&mut data, 1, point);
        }
        data.extend([2 << 3, *temporality]);
        bytes(&mut metric, 1, name.as_bytes());
        bytes(&mut metric, *form, &data);
        bytes(&mut scope, 2, &metric);
    }
    let (mut resource, mut message) = (Vec::new(), Vec::new());
    bytes(&mut resource, 2, &scope);
    bytes(&mut message, 1, &resource);
    message
}

pub fn bounds() -> Vec<f64> {
    BOUNDS_MS.iter().map(|bound| f64::from(u32::try_from(*bound).unwrap())).collect()
}

/// Builds a push of a proxy that counts since `start`, at `time`, both in seconds.
pub fn push(start: u64, time: u64, samples: &[Sample]) -> Vec<u8> {
    let nanoseconds = |seconds: u64| seconds * 1_000_000_000;
    let metrics: Vec<_> = Metric::ALL
        .into_iter()
        .map(|metric| {
            let own = samples.iter().filter(|sample| sample.metric == metric);
            let points =
                own.map(|it| point((nanoseconds(start), nanoseconds(time)), it, &bounds())).collect();
            (metric.name(), if metric.is_histogram() { 9 } else { 7 }, 2, points)
        })
        .collect();
    message(&metrics)
}
