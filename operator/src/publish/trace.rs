//! Spans of a publication, from the first change that it includes to the notification of proxies.
//!
//! Used by `publish`. A batch that changes nothing but statuses has none. Counts what is done; does nothing by itself.

use smidge_xds::snapshot::Snapshot;
use tracing::{Span, field::Empty, info_span};

use crate::{
    kinds::Change,
    lower::{Lowered, Lowering},
    source::Scope,
    telemetry::{TARGET, number, value},
};

/// The spans of the next publication, once it has changes.
#[derive(Default)]
pub(super) struct Trace {
    spans: Option<Spans>,
}

struct Spans {
    change: Span,
    read: Span,
    edits: u64,
}

impl Trace {
    /// Notes an edit. The first with an effect begins the trace; it is named there.
    pub fn edited(&mut self, change: Change, scope: &Scope) {
        if change == Change::StatusOnly {
            return;
        }
        let spans = self.spans.get_or_insert_with(|| {
            let change = info_span!(
                target: TARGET,
                parent: None,
                "change",
                smidge.edits = Empty,
                smidge.first = Empty,
                smidge.outcome = Empty,
            );
            if !change.is_disabled() {
                change.record("smidge.first", value(&first(scope)));
            }
            let read = info_span!(target: TARGET, parent: &change, "read");
            Spans { change, read, edits: 0 }
        });
        spans.edits += 1;
    }

    /// Ends reading; returns the span of the publication, for what follows.
    pub fn take(&mut self) -> Span {
        let Some(Spans { change, read, edits }) = self.spans.take() else { return Span::none() };
        drop(read);
        change.record("smidge.edits", number(edits));
        change
    }
}

/// Returns the name of the first object of a scope.
fn first(scope: &Scope) -> String {
    match scope {
        Scope::Kind(kind) => format!("every {kind}"),
        Scope::Objects(objects) => match objects.first() {
            Some((kind, (namespace, name))) if namespace.is_empty() => format!("{kind} {name}"),
            Some((kind, (namespace, name))) => format!("{kind} {namespace}/{name}"),
            None => String::new(),
        },
    }
}

/// Lowers in a span of its own.
pub(super) fn lower<T>(lowering: &mut Lowering, lower: impl FnOnce(&mut Lowering) -> T) -> T {
    let span = info_span!(
        target: TARGET,
        "lower",
        smidge.services.lowered = Empty,
        smidge.nodes.recomputed = Empty,
    );
    span.in_scope(|| {
        let before = lowering.lowered();
        let lowered = lower(lowering);
        let Lowered { services, nodes, .. } = lowering.lowered();
        span.record("smidge.services.lowered", number(services.saturating_sub(before.services)));
        span.record("smidge.nodes.recomputed", number(nodes.saturating_sub(before.nodes)));
        lowered
    })
}

/// Makes a snapshot in a span of its own.
pub(super) fn publish(make: impl FnOnce() -> Snapshot) -> Snapshot {
    let span = info_span!(
        target: TARGET,
        "publish",
        smidge.services.rebuilt = Empty,
        smidge.resources.encoded = Empty,
    );
    span.in_scope(|| {
        let snapshot = make();
        let built = snapshot.resources().built();
        span.record("smidge.services.rebuilt", number(built.services));
        span.record("smidge.resources.encoded", number(built.encoded));
        snapshot
    })
}

/// Notifies proxies in a span of its own; `notify` returns their number.
pub(super) fn push(notify: impl FnOnce() -> usize) {
    let span = info_span!(target: TARGET, "push", smidge.proxies.notified = Empty);
    span.in_scope(|| span.record("smidge.proxies.notified", number(notify())));
}

/// Notes on the span of the publication whether proxies have something new.
pub(super) fn end(span: &Span, is_published: bool) {
    span.record("smidge.outcome", if is_published { "published" } else { "unchanged" });
}
