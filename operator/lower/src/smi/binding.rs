//! Reads IdentityBindings: the ServiceAccounts that each resolves to.
//!
//! A proxy knows its peer by the ServiceAccount in the peer's certificate, and labels are in no certificate. So a
//! selector resolves to an account only while every pod of the account has the labels; else one pod without them would
//! get what was meant for the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_crds::access::IdentityBinding;
use smidge_mesh::id::SpiffeId;

use crate::{
    context::Context,
    cost,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    value::KubePod,
};

/// Returns the identities that the IdentityBinding of that name resolves to.
pub(crate) fn binding(key: &Key, context: &mut Context<'_>) -> Option<BTreeSet<Arc<SpiffeId>>> {
    let binding = context.object(|inputs| &inputs.identity_bindings)?;
    let object = ObjectRef::new("IdentityBinding", &key.0, &key.1);
    let mut reader = Reader { key, object, context };
    let identities = reader.read(binding);
    Some(reader.within_budget(identities))
}

/// Reads one binding.
struct Reader<'a, 'l> {
    key: &'a Key,
    object: ObjectRef,
    context: &'a mut Context<'l>,
}

impl Reader<'_, '_> {
    fn report(&mut self, reason: Reason, field: &str, message: impl Into<String>) {
        let at = if field.is_empty() { "spec.schemes".to_owned() } else { format!("spec.schemes.{field}") };
        self.context.report_at(&self.object, reason, at, message);
    }

    fn read(&mut self, binding: &IdentityBinding) -> BTreeSet<Arc<SpiffeId>> {
        let schemes = &binding.spec.schemes;
        let mut identities = BTreeSet::new();
        if schemes.pod_label_selector.is_some() && schemes.service_account.is_some() {
            let message =
                "podLabelSelector and serviceAccount exclude each other; the binding resolves to no identity";
            self.report(Reason::InvalidIdentity, "", message);
            return identities;
        }
        if let Some(account) = &schemes.service_account {
            if account.is_empty() {
                self.report(Reason::Empty, "serviceAccount", "no name, so it resolves to no identity");
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
            self.report(Reason::Empty, "", "no scheme, so the binding resolves to no identity");
        }
        identities
    }

    /// Returns the identities, or none if they cost more than the budget.
    fn within_budget(&mut self, identities: BTreeSet<Arc<SpiffeId>>) -> BTreeSet<Arc<SpiffeId>> {
        let cost = cost::count(identities.len()).saturating_mul(cost::IDENTITY);
        let budget = self.context.mesh_wide().budgets.object;
        if cost <= budget {
            return identities;
        }
        let message = format!(
            "{} identities cost {cost}, more than the budget of {budget}: the binding resolves to no identity",
            identities.len()
        );
        let finding = Finding::new(self.object.clone(), Reason::BudgetExceeded, message).at("spec.schemes");
        self.context.report(finding.hint(
            "divide it into several IdentityBindings, or raise spec.budgets.object of the MeshConfig called default",
        ));
        BTreeSet::new()
    }

    /// Returns the identity of an account of the binding's own namespace.
    fn own(&mut self, account: &str) -> Arc<SpiffeId> {
        Arc::new(self.context.identity(&self.key.0, account))
    }

    fn selected(&mut self, labels: &BTreeMap<String, String>) -> BTreeSet<Arc<SpiffeId>> {
        const FIELD: &str = "podLabelSelector.matchLabels";
        let mut identities = BTreeSet::new();
        if labels.is_empty() {
            self.report(Reason::Empty, FIELD, "no label, so it resolves to no identity");
            return identities;
        }
        let matches =
            |pod: &Arc<KubePod>| labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value));
        let mut accounts: BTreeMap<String, Vec<Arc<KubePod>>> = BTreeMap::new();
        for pod in self.context.pods_of(&self.key.0) {
            accounts.entry(pod.account.clone()).or_default().push(pod);
        }
        let mut is_any_selected = false;
        for (account, pods) in accounts {
            if !pods.iter().any(matches) {
                continue;
            }
            is_any_selected = true;
            match pods.iter().find(|pod| !matches(pod)) {
                None => {
                    identities.insert(self.own(&account));
                }
                Some(other) => {
                    let message = format!(
                        "{} runs under ServiceAccount {account} without these labels, and labels are in no \
                         certificate: the account is not taken",
                        other.name()
                    );
                    let finding = Finding::new(self.object.clone(), Reason::SelectorNotIdentity, message)
                        .at(format!("spec.schemes.{FIELD}"))
                        .hint("give the pods with the labels a ServiceAccount of their own");
                    self.context.report(finding);
                }
            }
        }
        if !is_any_selected {
            let message =
                format!("no pod in namespace {} has these labels, so it resolves to no identity", self.key.0);
            self.report(Reason::NoEffect, FIELD, message);
        }
        identities
    }

    fn spiffe(&mut self, index: usize, written: &str) -> Option<Arc<SpiffeId>> {
        const SCHEME: &str = "spiffe://";
        let full =
            if written.starts_with(SCHEME) { written.to_owned() } else { format!("{SCHEME}{written}") };
        let domain = self.context.trust_domain();
        let identity = full.parse::<SpiffeId>().ok().filter(|identity| identity.trust_domain == domain);
        if identity.is_none() {
            let message = format!(
                "{written:?} is no identity of this mesh: expected {SCHEME}{domain}/ns/<namespace>/sa/<service account>; \
                 it resolves to no identity"
            );
            self.report(Reason::InvalidIdentity, &format!("spiffeIdentities[{index}]"), message);
        }
        identity.map(Arc::new)
    }
}
