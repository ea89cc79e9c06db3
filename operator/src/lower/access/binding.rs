//! Reads IdentityBindings: the ServiceAccounts that each stands for.
//!
//! A proxy knows its peer by the ServiceAccount in the peer's certificate, and labels are in no certificate. So a
//! selector stands for an account only while every pod of the account has the labels; else one pod without them would
//! get what was meant for the others.

use std::collections::{BTreeMap, BTreeSet};

use smidge_crds::access::IdentityBinding;
use smidge_xds::mesh::id::SpiffeId;

use super::super::workload;
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// The identities that each binding stands for.
pub(in crate::lower) type Bindings<'a> = BTreeMap<&'a Key, BTreeSet<SpiffeId>>;

/// A pod's name and labels.
type Labelled<'a> = (&'a str, Option<&'a BTreeMap<String, String>>);

/// The pods of every account, by namespace and account.
type Accounts<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<Labelled<'a>>>>;

/// Every binding of a cluster.
pub(in crate::lower) fn read<'a>(inputs: &'a Inputs, findings: &mut Vec<Finding>) -> Bindings<'a> {
    let selects = |binding: &IdentityBinding| binding.spec.schemes.pod_label_selector.is_some();
    let is_asked = inputs.identity_bindings.values().any(|binding| selects(binding));
    let accounts = if is_asked { accounts(inputs) } else { Accounts::new() };
    let bindings = inputs.identity_bindings.iter();
    bindings
        .map(|(key, binding)| {
            let object = ObjectRef::new("IdentityBinding", &key.0, &key.1);
            let mut reader = Reader { key, object, inputs, accounts: &accounts, findings };
            (key, reader.read(binding))
        })
        .collect()
}

fn accounts(inputs: &Inputs) -> Accounts<'_> {
    let mut accounts = Accounts::new();
    for ((namespace, name), pod) in inputs.pods.iter().filter(|(_, pod)| !workload::has_ended(pod)) {
        let pods = accounts.entry(namespace).or_default().entry(workload::account(pod)).or_default();
        pods.push((name, pod.metadata.labels.as_ref()));
    }
    accounts
}

/// Reads one binding.
struct Reader<'a> {
    key: &'a Key,
    object: ObjectRef,
    inputs: &'a Inputs,
    accounts: &'a Accounts<'a>,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn found(&mut self, reason: Reason, field: &str, message: impl Into<String>) {
        let at = if field.is_empty() { "spec.schemes".to_owned() } else { format!("spec.schemes.{field}") };
        self.findings.push(Finding::new(self.object.clone(), reason, message).at(at));
    }

    fn read(&mut self, binding: &IdentityBinding) -> BTreeSet<SpiffeId> {
        let schemes = &binding.spec.schemes;
        let mut identities = BTreeSet::new();
        if schemes.pod_label_selector.is_some() && schemes.service_account.is_some() {
            let message =
                "podLabelSelector and serviceAccount exclude each other; the binding stands for nobody";
            self.found(Reason::InvalidIdentity, "", message);
            return identities;
        }
        if let Some(account) = &schemes.service_account {
            if account.is_empty() {
                self.found(Reason::Empty, "serviceAccount", "no name, so it stands for nobody");
            } else {
                identities.insert(self.own(account));
            }
        }
        if let Some(selector) = &schemes.pod_label_selector {
            identities.extend(self.selected(&selector.match_labels));
        }
        for (index, written) in schemes.spiffe_identities.iter().flatten().enumerate() {
            identities.extend(self.spiffe(index, written));
        }
        let listed = schemes.spiffe_identities.as_ref();
        let is_silent = schemes.pod_label_selector.is_none() && schemes.service_account.is_none();
        if is_silent && listed.is_none_or(Vec::is_empty) {
            self.found(Reason::Empty, "", "no scheme, so the binding stands for nobody");
        }
        identities
    }

    /// An account of the binding's own namespace.
    fn own(&self, account: &str) -> SpiffeId {
        SpiffeId {
            trust_domain: self.inputs.trust_domain.clone(),
            namespace: self.key.0.clone(),
            service_account: account.to_owned(),
        }
    }

    fn selected(&mut self, labels: &BTreeMap<String, String>) -> BTreeSet<SpiffeId> {
        const FIELD: &str = "podLabelSelector.matchLabels";
        let mut identities = BTreeSet::new();
        if labels.is_empty() {
            self.found(Reason::Empty, FIELD, "no label, so it stands for nobody");
            return identities;
        }
        let matches = |(_, own): &Labelled<'_>| {
            own.is_some_and(|own| labels.iter().all(|(name, value)| own.get(name) == Some(value)))
        };
        let mut is_any_selected = false;
        let accounts = self.accounts;
        for (account, pods) in accounts.get(self.key.0.as_str()).into_iter().flatten() {
            if !pods.iter().any(matches) {
                continue;
            }
            is_any_selected = true;
            match pods.iter().find(|pod| !matches(pod)) {
                None => {
                    identities.insert(self.own(account));
                }
                Some((other, _)) => {
                    let message = format!(
                        "pod {other} runs under ServiceAccount {account} without these labels, and labels are in no \
                         certificate: the account is not taken"
                    );
                    let finding = Finding::new(self.object.clone(), Reason::LabelsNotIdentity, message)
                        .at(format!("spec.schemes.{FIELD}"))
                        .hint("give the pods with the labels a ServiceAccount of their own");
                    self.findings.push(finding);
                }
            }
        }
        if !is_any_selected {
            let message =
                format!("no pod in namespace {} has these labels, so it stands for nobody", self.key.0);
            self.found(Reason::NoEffect, FIELD, message);
        }
        identities
    }

    fn spiffe(&mut self, index: usize, written: &str) -> Option<SpiffeId> {
        const SCHEME: &str = "spiffe://";
        let full =
            if written.starts_with(SCHEME) { written.to_owned() } else { format!("{SCHEME}{written}") };
        let domain = &self.inputs.trust_domain;
        let identity = full.parse::<SpiffeId>().ok().filter(|identity| identity.trust_domain == *domain);
        if identity.is_none() {
            let message = format!(
                "{written:?} is no identity of this mesh: expected {SCHEME}{domain}/ns/<namespace>/sa/<service account>; \
                 it stands for nobody"
            );
            self.found(Reason::InvalidIdentity, &format!("spiffeIdentities[{index}]"), message);
        }
        identity
    }
}
