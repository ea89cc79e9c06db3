//! Turns TrafficSplits into the routes of their roots' ports.
//!
//! Finds each split's root and backends, selects the splits in effect for each root, and computes the share of each
//! backend per port. A split grants nothing; `target` decides which calls are allowed. A backend is never split again.

mod matches;
mod route;
mod shares;

use std::{collections::BTreeMap, iter};

use smidge_crds::split::TrafficSplitSpec;
use smidge_mesh::{id::ServiceId, matches::Matches};

use super::{effect::LABEL_NAMESPACE, mixed};
use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    node::Node,
    value::{KubeService, Split, SplitSpec, Splits},
};

/// Returns the objects that a TrafficSplit refers to.
pub(crate) fn references((namespace, _): &Key, spec: &TrafficSplitSpec) -> Vec<ObjectRef> {
    let groups = spec.matches.iter().flatten();
    groups.map(|group| ObjectRef::new(&group.kind, namespace, &group.name)).collect()
}

/// Returns the TrafficSplit of that name, and contributes it to its root.
pub(crate) fn split_spec(key: &Key, context: &mut Context<'_>) -> Option<SplitSpec> {
    let split = context.object(|inputs| &inputs.traffic_splits)?;
    mixed::report(key, split, context);
    let object = ObjectRef::new("TrafficSplit", &key.0, &key.1);
    if split.spec.backends.is_empty() {
        let message = "no backend; the split has no effect";
        context.report_at(&object, Reason::Empty, "spec.backends", message);
        return None;
    }
    if split.spec.backends.iter().any(|backend| backend.matches.is_some()) {
        let message = "backends with matches of their own have no meaning unless all have the same; the split has no effect";
        context.report(
            Finding::new(object, Reason::NotServed, message)
                .at("spec.backends[].matches")
                .hint("write spec.matches, in one TrafficSplit for each set of requests"),
        );
        return None;
    }
    // Everything is read before the first return on an error, so that all errors are reported at once.
    let root = root(key, &split.spec.service, &object, context);
    let domain = context.cluster_domain();
    let shares = shares::read(key, &split.spec.backends, &domain, &object, context.findings());
    let matches = split.spec.matches.as_deref().map(|written| matches::read(key, written, &object, context));
    let created = split.metadata.creation_timestamp.clone();
    let is_weighted = shares.iter().any(|share| share.weight > 0);
    let root = root?;
    context.contribute_to(Node::SplitsOfRoot(root.clone()));
    context.contribute_to(Node::Splits(root.clone()));
    if matches.is_some() {
        context.contribute_to(Node::SplitsOverBudget(key.0.clone()));
    }
    Some(SplitSpec { created, split: Split { object, root, shares, is_weighted, matches } })
}

/// Returns the splits that are in effect for a root. Those with matches come first, then the oldest, then the first by
/// name; one that could take nothing which an earlier one leaves is reported.
pub(crate) fn in_effect(context: &mut Context<'_>) -> Option<Splits> {
    let mut all = Vec::new();
    for contributor in context.contributors() {
        let Node::SplitSpec(key) = &*contributor else { continue };
        all.extend(context.split_spec(key));
    }
    // Contributors are sorted by name, and sorting keeps that order among equals.
    all.sort_by_key(|it| (it.split.matches.is_none(), it.created.clone()));
    let mut taken: BTreeMap<&Matches, &Split> = BTreeMap::new();
    let mut rest: Option<&Split> = None;
    let mut splits = Vec::new();
    for split in all.iter().map(|it| &it.split) {
        let winner = match &split.matches {
            None => rest,
            Some(matches) => {
                let is_left = matches.is_empty() || matches.keys().any(|it| !taken.contains_key(it));
                let first = matches.keys().find_map(|it| taken.get(it).copied());
                first.filter(|_| !is_left)
            }
        };
        if let Some(winner) = winner {
            context.report(winner.conflict(split));
            continue;
        }
        match &split.matches {
            None => rest = Some(split),
            Some(matches) => {
                for it in matches.keys() {
                    taken.entry(it).or_insert(split);
                }
            }
        }
        splits.extend(split.applied(context));
    }
    for share in splits.iter().flat_map(|split| &split.shares) {
        context.contribute_to(Node::SplitsToService(share.service.clone()));
    }
    (!splits.is_empty()).then_some(Splits(splits))
}

/// Returns the Service that a split is about: by any of its names, else the one with the name of the split (a tool that
/// writes host names into the field names the split after the Service).
fn root(key: &Key, written: &str, object: &ObjectRef, context: &mut Context<'_>) -> Option<ServiceId> {
    let by_name = local_name(written, &key.0, &context.cluster_domain());
    let by_name = by_name.map(|name| ServiceId::new(&key.0, name));
    if let Some(root) = by_name.clone().filter(|root| context.is_service(root)) {
        return Some(root);
    }
    if let Some(root) = by_name.as_ref().filter(|root| context.is_external_name(root)) {
        let message = format!(
            "{} is an ExternalName Service, whose calls the mesh does not see; the split has no effect",
            root.name
        );
        context.report_at(object, Reason::UnsupportedService, "spec.service", message);
        return None;
    }
    let like_split = ServiceId::new(&key.0, &key.1);
    let is_there = context.is_service(&like_split);
    let (reason, then) = if is_there {
        (Reason::RootServiceInferred, format!("the Service named like the split, {}, is split", key.1))
    } else {
        (Reason::ServiceNotFound, "the split has no effect".to_owned())
    };
    let message = match &by_name {
        None if written.contains('.') => {
            format!("{written:?} is not a name of a Service in the split's own namespace, {}; {then}", key.0)
        }
        found => {
            let name = found.as_ref().map_or(written, |root| &root.name);
            format!("Service {name:?} not found in namespace {:?}; {then}", key.0)
        }
    };
    context.report_at(object, reason, "spec.service", message);
    is_there.then_some(like_split)
}

