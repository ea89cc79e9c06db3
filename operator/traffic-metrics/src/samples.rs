//! Turns answers of Prometheus to the queries of a question into the traffic of its objects.
//!
//! Pure. The queries are those of `promql`; `operator::traffic::prometheus` fetches the answers. Edges are the same as
//! `answer` makes of flows.
//!
//! | in an answer | meaning |
//! | --- | --- |
//! | a label that is absent | empty, as everywhere in Prometheus: a part of the peer that is not known |
//! | a sample without the name of an object, or of a pod whose objects are not known | ignored: it is no object's traffic |
//! | a sample of 0 | ignored: no call |
//! | a fraction | the nearest whole number |
//! | a bucket that is absent, or smaller than the one below it | no call between the two bounds |
//! | NaN, ±Inf, a negative number, 2^52 and above, text that is no number | an error |
//! | an outcome, a bound or a result of another type than the query has | an error |
//! | a name of more than 253 bytes, a route of more than 512, more than 100,000 edges | an error |
//! | characters that change how a text is shown | `?` |

use std::collections::BTreeMap;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    answer::own_peer,
    directory::{Directory, ProxyName, Split},
    families::labels::{BACKEND, Label, OUTCOME, Party, ROUTE, SERVICE, SERVICE_NAMESPACE, SOURCE, word},
    flow::MAX_ROUTE,
    outcome::Outcome,
    peer::{MAX_NAME, clean, shown},
    promql::{LE, Query, is_by_pod, own_label, party},
    subject::{matches, object, splits},
    traffic::{BOUNDS_MS, Direction, Edge, Figures, Kind, ObjectName, Peer, Question, Side, Traffic},
};

/// Maximum number of edges of an answer.
pub const MAX_EDGES: usize = 100_000;
/// Maximum number of calls in a sample, which no window has.
const MAX_COUNT: f64 = 4_503_599_627_370_496.0;
/// Maximum number of warnings that are passed on.
const MAX_WARNINGS: usize = 3;

/// Errors of an answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is not in the form of the API of Prometheus.
    #[error("it is not an answer of the API of Prometheus: {}", short(&.0.to_string()))]
    Form(#[from] serde_json::Error),
    /// It is an error.
    #[error("it is an error: {0}")]
    Failed(String),
    /// Its result is of another type.
    #[error("its result has the type {0:?}: expected \"vector\"")]
    ResultType(String),
    /// A sample has no number of calls.
    #[error("a sample has the value {0:?}: expected a number of calls")]
    Value(String),
    /// A label has a value that our metrics do not have.
    #[error("the label {label} has the value {value:?}: expected {expected}")]
    Label {
        /// The label.
        label: &'static str,
        /// Its value.
        value: String,
        /// Values that it can have.
        expected: &'static str,
    },
    /// A label is too long.
    #[error("the label {label} has {bytes} bytes: expected at most {most}")]
    TooLong {
        /// The label.
        label: &'static str,
        /// Its length.
        bytes: usize,
        /// The maximum.
        most: usize,
    },
    /// There are too many edges.
    #[error("it has more than {MAX_EDGES} edges; ask for one namespace or one object")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    status: String,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// A sample. One of a native histogram has no value.
#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
}

