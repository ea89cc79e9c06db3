//! Turns a push of a proxy (an `ExportMetricsServiceRequest` of OTLP) into points, and has the contract of its series.
//!
//! The contract: the names and labels here are those that the configuration of every proxy gives its statistics, by
//! Envoy's stats access logger and by the conversions of its OTLP sink. Values are cumulative: a push has all that a
//! proxy has counted since it started, so one that is lost costs nothing. Read by `store`. Judges no label.

mod labels;
pub mod wire;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use crate::traffic::{BOUNDS_MS, BUCKETS};
pub use labels::Labels;
use wire::{Field, Fields, Malformed, packed};

/// Time between two pushes of a proxy (`stats_flush_interval`).
pub const PUSH_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of data points in one message of a push (`max_data_points_per_request`): with labels of ordinary
/// length, a quarter of the maximum size of a message.
pub const POINTS_PER_MESSAGE: u32 = 1_000;
/// Maximum length of a label's value, in bytes. A point with a longer one is dropped.
pub const MAX_LABEL: usize = 1_024;

/// Series that proxies push. See [`Metric::labels`] for the labels of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Counter `smidge_inbound_requests`: HTTP requests that were answered or ended, at the server's proxy.
    InboundRequests,
    /// Histogram `smidge_inbound_latency_ms`: time from the first byte of a request to the last of its answer.
    InboundLatency,
    /// Counter `smidge_outbound_requests`: the same at the caller's proxy.
    OutboundRequests,
    /// Histogram `smidge_outbound_latency_ms`: the same at the caller's proxy.
    OutboundLatency,
    /// Counter `smidge_outbound_refused`: calls that the caller's own proxy refused, as no TrafficTarget allows them.
    OutboundRefused,
    /// Counter `smidge_inbound_connections`: TCP connections that have ended, at the server's proxy.
    InboundConnections,
}

/// Label with the URI SAN of the peer's certificate; empty without one.
pub const PEER_ID: &str = "peer_id";
/// Label with the subject of the peer's certificate, as Envoy prints it; empty without one.
pub const PEER_SUBJECT: &str = "peer_subject";
/// Label with the HTTP status code; `0` if there was no answer.
pub const CODE: &str = "code";
/// Label with Envoy's response flags; `-` if there are none.
pub const FLAGS: &str = "flags";
/// Label with the number of the gRPC status; empty for plain HTTP.
pub const GRPC: &str = "grpc";
/// Label with the decision of access control: [`DENIED`], `allowed`, or empty where none was made.
pub const ENFORCED: &str = "enforced";
/// Label with the decision that access control would make in mode `audit`, in the same words.
pub const SHADOW: &str = "shadow";
/// Label with the route of the request, the name of a match as `namespace/group/match`; empty where no route is measured
/// (MetricsPolicy), and for a request that meets none.
pub const ROUTE: &str = "route";
/// Label with the reason for which a TCP connection was ended by the proxy; it begins with [`TCP_DENIED`] if policy
/// refused it.
pub const TERMINATION: &str = "termination";
/// Label with the number of the attempt at a request: 1 and more.
pub const ATTEMPT: &str = "attempt";
/// Label with [`IS_RETRIED`] for an attempt that the server's proxy could not serve and the caller's repeats; else empty.
pub const RETRIED: &str = "retried";
/// Label with the filter chain that refused a call; it begins with [`NO_ENDPOINT`] if there is no server for it.
pub const CHAIN: &str = "chain";
/// Label with the cluster that took the call: `namespace/name/port` of a Service.
pub const SERVICE: &str = "service";
/// Label with the Service that was called, in the same form.
pub const ROOT: &str = "root";
/// Label with the address that was dialled: `ip:port`.
pub const ADDRESS: &str = "address";

/// Value of [`ENFORCED`] and [`SHADOW`] for a call that policy refuses.
pub const DENIED: &str = "denied";
/// Value of [`RETRIED`] for an attempt that another one follows.
pub const IS_RETRIED: &str = "1";
/// Start of [`TERMINATION`] for a connection that policy refused.
pub const TCP_DENIED: &str = "rbac_access_denied";
/// Start of [`CHAIN`] for a call of a Service without servers.
pub const NO_ENDPOINT: &str = "no-endpoint/";
/// Maximum number of attempts at a request: an earlier one that found no server is followed by another.
pub const ATTEMPTS: u8 = 3;

