//! Mesh that grows: computes the objects that each step adds.
//!
//! Used by `growth`. Pure. Services come in blocks of ten that call each other, so ten Services call each one at every
//! size, and a step changes no object that was created before. Only the first Service is special: it has ten pods, and
//! only the second Service, which has ten pods as well, may call it. A change there concerns ten proxies at every size.

use crate::shape::{self, CALLERS, Object, Shape};

/// Service whose endpoint changes, and the one that calls it.
pub const CALLEE: usize = 0;
const CALLER: usize = 1;
/// Number of pods of each of these two, at every size.
pub const RECEIVERS: usize = 10;

/// Mesh at its current size.
#[derive(Debug, Default)]
pub struct Mesh {
    /// Number of pods of each Service.
    pods: Vec<usize>,
    /// All pods, in the order in which they were created.
    made: Vec<(usize, usize)>,
}

impl Mesh {
    pub fn services(&self) -> usize {
        self.pods.len()
    }

    pub fn endpoints(&self) -> usize {
        self.made.len()
    }

    /// Returns the objects that make it a mesh of `services` Services with `pods` pods each.
    pub fn grow(&mut self, services: usize, pods: usize) -> Vec<Object> {
        let before = self.services();
        let mut objects = shape::namespaces(before, services);
        for number in before..services {
            let block = number / CALLERS * CALLERS;
            let callers: Vec<usize> = match number {
                CALLEE => vec![CALLER],
                _ => (block..(block + CALLERS).min(services)).collect(),
            };
            objects.push(shape::service(number));
            objects.push(shape::target(number, &callers));
            self.pods.push(0);
        }
        for (number, has) in self.pods.iter_mut().enumerate() {
            let wanted = if number <= CALLER { RECEIVERS } else { pods };
            let mut added = Vec::new();
            for pod in *has..wanted {
                let address = shape::address(self.made.len());
                objects.push(shape::pod(number, pod, &address));
                self.made.push((number, pod));
                added.push((pod, address));
            }
            objects.extend(shape::slices(number, &added));
            *has = wanted.max(*has);
        }
        objects
    }

    /// Returns the pods whose proxies are connected, as Service and pod; the ten receivers come first.
    pub fn slots(&self) -> Vec<(usize, usize)> {
        let mut slots = self.made.clone();
        slots.sort_by_key(|(service, pod)| (*service != CALLER, *pod, *service));
        slots
    }

    /// Returns namespace and name of a pod.
    pub fn name((service, pod): (usize, usize)) -> (String, String) {
        (Shape::namespace(service), Shape::pod(service, pod))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_mesh_that_has_grown_is_the_mesh_that_was_made_at_once() {
        let key = |object: Object| (object.kind, object.namespace, object.name);
        let names = |objects: Vec<Object>| objects.into_iter().map(key).collect::<Vec<_>>();
        let (mut grown, mut whole) = (Mesh::default(), Mesh::default());
        let mut steps = names(grown.grow(10, 1));
        steps.extend(names(grown.grow(120, 1)));
        steps.extend(names(grown.grow(120, 12)));
        let all: BTreeSet<_> = steps.iter().cloned().collect();
        assert_eq!(all.len(), steps.len(), "no object is made twice");
        let at_once: BTreeSet<_> = names(whole.grow(120, 12)).into_iter().collect();
        // A step that adds pods adds separate slices.
        let slices = |(kind, ..): &&(&str, String, String)| *kind != "EndpointSlice";
        assert_eq!(
            all.iter().filter(slices).collect::<Vec<_>>(),
            at_once.iter().filter(slices).collect::<Vec<_>>()
        );
        assert_eq!(grown.slots(), whole.slots());
        assert_eq!((grown.services(), grown.endpoints()), (120, 118 * 12 + 20));
    }

    #[test]
    fn the_receivers_sit_first() {
        let mut mesh = Mesh::default();
        mesh.grow(10, 2);
        let slots: Vec<usize> = mesh.slots().into_iter().map(|(service, _)| service).collect();
        assert!(slots.iter().take(RECEIVERS).all(|service| *service == CALLER));
        assert!(slots.iter().skip(RECEIVERS).all(|service| *service != CALLER));
    }
}
