//! Pods of one Service: lists in the order of their names, as they are built from sets that have that order and are read
//! far more often than searched.
//!
//! Part of `kube_service`. All are of the Service's own namespace. Reads no object and reports nothing.

use std::{collections::HashMap, sync::Arc};

use super::MeshPod;
use crate::inputs::Key;

/// The members of a Service, each once, in the order of their names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct MeshPods(Vec<Arc<MeshPod>>);

impl MeshPods {
    /// Returns the member of that name.
    pub fn get(&self, key: &Key) -> Option<&Arc<MeshPod>> {
        let at = self.0.binary_search_by(|member| member.key.cmp(key)).ok()?;
        self.0.get(at)
    }

    /// Returns the members in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<MeshPod>> + Clone {
        self.0.iter()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the members by the names of their pods, for many searches.
    pub fn by_name(&self) -> HashMap<&str, &Arc<MeshPod>> {
        self.0.iter().map(|member| (member.key.1.as_str(), member)).collect()
    }

    /// Adds members.
    pub fn add(&mut self, members: Vec<Arc<MeshPod>>) {
        if !members.is_empty() {
            *self = std::mem::take(&mut self.0).into_iter().chain(members).collect();
        }
    }
}

impl FromIterator<Arc<MeshPod>> for MeshPods {
    fn from_iter<I: IntoIterator<Item = Arc<MeshPod>>>(members: I) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by(|one, other| one.key.cmp(&other.key));
        members.dedup_by(|one, other| one.key == other.key);
        Self(members)
    }
}

/// A member behind a port, with the member's own port.
pub(crate) type Target = (Arc<MeshPod>, u16);

/// The members behind a port, in the order of names and ports.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Targets(Vec<Target>);

impl Targets {
    /// Returns the targets in order.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.0.iter()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the ports of one pod.
    pub fn at(&self, pod: &Key) -> impl Iterator<Item = u16> {
        let start = self.0.partition_point(|(member, _)| member.key < *pod);
        let rest = self.0.iter().skip(start);
        rest.take_while(move |(member, _)| member.key == *pod).map(|(_, target)| *target)
    }
}

impl FromIterator<Target> for Targets {
    fn from_iter<I: IntoIterator<Item = Target>>(targets: I) -> Self {
        let order =
            |(one, port): &Target, (other, number): &Target| one.key.cmp(&other.key).then(port.cmp(number));
        let mut targets: Vec<Target> = targets.into_iter().collect();
        targets.sort_by(order);
        targets.dedup_by(|one, other| order(one, other).is_eq());
        Self(targets)
    }
}
