//! Resolves the names of a question to objects that exist.
//!
//! A workload is looked up in the mesh, then among the pods outside it; a Service likewise. Several objects of one name
//! count as one if the answer cannot differ, and are an error otherwise. Decides nothing about the call.

use std::{collections::BTreeSet, sync::Arc};

use smidge_mesh::{
    Mesh,
    id::{ClassId, SpiffeId},
    workload::Class,
};

use super::{
    QueryError,
    instances::{self, Called, Instance},
    question::{Subject, SubjectKind},
};
use crate::{inputs::Inputs, near::near, workload::owner};

/// Caller of a question.
#[derive(Debug)]
pub(super) struct Caller {
    /// Name, with its kind.
    pub name: String,
    /// `None` for a pod outside the mesh, which has no certificate.
    pub identity: Option<SpiffeId>,
    pub notes: Vec<String>,
}

/// Destination of a question.
#[derive(Debug)]
pub(super) struct Callee<'a> {
    /// Name, with its kind.
    pub name: String,
    pub kind: CalleeKind<'a>,
    pub notes: Vec<String>,
}

/// Object that is called.
#[derive(Debug)]
pub(super) enum CalleeKind<'a> {
    Service(Called<'a>),
    /// The instances of a workload.
    Instances(Vec<Instance<'a>>),
    /// The classes of an account.
    Account(Vec<&'a Class>),
    Outside,
}

pub(super) fn caller(mesh: &Mesh, inputs: &Inputs, party: &Subject) -> Result<Caller, QueryError> {
    if party.kind == SubjectKind::Account {
        return Ok(account(mesh, inputs, party));
    }
    let identities: BTreeSet<&SpiffeId> =
        instances(mesh, party).into_iter().map(|(identity, _)| identity).collect();
    let name = format!("workload {party}");
    let mut all = identities.into_iter();
    match (all.next(), all.next()) {
        (Some(one), None) => {
            Ok(Caller { name, identity: Some(one.clone()), notes: mixed(mesh, inputs, party) })
        }
        (Some(one), Some(other)) => {
            let candidates = [one, other].into_iter().chain(all).map(account_name).collect();
            Err(QueryError::Ambiguous { name: party.to_string(), candidates })
        }
        (None, _) if is_outside(inputs, party) => {
            let note = format!("{party} is outside the mesh: it calls in plaintext and has no identity");
            Ok(Caller { name, identity: None, notes: vec![note] })
        }
        (None, _) => Err(unknown_workload(mesh, inputs, party)),
    }
}

/// Resolves a ServiceAccount. Policy refers to names, so an account need not exist yet.
fn account(mesh: &Mesh, inputs: &Inputs, party: &Subject) -> Caller {
    let identity = SpiffeId {
        trust_domain: inputs.trust_domain.clone(),
        namespace: party.namespace.clone(),
        service_account: party.name.clone(),
    };
    let accounts: BTreeSet<&SpiffeId> = mesh.workloads.values().map(|workload| &workload.identity).collect();
    let mut notes = Vec::new();
    if !accounts.contains(&identity) {
        let known: Vec<String> =
            accounts.iter().map(|id| format!("{}/{}", id.namespace, id.service_account)).collect();
        let near = near(&party.to_string(), known.iter().map(String::as_str));
        let there =
            if near.is_empty() { String::new() } else { format!("; some run as {}", near.join(", ")) };
        notes.push(format!("no workload of the mesh runs as {party}{there}"));
    }
    Caller { name: format!("sa:{party}"), identity: Some(identity), notes }
}

pub(super) fn called<'a>(mesh: &'a Mesh, inputs: &Inputs, party: &Subject) -> Result<Callee<'a>, QueryError> {
    let key = (party.namespace.clone(), party.name.clone());
    let is_service = matches!(party.kind, SubjectKind::Service | SubjectKind::Any);
    let aliased = instances::aliased(inputs, &key);
    let of_key = aliased.as_ref().unwrap_or(&key);
    if let Some(called) = instances::called(mesh, inputs, of_key).filter(|_| is_service) {
        let mut notes = Vec::new();
        if aliased.is_some() {
            notes.push(format!("Service {party} is an alias of Service {}", called.id));
        }
        if party.kind == SubjectKind::Any && !instances(mesh, party).is_empty() {
            notes
                .push(format!("the Service is meant; workload:{party} asks about the workload of that name"));
        }
        let name = format!("Service {}", called.id);
        return Ok(Callee { name, kind: CalleeKind::Service(called), notes });
    }
    match party.kind {
        SubjectKind::Service => {
            let known: Vec<String> =
                inputs.services.keys().map(|key| format!("{}/{}", key.0, key.1)).collect();
            let near = near(&party.to_string(), known.iter().map(String::as_str));
            Err(QueryError::Unknown { what: "Service", name: party.to_string(), near })
        }
        SubjectKind::Account => called_account(mesh, party),
        SubjectKind::Workload | SubjectKind::Any => called_workload(mesh, inputs, party),
    }
}