impl Metric {
    /// All series.
    pub const ALL: [Self; 6] = [
        Self::InboundRequests,
        Self::InboundLatency,
        Self::OutboundRequests,
        Self::OutboundLatency,
        Self::OutboundRefused,
        Self::InboundConnections,
    ];

    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::InboundRequests => "smidge_inbound_requests",
            Self::InboundLatency => "smidge_inbound_latency_ms",
            Self::OutboundRequests => "smidge_outbound_requests",
            Self::OutboundLatency => "smidge_outbound_latency_ms",
            Self::OutboundRefused => "smidge_outbound_refused",
            Self::InboundConnections => "smidge_inbound_connections",
        }
    }

    /// Returns the labels; an absent one is the same as an empty one.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::InboundRequests => {
                &[PEER_ID, PEER_SUBJECT, CODE, FLAGS, GRPC, ENFORCED, SHADOW, ROUTE, RETRIED]
            }
            Self::InboundLatency => &[PEER_ID, PEER_SUBJECT, ROUTE],
            Self::OutboundRequests => {
                &[SERVICE, ROOT, PEER_ID, PEER_SUBJECT, CODE, FLAGS, GRPC, ATTEMPT, RETRIED]
            }
            Self::OutboundLatency => &[SERVICE, ROOT, PEER_ID, PEER_SUBJECT],
            Self::OutboundRefused => &[ADDRESS, CHAIN],
            Self::InboundConnections => &[PEER_ID, PEER_SUBJECT, TERMINATION, SHADOW],
        }
    }

    /// Returns true if it is a histogram, with the bounds [`BOUNDS_MS`].
    pub fn is_histogram(self) -> bool {
        matches!(self, Self::InboundLatency | Self::OutboundLatency)
    }
}

/// Cumulative value of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a histogram.
    Histogram(Box<Histogram>),
}

impl Value {
    /// Adds another value of the same form.
    pub fn add(&mut self, more: &Self) {
        match (self, more) {
            (Self::Count(count), Self::Count(more)) => *count = count.saturating_add(*more),
            (Self::Histogram(value), Self::Histogram(more)) => {
                let both = value.buckets.iter_mut().zip(more.buckets);
                both.for_each(|(count, more)| *count = count.saturating_add(more));
                value.sum = value.sum.saturating_add(more.sum);
            }
            _ => {}
        }
    }
}

/// Value of a histogram of latencies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    /// Number of latencies by bucket ([`BOUNDS_MS`]), not cumulative over buckets.
    pub buckets: [u64; BUCKETS],
    /// Their sum, in microseconds. An estimate: Envoy computes it from its own, finer buckets.
    pub sum: u64,
}

/// One series of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point<'a> {
    /// The series.
    pub metric: Metric,
    /// Its labels.
    pub labels: Labels<'a>,
    /// Digest of the series and of all its labels, also of those that are not known, in any order.
    pub digest: u128,
    /// Time since which the proxy counts, in nanoseconds of its own clock since 1970; 0 if it is not known.
    pub start: u64,
    /// Time of the push, by the same clock. Equal for all messages of one push.
    pub time: u64,
    /// The value.
    pub value: Value,
}

/// Reason for which a point is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Defect {
    /// It has no value, or text that is not UTF-8, or none of the forms of OTLP.
    Malformed,
    /// Its metric is not one of the contract.
    UnknownMetric,
    /// It counts since the last push, not since the start.
    NotCumulative,
    /// Its histogram has other bounds.
    Bounds,
    /// A label is too long.
    LabelTooLong,
}

/// Reads the points of a push. `each` receives every point, or the reason for which it is dropped; a metric that is not
/// known is one defect, however many points it has. The error means that the message ends early: what was read before
/// is valid.
pub fn decode<'a>(
    message: &'a [u8],
    mut each: impl FnMut(Result<Point<'a>, Defect>),
) -> Result<(), Malformed> {
    for resource in messages(message, 1) {
        for scope in messages(resource?, 2) {
            for metric in messages(scope?, 2) {
                decode_metric(metric?, &mut each)?;
            }
        }
    }
    Ok(())
}

/// Returns the messages in field `number`.
fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok((found, Field::Bytes(bytes))) if found == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Field of a metric with the points of a sum, and of a histogram.
const SUM: u64 = 7;
const HISTOGRAM: u64 = 9;
/// Value of the temporality of a cumulative sum or histogram.
const CUMULATIVE: u64 = 2;

fn decode_metric<'a>(
    message: &'a [u8],
    each: &mut impl FnMut(Result<Point<'a>, Defect>),
) -> Result<(), Malformed> {
    let mut name = &b""[..];
    let mut data = None;
    for field in Fields::of(message) {
        match field? {
            (1, Field::Bytes(text)) => name = text,
            (number @ (SUM | HISTOGRAM), Field::Bytes(bytes)) => data = Some((number, bytes)),
            _ => {}
        }
    }
    let Some(metric) = Metric::ALL.into_iter().find(|metric| metric.name().as_bytes() == name) else {
        each(Err(Defect::UnknownMetric));
        return Ok(());
    };
    let form = if metric.is_histogram() { HISTOGRAM } else { SUM };
    let Some((_, data)) = data.filter(|(number, _)| *number == form) else {
        each(Err(Defect::Malformed));
        return Ok(());
    };
    let mut is_cumulative = false;
    for field in Fields::of(data) {
        if let (2, Field::Varint(temporality)) = field? {
            is_cumulative = temporality == CUMULATIVE;
        }
    }
    for point in messages(data, 1) {
        let point = point?;
        each(if is_cumulative { decode_point(metric, point) } else { Err(Defect::NotCumulative) });
    }
    Ok(())
}