/// Returns the bare name of a Service of `namespace`, if `written` is one of its names: any number of the first labels of
/// `<name>.<namespace>.svc.<cluster domain>`, also with a final dot.
fn local_name<'w>(written: &'w str, namespace: &str, cluster_domain: &str) -> Option<&'w str> {
    let written = written.strip_suffix('.').unwrap_or(written);
    let mut labels = written.split('.');
    let name = labels.next().filter(|name| !name.is_empty())?;
    let mut domain = [namespace, "svc"].into_iter().chain(cluster_domain.split('.'));
    labels.all(|label| domain.next() == Some(label)).then_some(name)
}

impl Split {
    fn finding(&self, reason: Reason, field: &str, message: String) -> Finding {
        Finding::new(self.object.clone(), reason, message).at(field)
    }

    /// Returns the split with the backends that exist, unless it has no effect.
    fn applied(&self, context: &mut Context<'_>) -> Option<Self> {
        let ObjectRef { namespace, name, .. } = &self.object;
        // The node of the budget reports this. No other split takes its place.
        if self.matches.is_some()
            && context.splits_over_budget(namespace).contains(&(namespace.clone(), name.clone()))
        {
            return None;
        }
        let mut split = self.clone();
        split.look_up(context);
        if !split.is_in_mesh(context) {
            let finding = split.outside_mesh(context);
            context.report(finding);
            return None;
        }
        Some(split)
    }

    /// Returns the finding for another split of the same root, to which this one leaves nothing.
    fn conflict(&self, loser: &Self) -> Finding {
        let what = if loser.matches.is_some() { ", with the same matches," } else { "" };
        let message = format!(
            "{} of the same Service {}{what} is older (or first by name) and comes first; this one has no effect",
            self.object, self.root.name
        );
        loser.finding(Reason::Conflicted, "spec.service", message)
    }

    /// Removes the backends that do not exist, and reports those that are roots themselves.
    fn look_up(&mut self, context: &mut Context<'_>) {
        let shares = std::mem::take(&mut self.shares);
        for share in shares {
            let ServiceId { namespace, name } = &share.service;
            if !context.is_service(&share.service) {
                let (reason, message) = if context.is_external_name(&share.service) {
                    let message = format!("{name} is an ExternalName Service, which a split cannot send to");
                    (Reason::UnsupportedService, message)
                } else {
                    (
                        Reason::BackendNotFound,
                        format!("there is no Service {name:?} in namespace {namespace}"),
                    )
                };
                let message = format!("{message}; it gets nothing");
                context.report_at(&self.object, reason, &share.field, message);
                continue;
            }
            if share.service != self.root && context.is_root(&share.service) {
                let message = format!(
                    "{name} is the root of another split, which does not apply here: its own endpoints get the share"
                );
                context.report_at(&self.object, Reason::NestedSplit, &share.field, message);
            }
            self.shares.push(share);
        }
    }

    fn is_in_mesh(&self, context: &mut Context<'_>) -> bool {
        let backends = self.shares.iter().map(|share| &share.service);
        iter::once(&self.root).chain(backends).any(|service| context.has_members(service))
    }

    /// Returns the finding that no part of the split is in the mesh.
    fn outside_mesh(&self, context: &mut Context<'_>) -> Finding {
        let services = iter::once(&self.root).chain(self.backends());
        let has_pods = |service: &KubeService| service.has_outside();
        if services.into_iter().any(|id| context.kube_service(id).is_some_and(|it| has_pods(&it))) {
            let message = format!(
                "no pod of {} or of a backend is in the mesh, so the mesh does not see the traffic; the split has no \
                 effect",
                self.root.name
            );
            return self.finding(Reason::NotInMesh, "spec.service", message).hint(LABEL_NAMESPACE);
        }
        let message = format!("{} and its backends have no pods; the split has no effect", self.root.name);
        self.finding(Reason::NotInMesh, "spec.service", message).hint(
            "no workload matches the selectors of these Services: compare them with the labels of the pods",
        )
    }
}

/// Returns true if any endpoint can serve a port of a Service now.
fn is_ready(service: &ServiceId, port: u16, context: &mut Context<'_>) -> bool {
    context.endpoints(service).get(&port).is_some_and(|endpoints| !endpoints.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_goes_by_every_name_up_to_the_full_one() {
        for written in [
            "web",
            "web.shop",
            "web.shop.svc",
            "web.shop.svc.cluster",
            "web.shop.svc.cluster.local",
            "web.shop.svc.cluster.local.",
        ] {
            assert_eq!(local_name(written, "shop", "cluster.local"), Some("web"), "{written}");
        }
        for written in [
            "",
            ".shop",
            "web.other",
            "web.shop.svc.example.org",
            "web.example.org",
            "web.shop.cluster.local",
            "web.shop.svc.cluster.local.com",
            "web..svc",
        ] {
            assert_eq!(local_name(written, "shop", "cluster.local"), None, "{written}");
        }
    }
}