fn called_account<'a>(mesh: &'a Mesh, party: &Subject) -> Result<Callee<'a>, QueryError> {
    let is_it = |id: &SpiffeId| id.namespace == party.namespace && id.service_account == party.name;
    let classes: Vec<&Class> =
        mesh.classes.values().map(Arc::as_ref).filter(|class| is_it(&class.identity)).collect();
    if classes.is_empty() {
        let known: Vec<String> = mesh
            .classes
            .values()
            .map(|class| format!("{}/{}", class.identity.namespace, class.identity.service_account))
            .collect();
        let near = near(&party.to_string(), known.iter().map(String::as_str));
        let what = "workload in the mesh that runs as";
        return Err(QueryError::Unknown { what, name: party.to_string(), near });
    }
    let name = format!("sa:{party}");
    Ok(Callee { name, kind: CalleeKind::Account(classes), notes: Vec::new() })
}

fn called_workload<'a>(mesh: &'a Mesh, inputs: &Inputs, party: &Subject) -> Result<Callee<'a>, QueryError> {
    let mut pods: Vec<Instance<'_>> = Vec::new();
    let mut kinds = BTreeSet::new();
    for (_, id) in instances(mesh, party) {
        kinds.extend(mesh.workloads.get(id).map(|workload| workload.kind.as_str()));
        pods.extend(instances::of_proxy(mesh, inputs, id));
    }
    let classes: BTreeSet<&ClassId> = pods.iter().filter_map(|pod| Some(pod.class?.0)).collect();
    if kinds.len() > 1 && classes.len() > 1 {
        let candidates = kinds.into_iter().map(|kind| format!("the {kind}")).collect();
        return Err(QueryError::Ambiguous { name: party.to_string(), candidates });
    }
    let name = format!("workload {party}");
    if !pods.is_empty() {
        let notes = mixed(mesh, inputs, party);
        return Ok(Callee { name, kind: CalleeKind::Instances(pods), notes });
    }
    if is_outside(inputs, party) {
        Ok(Callee { name, kind: CalleeKind::Outside, notes: Vec::new() })
    } else {
        Err(unknown(mesh, inputs, party))
    }
}

/// Returns the instances of a name, either that of their workload or their own.
fn instances<'a>(mesh: &'a Mesh, party: &Subject) -> Vec<(&'a SpiffeId, &'a smidge_mesh::id::ProxyId)> {
    let all = mesh.workloads.iter().filter(|(id, _)| id.namespace == party.namespace);
    let is_it = |id: &smidge_mesh::id::ProxyId, name: &str| name == party.name || id.instance == party.name;
    all.filter(|(id, workload)| is_it(id, &workload.name)).map(|(id, it)| (&it.identity, id)).collect()
}

/// Returns true if a pod has the name. Members of the mesh are not excluded: the caller of this function has already
/// looked for them.
fn is_outside(inputs: &Inputs, party: &Subject) -> bool {
    inputs.pods.iter().any(|((namespace, pod), it)| {
        *namespace == party.namespace && (*pod == party.name || owner(it).1 == party.name)
    })
}

/// Returns a note about a workload of which only some pods are in the mesh, which is a state of transition.
fn mixed(mesh: &Mesh, inputs: &Inputs, party: &Subject) -> Vec<String> {
    let pods = inputs.pods.iter().filter(|((namespace, _), _)| *namespace == party.namespace);
    let pods = pods.filter(|(_, pod)| owner(pod).1 == party.name).count();
    let is_it =
        |id: &smidge_mesh::id::ProxyId, name: &str| id.namespace == party.namespace && name == party.name;
    let inside = mesh.workloads.iter().filter(|(id, workload)| is_it(id, &workload.name)).count();
    let outside = pods.saturating_sub(inside);
    if outside == 0 {
        return Vec::new();
    }
    vec![format!("{outside} of the pods of {party} are outside the mesh; the answer is about the others")]
}

fn account_name(identity: &SpiffeId) -> String {
    format!("sa:{}/{}", identity.namespace, identity.service_account)
}

fn unknown_workload(mesh: &Mesh, inputs: &Inputs, party: &Subject) -> QueryError {
    let names = workload_names(mesh, inputs);
    let near = near(&party.to_string(), names.iter().map(String::as_str));
    QueryError::Unknown { what: "workload", name: party.to_string(), near }
}

fn unknown(mesh: &Mesh, inputs: &Inputs, party: &Subject) -> QueryError {
    let mut names = workload_names(mesh, inputs);
    let what = if party.kind == SubjectKind::Any {
        names.extend(inputs.services.keys().map(|key| format!("{}/{}", key.0, key.1)));
        "Service or workload"
    } else {
        "workload"
    };
    let near = near(&party.to_string(), names.iter().map(String::as_str));
    QueryError::Unknown { what, name: party.to_string(), near }
}

fn workload_names(mesh: &Mesh, inputs: &Inputs) -> BTreeSet<String> {
    let inside = mesh.workloads.iter().map(|(id, it)| format!("{}/{}", id.namespace, it.name));
    inside.chain(inputs.pods.iter().map(|(key, pod)| format!("{}/{}", key.0, owner(pod).1))).collect()
}
