//! Shares of the traffic for a Service, straight from the rulings (design §6, `docs/smi.md`), read from the objects as
//! users write them.
//!
//! Like `reference` for access: independent of `lower`, of the mesh model and of Envoy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::differential::{
    generated::SHOP,
    path,
    reference::{Http, Smi, list, text},
};

/// The Service that answers, or none.
pub type Who = Option<String>;
/// The part of the traffic that each Service gets; the parts add up to one.
pub type Shares = BTreeMap<Who, f64>;

/// The objects of a generated cluster, as its caller meets them.
#[derive(Clone, Copy)]
pub struct Scenario<'a>(pub &'a [Value]);

impl<'a> Scenario<'a> {
    /// Returns the shares of calls to a port of a Service. `http` is the request, if there is one.
    pub fn shares(self, called: &str, port: u16, http: Option<&Http>) -> Shares {
        let Some(split) = self.taker(called, http) else {
            return BTreeMap::from([(self.server(called, port), 1.0)]);
        };
        let mut shares = Shares::new();
        let mut sum = 0.0;
        for backend in list(split, "/spec/backends") {
            let name = text(backend, "/service");
            // A backend that does not exist, or not at this port, takes no part.
            if self.port(name, port).is_none() {
                continue;
            }
            let weight = weight(&backend["weight"]);
            sum += weight;
            if weight > 0.0 {
                *shares.entry(self.server(name, port)).or_default() += weight;
            }
        }
        if shares.is_empty() {
            return BTreeMap::from([(None, 1.0)]);
        }
        shares.into_iter().map(|(who, share)| (who, share / sum)).collect()
    }

    /// Returns the split of a Service that takes a request, or a connection: the first one that it meets.
    pub fn taker(self, called: &str, http: Option<&Http>) -> Option<&'a Value> {
        let is_met = |split: &Value| {
            split["spec"].get("matches").is_none() || http.is_some_and(|http| self.is_met(split, http))
        };
        self.splits(called).into_iter().find(|split| is_met(split))
    }

    /// Returns the splits of a Service in their order: those with matches first, then the oldest, then by name.
    pub fn splits(self, called: &str) -> Vec<&'a Value> {
        let all = Smi(self.0).of_kind("TrafficSplit");
        let of_it = all.filter(|split| {
            text(split, "/metadata/namespace") == SHOP
                && !list(split, "/spec/backends").is_empty()
                && self.root(split) == Some(called)
        });
        let mut sorted: Vec<&Value> = of_it.collect();
        sorted.sort_by_key(|split| {
            let age = text(split, "/metadata/creationTimestamp");
            (split["spec"].get("matches").is_none(), age, text(split, "/metadata/name"))
        });
        sorted
    }

    /// Returns the Service that a split is about: by one of its names, else the one named like the split.
    fn root(self, split: &'a Value) -> Option<&'a str> {
        let written = text(split, "/spec/service");
        let endings = ["", ".shop", ".shop.svc", ".shop.svc.cluster.local", ".shop.svc.cluster.local."];
        let names = endings.iter().filter_map(|ending| written.strip_suffix(ending));
        let by_name = names.filter(|name| self.service(name).is_some()).min_by_key(|name| name.len());
        by_name.or_else(|| Some(text(split, "/metadata/name")).filter(|name| self.service(name).is_some()))
    }

    /// Returns true if a request meets any match of any group that a split lists.
    fn is_met(self, split: &Value, http: &Http) -> bool {
        let Some((path, _)) = path::normal(&http.target) else { return false };
        list(split, "/spec/matches").iter().any(|reference| {
            let group = text(reference, "/apiGroup");
            let is_known = text(reference, "/kind") == "HTTPRouteGroup"
                && (group.is_empty() || group.split('/').next() == Some("specs.smi-spec.io"));
            let smi = Smi(self.0);
            let group = smi.find("HTTPRouteGroup", SHOP, text(reference, "/name")).filter(|_| is_known);
            group.is_some_and(|group| {
                list(group, "/spec/matches").iter().any(|it| smi.is_met(it, &path, http))
            })
        })
    }

    /// Returns the Service itself, or none if no pod serves the port now.
    fn server(self, service: &str, port: u16) -> Who {
        (!self.endpoints(service, port).is_empty()).then(|| service.to_owned())
    }

    /// Returns the addresses that serve a port of a Service: ready pods of the mesh.
    pub fn endpoints(self, service: &str, port: u16) -> BTreeSet<String> {
        let Some(written) = self.port(service, port) else { return BTreeSet::new() };
        let selector = self.service(service).and_then(|it| it["spec"]["selector"].as_object());
        let pods = Smi(self.0).of_kind("Pod").filter(|pod| {
            let labels = &pod["metadata"]["labels"];
            let is_selected = selector.is_some_and(|all| {
                !all.is_empty() && all.iter().all(|(name, value)| labels.get(name) == Some(value))
            });
            is_selected
                && labels.get("smidge.mesh/inject").is_none()
                && text(pod, "/status/conditions/0/status") != "False"
        });
        let target = &written["targetPort"];
        pods.filter_map(|pod| {
            let mut named = list(pod, "/spec/containers/0/ports").iter();
            let number = match target.as_str() {
                None => target.as_u64(),
                Some(name) => named.find(|it| text(it, "/name") == name)?["containerPort"].as_u64(),
            };
            Some(format!("{}:{}", text(pod, "/status/podIP"), number?))
        })
        .collect()
    }

    fn service(self, name: &str) -> Option<&'a Value> {
        Smi(self.0).find("Service", SHOP, name)
    }

    pub fn port(self, service: &str, number: u16) -> Option<&'a Value> {
        let ports = self.service(service).map_or(&[][..], |it| list(it, "/spec/ports"));
        ports.iter().find(|it| it["port"].as_u64() == Some(u64::from(number)))
    }

    /// Returns the address of a Service.
    pub fn address(self, service: &str) -> &'a str {
        self.service(service).map_or("", |it| text(it, "/spec/clusterIP"))
    }
}

/// Value of a weight: a number, or a quantity as in the first version. Anything else counts as 0.
fn weight(written: &Value) -> f64 {
    let number = match written.as_str() {
        None => written.as_f64(),
        Some(text) => match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse().ok().map(|number: f64| number / 1000.0),
            None => text.parse().ok(),
        },
    };
    number.filter(|number| *number > 0.0).unwrap_or(0.0)
}
