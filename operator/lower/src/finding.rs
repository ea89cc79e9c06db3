//! Findings: problems of an object, in words for its owner.
//!
//! Made by `lower` (and by other code that reads objects), reported by `report`, `/debug/findings` and `smidge check`.
//! A finding never stops anything: it states where an object has less effect than written, or what it still waits for.

use std::{cmp::Ordering, fmt};

use serde::Serialize;
use smidge_mesh::{id::ClusterId, text::plain};

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Cluster of the object; `None` for the cluster of the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// The kind, for example `TrafficTarget`.
    pub kind: String,
    /// The namespace; empty for a cluster-scoped object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// Returns a reference to the object `name` of `kind` in `namespace` (empty: cluster-scoped).
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { cluster: None, kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// The same object in another cluster than that of the control plane.
    #[must_use]
    pub fn in_cluster(self, cluster: ClusterId) -> Self {
        Self { cluster: Some(cluster), ..self }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, kind, namespace, name } = self;
        write!(f, "{kind} ")?;
        if !namespace.is_empty() {
            write!(f, "{namespace}/")?;
        }
        f.write_str(name)?;
        cluster.as_ref().map_or(Ok(()), |cluster| write!(f, " in cluster {cluster}"))
    }
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object has less effect than it states.
    Error,
    /// An object that it refers to does not exist yet, or something beside the object deserves attention.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $severity:ident, $condition:ident, $admission:ident;)*) => {
        /// Reason of a finding: the same word in an Event, a metric's label, a condition and a log line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, so that a metric can start them all at zero.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the word itself.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns the severity; one reason has one severity.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }

            /// Returns the condition of the object that is false for this reason.
            pub fn condition(self) -> AffectedCondition {
                match self {
                    $(Self::$name => AffectedCondition::$condition,)*
                }
            }

            /// Returns the decision of admission for this reason.
            pub fn admission(self) -> Admission {
                match self {
                    $(Self::$name => Admission::$admission,)*
                }
            }
        }
    };
}

/// Condition of an object's status that a reason makes false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AffectedCondition {
    /// `Accepted`: the object has less effect than it states.
    Accepted,
    /// `ResolvedRefs`: an object that it refers to does not exist.
    ResolvedRefs,
    /// None: worth knowing, and the object has the effect that it states.
    Nothing,
}

/// Decision of the validating webhook about an object for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Refuses it: no other object could ever give it a meaning.
    Refuse,
    /// Admits it with a warning: a missing object may be created later, or older definitions allow it.
    Warn,
    /// Admits it without a warning: the reason depends on the current state of the cluster.
    Pass,
}

