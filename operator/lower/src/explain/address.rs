//! Follows a call to the own addresses of pods: through the Service that owns the address and port, or past the mesh in
//! plaintext.
//!
//! The members of a headless Service, a workload and an account are called in this way. Part of `target`, which follows
//! the call from a Service on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_mesh::{
    access::MtlsMode,
    id::{ClassId, ServiceId, SpiffeId},
    service::{Server, Service, ServicePort},
    workload::Class,
};

use super::{
    Destination, QueryError, Share,
    inbound::Way,
    instances::Instance,
    target::{Call, outside, to_pods},
};

/// A port of a headless Service, and the classes of its pods that are dialled.
type Members<'a> = (&'a Service, &'a ServicePort, BTreeMap<&'a ClassId, &'a Class>);

impl<'a> Call<'a> {
    /// Returns the headless Services that own the addresses of pods at a port, for callers with a proxy.
    fn owners(&self, number: u16) -> Vec<(&'a Service, &'a ServicePort)> {
        let services = self.arrival.mesh.services.values().filter(|_| self.is_meshed());
        let ports = services.filter_map(|it| Some((it.as_ref(), it.ports.get(&number)?)));
        ports.filter(|(_, port)| port.exact).collect()
    }

    /// Follows a call to pods by their own addresses: through the Service that owns the address and port, or past the
    /// mesh.
    pub fn pods(&mut self, pods: &[Instance<'_>], number: u16, shares: &mut Vec<Share>) {
        let owners = self.owners(number);
        let mut through: BTreeMap<&ServiceId, Members<'_>> = BTreeMap::new();
        let mut plain: BTreeMap<&ClassId, &Class> = BTreeMap::new();
        let (mut has_outside, mut has_plain_pod) = (false, false);
        for pod in pods {
            let Some((id, class)) = pod.class else {
                has_outside = true;
                continue;
            };
            let owner = owners.iter().find(|owner| owns(**owner, std::slice::from_ref(pod)));
            if let Some((service, port)) = owner {
                let members = through.entry(&service.id);
                members.or_insert_with(|| (service, port, BTreeMap::new())).2.insert(id, class);
            } else {
                has_plain_pod |= !pod.addresses.is_empty();
                plain.insert(id, class);
            }
        }
        for (service, port, members) in through.into_values() {
            let classes: Vec<&Class> = members.into_values().collect();
            self.port(service, number, port, &classes, shares);
        }
        let mut destinations: Vec<Destination> =
            plain.values().map(|class| self.arrival.destination(class, number, Way::Plain)).collect();
        destinations.dedup();
        if !destinations.is_empty() {
            shares.push(to_pods(number, destinations));
            if self.is_meshed() {
                let identities = plain.values().map(|class| &class.identity).collect();
                self.note_plaintext(&identities, number, has_plain_pod);
            }
        }
        if has_outside {
            shares.push(outside(number));
            self.notes.push(format!("some pods of {} are outside the mesh: calls to them pass", self.goal));
        }
    }

    /// Notes the reason for which a call to a pod's own address is outside the mesh, and the remedy. A headless Service
    /// leads to pods only, not to ExternalWorkloads.
    fn note_plaintext(&mut self, identities: &BTreeSet<&SpiffeId>, number: u16, are_pods: bool) {
        let through: BTreeSet<String> = self
            .leading_to(|server| identities.contains(&server.identity) && server.port == number)
            .map(|(service, port, _)| format!("port {port} of Service {}", service.id))
            .collect();
        let remedy = match (through.first(), are_pods) {
            (Some(service), true) => {
                format!("call {service} instead, or add a headless Service that lists port {number}")
            }
            (Some(service), false) => format!("call {service} instead"),
            (None, true) => {
                format!("add a headless Service that lists port {number}, or a Service for calls to any pod")
            }
            (None, false) => "add a Service with a cluster IP that selects it".to_owned(),
        };
        self.notes.push(if are_pods {
            format!(
                "no headless Service lists port {number} for {}, so no call to the pods' own addresses at this port is \
                 part of the mesh: {remedy}",
                self.goal
            )
        } else {
            format!(
                "no call to the own address of an ExternalWorkload such as {} is part of the mesh: {remedy}",
                self.goal
            )
        });
    }

    /// Returns the ports of Services that lead to some servers, each with its number.
    fn leading_to<'b>(
        &'b self,
        is_one: impl Fn(&Server) -> bool + 'b,
    ) -> impl Iterator<Item = (&'b Service, u16, &'b ServicePort)> {
        let ports = |service: &'b Arc<Service>| {
            service.ports.iter().map(|(number, port)| (service.as_ref(), *number, port))
        };
        let all = self.arrival.mesh.services.values().flat_map(ports);
        all.filter(move |(_, number, port)| {
            port.servers.iter().any(|server| is_one(server) && (!port.exact || server.port == *number))
        })
    }

    pub fn workload(&mut self, pods: &[Instance<'_>], asked: Option<u16>) -> Result<Vec<Share>, QueryError> {
        let classes: Vec<&Class> = pods.iter().filter_map(|pod| Some(pod.class?.1)).collect();
        let mut shares = Vec::new();
        // A split of a headless Service may answer at a port that the pods do not have.
        if let Some(port) = asked.filter(|port| self.owners(*port).into_iter().any(|owner| owns(owner, pods)))
        {
            self.pods(pods, port, &mut shares);
            return Ok(shares);
        }
        for port in self.wanted(&classes, asked)? {
            let has_it = |pod: &&Instance<'_>| pod.class.is_some_and(|(_, class)| has_port(class, port));
            let those: Vec<Instance<'_>> = pods.iter().filter(has_it).cloned().collect();
            self.pods(&those, port, &mut shares);
        }
        Ok(shares)
    }

    /// Follows a call to the workloads of an account, through whatever Service leads to them.
    pub fn account(&mut self, classes: &[&Class], asked: Option<u16>) -> Result<Vec<Share>, QueryError> {
        let mut shares = Vec::new();
        for number in self.wanted(classes, asked)? {
            let mut destinations = Vec::new();
            let mut plain = BTreeSet::new();
            for class in classes.iter().filter(|class| has_port(class, number)) {
                let is_it = |server: &Server| server.identity == class.identity && server.port == number;
                let ways: BTreeSet<Way> =
                    self.leading_to(is_it).map(|(_, _, port)| Way::Mesh(port.protocol)).collect();
                if ways.is_empty() || !self.is_meshed() {
                    plain.insert(&class.identity);
                    destinations.push(self.arrival.destination(class, number, Way::Plain));
                } else {
                    destinations.extend(ways.iter().map(|way| self.arrival.destination(class, number, *way)));
                }
            }
            destinations.dedup();
            shares.push(to_pods(number, destinations));
            if !plain.is_empty() && self.is_meshed() {
                self.note_plaintext(&plain, number, true);
            }
        }
        Ok(shares)
    }

    /// Returns the ports that a question about some classes covers.
    fn wanted(&self, classes: &[&Class], asked: Option<u16>) -> Result<BTreeSet<u16>, QueryError> {
        let ports: BTreeSet<u16> = classes.iter().flat_map(|class| class.ports.keys().copied()).collect();
        match asked {
            None if ports.is_empty() => Err(QueryError::NoPort(self.goal.to_owned())),
            None => Ok(ports),
            Some(port) if classes.iter().any(|class| has_port(class, port)) => Ok(BTreeSet::from([port])),
            Some(port) => {
                let ports = ports.iter().map(ToString::to_string).collect();
                Err(QueryError::Port { what: self.goal.to_owned(), port, ports })
            }
        }
    }
}

/// Returns true if a port of a headless Service owns the address of any of the pods.
fn owns((_, port): (&Service, &ServicePort), pods: &[Instance<'_>]) -> bool {
    pods.iter().any(|pod| !port.addresses.is_disjoint(&pod.addresses))
}

/// Returns true if the workload declares a port, or if ports that are not declared pass as well.
fn has_port(class: &Class, port: u16) -> bool {
    class.ports.contains_key(&port) || (!class.access.is_enforced() && class.mtls == MtlsMode::Permissive)
}