impl Sample {
    /// Returns the value of a label; empty if it is absent.
    fn label(&self, name: &str) -> &str {
        self.metric.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Returns a name.
    fn name(&self, label: Label) -> Result<String, AnswerError> {
        self.text(label, MAX_NAME)
    }

    /// Returns the route, if one is measured.
    fn route(&self) -> Result<Option<String>, AnswerError> {
        Ok(Some(self.text(ROUTE, MAX_ROUTE)?).filter(|route| !route.is_empty()))
    }

    fn text(&self, label: Label, most: usize) -> Result<String, AnswerError> {
        let value = self.label(label.name);
        if value.len() > most {
            return Err(AnswerError::TooLong { label: label.name, bytes: value.len(), most });
        }
        Ok(clean(value, most))
    }

    fn peer(&self, party: &Party) -> Result<Peer, AnswerError> {
        Ok(Peer {
            kind: self.name(party.kind)?,
            namespace: self.name(party.namespace)?,
            name: self.name(party.workload)?,
            service_account: self.name(party.service_account)?,
        })
    }

    /// Returns a Service; the namespace is the same for both labels that name one.
    fn service(&self, label: Label) -> Result<Option<ObjectName>, AnswerError> {
        let (namespace, name) = (self.name(SERVICE_NAMESPACE)?, self.name(label)?);
        Ok((!name.is_empty()).then_some(ObjectName { namespace, name }))
    }

    /// Returns the number of calls.
    fn count(&self) -> Result<u64, AnswerError> {
        let text = self.value.as_ref().map_or("a native histogram", |(_, text)| text);
        let count = text.parse::<f64>().ok().filter(|count| (0.0..MAX_COUNT).contains(count));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
        count.map(|count| count.round() as u64).ok_or_else(|| AnswerError::Value(short(text)))
    }

    /// Returns the index of the bucket.
    fn bucket(&self) -> Result<usize, AnswerError> {
        let text = self.label(LE);
        let bound = text.parse::<f64>().unwrap_or(f64::NAN);
        #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
        let mut bounds = BOUNDS_MS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
        #[expect(clippy::float_cmp, reason = "bounds are whole numbers")]
        let found = bounds.position(|known| known == bound);
        let expected = "a bound of our histograms, such as 250";
        found.ok_or_else(|| AnswerError::Label { label: LE, value: short(text), expected })
    }

    /// Adds the sample to the figures of its edge. Buckets are cumulative until all samples are read.
    fn add_to(&self, figures: &mut Figures, is_latency: bool, count: u64) -> Result<(), AnswerError> {
        let text = self.label(OUTCOME.name);
        let sum = if is_latency {
            figures.latency.get_mut(self.bucket()?)
        } else if text == word(Outcome::Success) {
            Some(&mut figures.success)
        } else if text == word(Outcome::Failure) {
            Some(&mut figures.failure)
        } else if text == word(Outcome::Refused) {
            Some(&mut figures.refused)
        } else {
            let expected = "success, failure or refused";
            return Err(AnswerError::Label { label: OUTCOME.name, value: short(text), expected });
        };
        if let Some(sum) = sum {
            *sum = sum.saturating_add(count);
        }
        Ok(())
    }
}

/// Returns the beginning of a text that others have written, on one line.
pub fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut letters = text.chars();
    let begin: String = letters.by_ref().take(LONGEST).collect();
    let end = if letters.next().is_some() { "..." } else { "" };
    shown(&begin) + end
}

/// Returns the error that a body has, if it has one in the form of the API of Prometheus.
pub fn error_of(body: &[u8]) -> Option<String> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
    envelope.error.as_ref()?;
    Some(failure(&envelope))
}

fn failure(envelope: &Envelope<'_>) -> String {
    let part = |text: &Option<String>| short(text.as_deref().unwrap_or("unknown"));
    format!("{}: {}", part(&envelope.error_type), part(&envelope.error))
}

/// The answers to the queries of a question, as far as they were read.
#[derive(Debug)]
pub struct Reading {
    question: Question,
    /// The cluster, which pods do not name.
    cluster: String,
    splits: Vec<Split>,
    traffic: Traffic,
    edges: usize,
}

impl Reading {
    /// Begins to read the answers to a question in a cluster.
    pub fn new(question: Question, directory: &dyn Directory, cluster: String) -> Self {
        let splits = splits(&question, directory);
        Self { question, cluster, splits, traffic: Traffic::new(), edges: 0 }
    }

    /// Reads the answer to a query, and returns the warnings in it.
    pub fn read(
        &mut self,
        query: &Query,
        body: &[u8],
        directory: &dyn Directory,
    ) -> Result<Vec<String>, AnswerError> {
        let envelope: Envelope<'_> = serde_json::from_slice(body)?;
        if envelope.status != "success" {
            return Err(AnswerError::Failed(failure(&envelope)));
        }
        let none = || AnswerError::ResultType("none".to_owned());
        let Data { result_type, result } = envelope.data.as_ref().ok_or_else(none)?;
        if result_type != "vector" {
            return Err(AnswerError::ResultType(short(result_type)));
        }
        let mut failed = Ok(());
        let samples = Samples(|sample| {
            failed = self.take(query, &sample, directory);
            failed.is_ok()
        });
        let read = serde_json::Deserializer::from_str(result.get());
        let read = samples.deserialize(&mut { read });
        failed?;
        read?;
        Ok(envelope.warnings.iter().take(MAX_WARNINGS).map(|warning| short(warning)).collect())
    }

