//! What is wrong with an object, in words for its owner.
//!
//! Made by `lower` (and by whoever reads objects), told by `report`, `/debug/findings` and `smidge check`. A finding
//! never stops anything: it says what an object means less than it states, or what it still waits for.

use std::{cmp::Ordering, fmt};

use serde::Serialize;
use smidge_mesh::text::plain;

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// The kind, for example `TrafficTarget`.
    pub kind: String,
    /// The namespace; empty for what lives in none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// The object `name` of `kind` in `namespace` (empty: in none).
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object means less than it says.
    Error,
    /// What the object refers to is not there yet, or something beside the object deserves a look.
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
        /// Why: the same word in an Event, a metric's label, a condition and a log line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, so that a metric can start them all at zero.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word itself.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// How bad it is; one reason has one severity.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }

            /// Which condition of the object is false for this reason.
            pub fn condition(self) -> AffectedCondition {
                match self {
                    $(Self::$name => AffectedCondition::$condition,)*
                }
            }

            /// What admission does about it.
            pub fn admission(self) -> Admission {
                match self {
                    $(Self::$name => Admission::$admission,)*
                }
            }
        }
    };
}

/// Which condition of an object's status a reason makes false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AffectedCondition {
    /// `Accepted`: the object means less than it says.
    Accepted,
    /// `ResolvedRefs`: what it refers to is not there.
    ResolvedRefs,
    /// None: worth knowing, and the object does what it says.
    Nothing,
}

/// What the validating webhook does with an object for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Refuses it: no other object could ever make it mean something.
    Refuse,
    /// Admits it with a warning: what is missing may come, or older definitions allow it.
    Warn,
    /// Says nothing: it depends on the moment.
    Pass,
}

// Reason => severity, the condition that it makes false, what admission does about it.
reasons! {
    /// The definition of a kind is not installed: its list counts as empty.
    CRDNotInstalled => Warning, Nothing, Pass;
    /// The object does not have the shape of its kind; it has no effect.
    Malformed => Error, Accepted, Refuse;
    /// An API version, a kind or a field that this version of Smidge does not serve yet.
    NotServed => Error, Accepted, Warn;
    /// A rule or a subject of a kind that nobody knows.
    InvalidKind => Error, Accepted, Refuse;
    /// A list that must say something is empty.
    Empty => Error, Accepted, Warn;
    /// A target for a destination in another namespace.
    CrossNamespaceDestination => Error, Accepted, Refuse;
    /// A route object that does not exist.
    RouteNotFound => Warning, ResolvedRefs, Warn;
    /// A match name that its group does not have.
    MatchNotFound => Warning, ResolvedRefs, Warn;
    /// An expression that the proxies must not be given.
    InvalidRegex => Error, Accepted, Refuse;
    /// A method that no request can have.
    InvalidMethod => Error, Accepted, Refuse;
    /// A header that cannot be matched.
    InvalidHeader => Error, Accepted, Refuse;
    /// A port outside 1 to 65535.
    InvalidPort => Error, Accepted, Refuse;
    /// A weight that is no whole number from 0 on.
    InvalidWeight => Error, Accepted, Refuse;
    /// An expression whose meaning depends on `pathRegexEnd`, which nobody has set.
    PathRegexEndUnset => Warning, Nothing, Pass;
    /// The Service of a split's root does not exist.
    ServiceNotFound => Warning, ResolvedRefs, Warn;
    /// The root names no Service, so the Service named like the split is taken.
    RootServiceInferred => Warning, Nothing, Warn;
    /// A backend that does not exist.
    BackendNotFound => Warning, ResolvedRefs, Warn;
    /// A backend without a port of the root.
    BackendPortNotFound => Warning, ResolvedRefs, Warn;
    /// A backend whose share is answered with 503, as no endpoint of it is ready in the mesh.
    BackendNotReady => Warning, Nothing, Pass;
    /// All weights are 0.
    AllWeightsZero => Warning, Nothing, Warn;
    /// A backend is the root of another split, which does not apply here.
    NestedSplit => Warning, Nothing, Warn;
    /// Another object of the same kind has won.
    Conflicted => Error, Accepted, Warn;
    /// No pod of the Services concerned is in the mesh.
    NotInMesh => Warning, Nothing, Pass;
    /// Some pods of a Service are not in the mesh and are left out.
    PartiallyInMesh => Warning, Nothing, Pass;
    /// A pod that has a proxy in a namespace that is not labelled for the mesh: it is no member.
    NamespaceNotInjected => Warning, Nothing, Pass;
    /// A pod that can leave the mesh, or lets callers pass it by.
    CanBypassSidecar => Warning, Nothing, Pass;
    /// No pod of a Service is in the mesh, and its namespace takes mTLS alone: calls are answered with 503.
    NoEndpointsInMesh => Warning, Nothing, Pass;
    /// Pods of a Service run under an account that no target names: clients refuse them.
    ServerIdentityRejected => Warning, Nothing, Pass;
    /// An address and port that another, older Service has.
    AddressConflict => Error, Accepted, Pass;
    /// Two Services disagree about what is spoken on a pod's port.
    ProtocolConflict => Warning, Nothing, Pass;
    /// A port that the proxy needs for itself.
    ReservedPort => Error, Accepted, Pass;
    /// A setting whose value means nothing; the strictest meaning holds.
    InvalidSetting => Error, Accepted, Refuse;
    /// A setting object that is not the one in use.
    NotInUse => Warning, Nothing, Warn;
    /// A field in the shape of another API version; it is understood.
    FieldFromOtherVersion => Warning, Nothing, Warn;
    /// An IdentityBinding that does not exist.
    BindingNotFound => Warning, ResolvedRefs, Warn;
    /// Labels that no certificate can vouch for: pods without them run under the same account.
    SelectorNotIdentity => Error, Accepted, Warn;
    /// An identity that is none, or of a trust domain that the mesh does not know: SMI's own examples have both.
    InvalidIdentity => Error, Accepted, Warn;
    /// A field that has no effect where it stands.
    NoEffect => Warning, Nothing, Warn;
    /// A field that the object's version does not have.
    UnknownField => Warning, Nothing, Warn;
    /// More than a tenant may make others compute, hold or send.
    BudgetExceeded => Error, Accepted, Warn;
    /// A definition of a kind of ours that would take the place of Smidge's.
    ForeignCRD => Warning, Nothing, Warn;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// How bad it is: that of `reason`.
    pub severity: Severity,
    /// Why.
    pub reason: Reason,
    /// The field at fault, for example `spec.rules[1].matches[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is so, what was expected, and what follows: one sentence without a full stop.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// A finding about `object`.
    pub fn new(object: ObjectRef, reason: Reason, message: impl Into<String>) -> Self {
        let message = plain(&in_short(message.into()));
        Self { object, severity: reason.severity(), reason, field: None, message, hint: None }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(plain(&in_short(field.into())));
        self
    }

    /// Says what to do about it.
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
    /// Errors first, then by object and field.
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

/// A text without its middle if it is too long to be read: what users wrote stands in messages, and may be a megabyte. The
/// end stays, as it says what was expected.
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

/// The beginning of what somebody from outside wrote, fit for one line of a log.
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
            "no source, so nobody may call",
        )
        .at("spec.sources")
        .hint("name a ServiceAccount");
        assert_eq!(
            finding.to_string(),
            "error: TrafficTarget shop/buy: spec.sources: no source, so nobody may call [Empty]; \
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