fn decode_point(metric: Metric, message: &[u8]) -> Result<Point<'_>, Defect> {
    let attributes = if metric.is_histogram() { 9 } else { 7 };
    let (mut labels, mut others) = (Labels::default(), 0_u128);
    let (mut start, mut time, mut count) = (0, 0, None);
    let (mut buckets, mut bounds, mut sum) = (&b""[..], &b""[..], 0.0);
    for field in Fields::of(message) {
        match field.map_err(|_| Defect::Malformed)? {
            (number, Field::Bytes(attribute)) if number == attributes => {
                let (key, value) = decode_attribute(attribute)?;
                match labels.get_mut(key).filter(|_| metric.labels().contains(&key)) {
                    Some(label) => *label = value,
                    None => others = others.wrapping_add(digest(&(key, value))),
                }
            }
            (2, Field::Fixed64(time)) => start = nanoseconds(time),
            (3, Field::Fixed64(nanoseconds)) => time = nanoseconds,
            (6, Field::Fixed64(value)) if !metric.is_histogram() => count = Some(value),
            (5, Field::Fixed64(bits)) if metric.is_histogram() => sum = f64::from_bits(bits),
            (6, Field::Bytes(packed)) if metric.is_histogram() => buckets = packed,
            (7, Field::Bytes(packed)) if metric.is_histogram() => bounds = packed,
            _ => {}
        }
    }
    let value = if metric.is_histogram() {
        Value::Histogram(decode_histogram(buckets, bounds, sum)?)
    } else {
        // Signed on the wire; a counter is never negative.
        Value::Count(count.filter(|count| i64::try_from(*count).is_ok()).ok_or(Defect::Malformed)?)
    };
    let digest = digest(&(metric, labels)).wrapping_add(others);
    Ok(Point { metric, labels, digest, start, time, value })
}

fn decode_histogram(buckets: &[u8], bounds: &[u8], sum: f64) -> Result<Box<Histogram>, Defect> {
    #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
    let expected = BOUNDS_MS.iter().map(|bound| (*bound as f64).to_bits());
    if bounds.len() != 8 * BOUNDS_MS.len() || !packed(bounds).eq(expected) {
        return Err(Defect::Bounds);
    }
    if buckets.len() != 8 * BUCKETS {
        return Err(Defect::Malformed);
    }
    let mut histogram = Box::<Histogram>::default();
    histogram.buckets.iter_mut().zip(packed(buckets)).for_each(|(count, read)| *count = read);
    // Milliseconds. A conversion of a float is 0 for what is not a number, and the nearest value for what is out of range.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as above")]
    let microseconds = (sum * 1_000.0) as u64;
    histogram.sum = microseconds;
    Ok(histogram)
}

/// Reads key and text of an attribute.
fn decode_attribute(message: &[u8]) -> Result<(&str, &str), Defect> {
    let (mut key, mut value) = (&b""[..], &b""[..]);
    for field in Fields::of(message) {
        match field.map_err(|_| Defect::Malformed)? {
            (1, Field::Bytes(text)) => key = text,
            (2, Field::Bytes(any)) => {
                for field in Fields::of(any) {
                    if let (1, Field::Bytes(text)) = field.map_err(|_| Defect::Malformed)? {
                        value = text;
                    }
                }
            }
            _ => {}
        }
    }
    if key.len() > MAX_LABEL || value.len() > MAX_LABEL {
        return Err(Defect::LabelTooLong);
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Defect::Malformed);
    Ok((text(key)?, text(value)?))
}

/// Returns a start time in nanoseconds since 1970. Envoy 1.40 writes it in microseconds, which would be a date of 1970.
fn nanoseconds(start: u64) -> u64 {
    /// From 2001 to 5138 in microseconds; in nanoseconds, the first years after 1970.
    const MICROSECONDS: std::ops::Range<u64> = 1_000_000_000_000_000..100_000_000_000_000_000;
    if MICROSECONDS.contains(&start) { start.saturating_mul(1_000) } else { start }
}

/// Returns 128 bits by which a series is found. Two series of one proxy that share them would be counted as one; a proxy
/// that constructs such labels falsifies its own figures only.
fn digest(value: &impl std::hash::Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_in_microseconds_is_recognized() {
        assert_eq!(nanoseconds(1_795_985_226_526_000), 1_795_985_226_526_000_000);
        assert_eq!(nanoseconds(1_795_985_226_526_000_000), 1_795_985_226_526_000_000);
        assert_eq!(nanoseconds(0), 0);
    }
}