// Reason => severity, the condition that it makes false, the decision of admission.
reasons! {
    /// The definition of a kind is not installed: its list counts as empty.
    CRDNotInstalled => Warning, Nothing, Pass;
    /// The object does not have the shape of its kind; it has no effect.
    Malformed => Error, Accepted, Refuse;
    /// An API version, a kind or a field that this version of Smidge does not serve yet.
    NotServed => Error, Accepted, Warn;
    /// A rule or a subject of an unknown kind.
    InvalidKind => Error, Accepted, Refuse;
    /// A list or a name that must not be empty is empty.
    Empty => Error, Accepted, Warn;
    /// A name that no object can have.
    InvalidName => Error, Accepted, Refuse;
    /// A target for a destination in another namespace.
    CrossNamespaceDestination => Error, Accepted, Refuse;
    /// A route object that does not exist.
    RouteNotFound => Warning, ResolvedRefs, Warn;
    /// A destination under whose ServiceAccount no pod runs.
    DestinationNotFound => Warning, ResolvedRefs, Warn;
    /// A match name that its group does not have.
    MatchNotFound => Warning, ResolvedRefs, Warn;
    /// An expression that must not be sent to the proxies.
    InvalidRegex => Error, Accepted, Refuse;
    /// An expression that no request can match.
    NeverMatches => Error, Accepted, Warn;
    /// A method that no request can have.
    InvalidMethod => Error, Accepted, Refuse;
    /// A header that cannot be matched.
    InvalidHeader => Error, Accepted, Refuse;
    /// A text that is no address, or one at which no workload can be reached.
    InvalidAddress => Error, Accepted, Refuse;
    /// A credential that cannot be read: nobody can prove to have it.
    InvalidCredential => Error, Accepted, Refuse;
    /// A port outside 1 to 65535.
    InvalidPort => Error, Accepted, Refuse;
    /// A weight that is not a whole number of at least 0.
    InvalidWeight => Error, Accepted, Refuse;
    /// An expression whose meaning depends on `pathRegexEnd`, which is not set.
    PathRegexEndUnset => Warning, Nothing, Pass;
    /// An expression whose meaning depends on `headerRegexMatch`, which is not set.
    HeaderRegexMatchUnset => Warning, Nothing, Pass;
    /// The Service of a split's root does not exist.
    ServiceNotFound => Warning, ResolvedRefs, Warn;
    /// The root names no Service, so the Service with the name of the split is used.
    RootServiceInferred => Warning, Nothing, Warn;
    /// A backend that does not exist.
    BackendNotFound => Warning, ResolvedRefs, Warn;
    /// A Service that a split cannot use: an ExternalName Service, or a backend whose endpoints are outside the mesh.
    UnsupportedService => Error, Accepted, Warn;
    /// A backend without a port of the root.
    BackendPortNotFound => Warning, ResolvedRefs, Warn;
    /// A backend whose share is answered with 503, as no endpoint of it is ready in the mesh.
    BackendNotReady => Warning, Nothing, Pass;
    /// All weights are 0.
    AllWeightsZero => Warning, Nothing, Warn;
    /// A backend is the root of another split, which does not apply here.
    NestedSplit => Warning, Nothing, Warn;
    /// Another object takes precedence: an older one of the same kind, or one of a kind that comes first.
    Conflicted => Error, Accepted, Warn;
    /// No pod of the Services or of the destination is in the mesh.
    NotInMesh => Warning, ResolvedRefs, Pass;
    /// Proxies that do not count the traffic that a MetricsPolicy has measured.
    NotCounted => Warning, Nothing, Pass;
    /// Some pods of a Service are not in the mesh and are left out.
    PartiallyInMesh => Warning, Nothing, Pass;
    /// A pod that has a proxy in a namespace that is not labelled for the mesh: it is not a member.
    NamespaceNotInjected => Warning, Nothing, Pass;
    /// A pod without a sidecar in a namespace that enforces access.
    SidecarMissing => Warning, Nothing, Pass;
    /// A pod that can bypass its sidecar, or lets callers bypass it.
    CanBypassSidecar => Warning, Nothing, Pass;
    /// No pod of a Service is in the mesh, and its namespace accepts only mTLS: calls are answered with 503.
    NoEndpointsInMesh => Warning, Nothing, Pass;
    /// Pods of a Service run under an account that no target names: clients refuse them.
    ServerIdentityRejected => Warning, Nothing, Pass;
    /// An address and port that an older Service already has, or an address of a pod or an older ExternalWorkload.
    AddressConflict => Error, Accepted, Pass;
    /// Two Services state different protocols for a port of a pod.
    ProtocolConflict => Warning, Nothing, Pass;
    /// A port without a protocol whose number is that of a protocol in which the server sends first.
    ProtocolUndeclared => Warning, Nothing, Pass;
    /// HTTP rules for a destination whose ports are all declared as TCP: they allow nothing.
    HTTPPortNotFound => Error, Accepted, Warn;
    /// TCP ports that rules of a target name and that stay closed, as the target has HTTP rules, too.
    TCPPortClosed => Warning, Nothing, Warn;
    /// A `targetPort` by a name that no container port of the Service's pods has.
    TargetPortNotFound => Warning, Nothing, Pass;
    /// A headless Service without ports: the mesh does not know the ports on which its pods are called.
    ServicePortNotFound => Warning, Nothing, Pass;
    /// A port that the proxy needs for itself.
    ReservedPort => Error, Accepted, Pass;
    /// A setting whose value has no meaning; the strictest mode or the default budget is used.
    InvalidSetting => Error, Accepted, Refuse;
    /// A settings object that is not the one in use.
    NotInUse => Warning, Nothing, Warn;
    /// A field in the shape of another API version; it is understood.
    FieldFromOtherVersion => Warning, Nothing, Warn;
    /// An IdentityBinding that does not exist.
    BindingNotFound => Warning, ResolvedRefs, Warn;
    /// Labels that no certificate proves: pods without them run under the same account.
    SelectorNotIdentity => Error, Accepted, Warn;
    /// An identity that is not valid, or of a trust domain that the mesh does not know: SMI's own examples have both.
    InvalidIdentity => Error, Accepted, Warn;
    /// A field that has no effect in its place.
    NoEffect => Warning, Nothing, Warn;
    /// A field that the object's version does not have.
    UnknownField => Warning, Nothing, Warn;
    /// A label or annotation of Smidge that nothing reads where it is, by its name or its value.
    UnknownLabel => Warning, Nothing, Pass;
    /// An object, label or annotation of another mesh, which Smidge does not read.
    OtherMesh => Warning, Nothing, Pass;
    /// A cost above a budget, which limits what a tenant may make others compute, hold or send.
    BudgetExceeded => Error, Accepted, Warn;
    /// A file, or a part of one, that could not be read: what was last read of it stays in effect.
    FileNotRead => Error, Accepted, Pass;
    /// A definition of an SMI kind that would replace that of Smidge.
    ForeignCRD => Warning, Nothing, Warn;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One problem of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// Severity, which is that of `reason`.
    pub severity: Severity,
    /// Reason of the finding.
    pub reason: Reason,
    /// The field at fault, for example `spec.rules[1].matches[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Current state, expected state and consequence, in one sentence without a full stop.
    pub message: String,
    /// Advice on the remedy, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// Returns a finding about `object`.
    pub fn new(object: ObjectRef, reason: Reason, message: impl Into<String>) -> Self {
        let message = plain(&in_short(message.into()));
        Self { object, severity: reason.severity(), reason, field: None, message, hint: None }
    }

    /// Sets the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(plain(&in_short(field.into())));
        self
    }

    /// Sets the advice on the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(plain(&in_short(hint.into())));
        self
    }

    fn key(&self) -> (Severity, &ObjectRef, &Option<String>, Reason, &str) {
        (self.severity, &self.object, &self.field, self.reason, &self.message)
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finding {
    /// Orders errors first, then by object and field.
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key()).then_with(|| self.hint.cmp(&other.hint))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, severity, reason, field, message, hint } = self;
        write!(f, "{severity}: {object}: ")?;
        if let Some(field) = field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{message} [{reason}]")?;
        if let Some(hint) = hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

