//! What is wrong with an object, in words for its owner.
//!
//! Made by `lower` (and by whoever reads objects), told by `report`, `/debug/findings` and `smidge check`. A finding
//! never stops anything: it says what an object means less than it states, or what it still waits for.

use std::{cmp::Ordering, fmt};

use serde::Serialize;

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
    ($($(#[$doc:meta])* $name:ident => $severity:ident,)*) => {
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
        }
    };
}

reasons! {
    /// The definition of a kind is not installed: its list counts as empty.
    KindAbsent => Warning,
    /// The object does not have the shape of its kind; it has no effect.
    Malformed => Error,
    /// An API version, a kind or a field that this version of Smidge does not serve yet.
    NotServed => Error,
    /// A rule or a subject of a kind that nobody knows.
    UnknownKind => Error,
    /// A list that must say something is empty.
    Empty => Error,
    /// A target for a destination in another namespace.
    ForeignNamespace => Error,
    /// A route object that does not exist.
    RouteNotFound => Warning,
    /// A match name that its group does not have.
    MatchNotFound => Warning,
    /// An expression that the proxies must not be given.
    InvalidRegex => Error,
    /// A method that no request can have.
    InvalidMethod => Error,
    /// A header that cannot be matched.
    InvalidHeader => Error,
    /// A port outside 1 to 65535.
    InvalidPort => Error,
    /// A weight that is no whole number from 0 on.
    InvalidWeight => Error,
    /// An expression whose meaning depends on `pathRegexEnd`, which nobody has set.
    PathEndUnstated => Warning,
    /// The Service of a split's root does not exist.
    ServiceNotFound => Warning,
    /// The root names no Service, so the Service named like the split is taken.
    RootByName => Warning,
    /// A backend that does not exist.
    BackendNotFound => Warning,
    /// A backend without a port of the root.
    BackendLacksPort => Warning,
    /// A backend whose share is answered with 503, as no endpoint of it is ready in the mesh.
    BackendNotReady => Warning,
    /// All weights are 0.
    AllWeightsZero => Warning,
    /// A backend is the root of another split, which does not apply here.
    NestedSplit => Warning,
    /// Another object of the same kind has won.
    Conflicted => Error,
    /// No pod of the Services concerned is in the mesh.
    OutsideMesh => Warning,
    /// Some pods of a Service are not in the mesh and are left out.
    MixedService => Warning,
    /// Pods of a Service run under an account that no target names: clients refuse them.
    IdentityRefused => Warning,
    /// An address and port that another, older Service has.
    AddressTaken => Error,
    /// Two Services disagree about what is spoken on a pod's port.
    ProtocolConflict => Warning,
    /// A port that the proxy needs for itself.
    ReservedPort => Error,
    /// A setting whose value means nothing; the strictest meaning holds.
    InvalidSetting => Error,
    /// A setting object that is not the one in use.
    NotInUse => Warning,
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
        Self { object, severity: reason.severity(), reason, field: None, message: message.into(), hint: None }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
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
    fn errors_sort_before_warnings() {
        let object = ObjectRef::new("A", "a", "a");
        let warning = Finding::new(object, Reason::RouteNotFound, "w");
        let error = Finding::new(ObjectRef::new("Z", "z", "z"), Reason::Empty, "e");
        assert!(error < warning);
    }
}