    /// Returns the traffic.
    pub fn traffic(mut self) -> Traffic {
        for figures in self.traffic.values_mut().flat_map(BTreeMap::values_mut) {
            let mut below = 0;
            for count in &mut figures.latency {
                let up_to = below.max(*count);
                *count = up_to - below;
                below = up_to;
            }
        }
        self.traffic
    }

    fn take(&mut self, query: &Query, sample: &Sample, directory: &dyn Directory) -> Result<(), AnswerError> {
        let count = sample.count()?;
        if count == 0 {
            return Ok(());
        }
        for (object, edge) in self.edges(query, sample, directory)? {
            let edges = self.traffic.entry(object).or_default();
            if !edges.contains_key(&edge) {
                self.edges += 1;
                if self.edges > MAX_EDGES {
                    return Err(AnswerError::TooMany);
                }
            }
            sample.add_to(edges.entry(edge).or_default(), query.is_latency, count)?;
        }
        Ok(())
    }

    /// Returns the edges that a sample is a part of, with their objects.
    fn edges(
        &self,
        query: &Query,
        sample: &Sample,
        directory: &dyn Directory,
    ) -> Result<Vec<(ObjectName, Edge)>, AnswerError> {
        let Query { direction, side, .. } = *query;
        let kind = self.question.kind;
        if !matches!(kind, Kind::Service | Kind::TrafficSplit) {
            let object = self.own(sample, side, directory)?.filter(|object| matches(&self.question, object));
            let Some(object) = object else { return Ok(Vec::new()) };
            let peer = match direction {
                Direction::From => sample.peer(&SOURCE)?,
                Direction::To => {
                    let called = sample.service(BACKEND)?.or(sample.service(SERVICE)?);
                    own_peer(sample.peer(party(Side::Server))?, called.as_ref())
                }
            };
            return Ok(vec![(object, Edge { direction, side, peer, backend: None, route: sample.route()? })]);
        }
        let (service, backend) = (sample.service(SERVICE)?, sample.service(BACKEND)?);
        let caller = sample.peer(&SOURCE)?;
        let edge = |backend| Edge { direction, side, peer: caller.clone(), backend, route: None };
        if kind == Kind::Service {
            let second = backend.filter(|backend| Some(backend) != service.as_ref());
            let services =
                service.into_iter().chain(second).filter(|service| matches(&self.question, service));
            return Ok(services.map(|service| (service, edge(None))).collect());
        }
        let (Some(root), Some(backend)) = (service, backend) else { return Ok(Vec::new()) };
        let of_backend = |split: &&Split| split.root == root && split.backends.contains(&backend);
        let splits = self.splits.iter().filter(of_backend);
        Ok(splits.map(|split| (split.name.clone(), edge(Some(backend.clone())))).collect())
    }

    /// Returns the object whose proxy has counted a sample.
    fn own(
        &self,
        sample: &Sample,
        side: Side,
        directory: &dyn Directory,
    ) -> Result<Option<ObjectName>, AnswerError> {
        let (kind, own) = (self.question.kind, party(side));
        let namespace = sample.name(own.namespace)?;
        let Some(label) = own_label(kind, own) else {
            let object = ObjectName { namespace: String::new(), name: namespace };
            return Ok(Some(object).filter(|object| !object.name.is_empty()));
        };
        let name = sample.name(label)?;
        if name.is_empty() {
            return Ok(None);
        }
        if is_by_pod(kind) && kind != Kind::Pod {
            let proxy = ProxyName { cluster: self.cluster.clone(), namespace, instance: name };
            return Ok(directory.instance(&proxy).and_then(|instance| object(kind, &instance)));
        }
        Ok(Some(ObjectName { namespace, name }))
    }
}

/// List of samples that are passed on one by one, until one is refused.
struct Samples<F>(F);

impl<'de, F: FnMut(Sample) -> bool> DeserializeSeed<'de> for Samples<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Sample) -> bool> Visitor<'de> for Samples<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut samples: A) -> Result<(), A::Error> {
        while let Some(sample) = samples.next_element()? {
            if !(self.0)(sample) {
                // The rest does not matter any more.
                return Ok(());
            }
        }
        Ok(())
    }
}