/// Returns a text without its middle if it is too long to be read: messages contain what users wrote, which may be a
/// megabyte. The end is kept, as it states what was expected.
pub fn in_short(text: String) -> String {
    const LONGEST: usize = 1000;
    const HEAD: usize = 600;
    const TAIL: usize = 300;
    if text.len() <= LONGEST {
        return text;
    }
    let from_end = |(index, _): (usize, char)| text.get(index..);
    let tail = text.char_indices().rev().nth(TAIL).and_then(from_end).unwrap_or_default();
    let head: String = text.chars().take(HEAD).collect();
    if head.len() + tail.len() >= text.len() { text } else { format!("{head} … {tail}") }
}

/// Returns the beginning of a text from outside, fit for one line of a log.
pub fn brief(text: &str) -> String {
    smidge_mesh::text::brief(text, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_sentence_with_object_field_and_hint() {
        let finding = Finding::new(
            ObjectRef::new("TrafficTarget", "shop", "buy"),
            Reason::Empty,
            "no source, so the target allows no call",
        )
        .at("spec.sources")
        .hint("name a ServiceAccount");
        assert_eq!(
            finding.to_string(),
            "error: TrafficTarget shop/buy: spec.sources: no source, so the target allows no call [Empty]; \
             hint: name a ServiceAccount"
        );
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(in_short("a".repeat(1000)), "a".repeat(1000));
        let short = in_short(format!("<{}> is too long", "é".repeat(1 << 20)));
        assert!(
            short.len() < 2000 && short.starts_with("<é") && short.ends_with("é> is too long"),
            "{short}"
        );
        assert_eq!(in_short("é".repeat(600)), "é".repeat(600));
    }

    #[test]
    fn errors_sort_before_warnings() {
        let object = ObjectRef::new("A", "a", "a");
        let warning = Finding::new(object, Reason::RouteNotFound, "w");
        let error = Finding::new(ObjectRef::new("Z", "z", "z"), Reason::Empty, "e");
        assert!(error < warning);
    }
}
