//! The accounts that a subject of a TrafficTarget names: a ServiceAccount, or those that an IdentityBinding selects.
//!
//! Part of the reference (`reference`), and equally independent.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::differential::reference::{Account, Smi, list, text};

/// Returns the accounts of a subject of a target in namespace `own`; an invalid subject names none.
pub fn accounts(smi: Smi<'_>, subject: &Value, own: &str, is_source: bool) -> BTreeSet<Account> {
    let (name, namespace) = (text(subject, "/name"), text(subject, "/namespace"));
    let namespace = if namespace.is_empty() { own } else { namespace };
    let group = text(subject, "/group");
    if name.is_empty() || !(group.is_empty() || group.split('/').next() == Some("access.smi-spec.io")) {
        return BTreeSet::new();
    }
    let mut accounts = match text(subject, "/kind") {
        "ServiceAccount" => BTreeSet::from([(namespace.to_owned(), name.to_owned())]),
        "IdentityBinding" => {
            smi.find("IdentityBinding", namespace, name).map(|it| bound(smi, it)).unwrap_or_default()
        }
        _ => BTreeSet::new(),
    };
    // Only the owner of a namespace opens it, and a binding elsewhere counts for its own namespace alone.
    if !is_source {
        accounts.retain(|(namespace, _)| namespace == own);
    } else if text(subject, "/kind") == "IdentityBinding" && namespace != own {
        accounts.retain(|(of, _)| of == namespace);
    }
    accounts
}

/// Returns the accounts that a binding selects.
fn bound(smi: Smi<'_>, binding: &Value) -> BTreeSet<Account> {
    let own = text(binding, "/metadata/namespace");
    let schemes = &binding["spec"]["schemes"];
    if schemes.get("podLabelSelector").is_some() && schemes.get("serviceAccount").is_some() {
        return BTreeSet::new();
    }
    let mut accounts = BTreeSet::new();
    let account = text(schemes, "/serviceAccount");
    if !account.is_empty() {
        accounts.insert((own.to_owned(), account.to_owned()));
    }
    if let Some(labels) = schemes.pointer("/podLabelSelector/matchLabels").and_then(Value::as_object) {
        let has_all = |pod: &Value| {
            labels.iter().all(|(name, value)| pod["metadata"]["labels"].get(name) == Some(value))
        };
        let (with, without): (Vec<_>, Vec<_>) = pods(smi, own).partition(|(_, pod)| has_all(pod));
        let is_mixed = |account: &str| without.iter().any(|(other, _)| *other == account);
        let whole = with.iter().filter(|(account, _)| !labels.is_empty() && !is_mixed(account));
        accounts.extend(whole.map(|(account, _)| (own.to_owned(), (*account).to_owned())));
    }
    for written in list(schemes, "/spiffeIdentities").iter().filter_map(Value::as_str) {
        let path = written.strip_prefix("spiffe://").unwrap_or(written);
        if let ["cluster.local", "ns", namespace, "sa", account] = path.split('/').collect::<Vec<_>>()[..] {
            accounts.insert((namespace.to_owned(), account.to_owned()));
        }
    }
    accounts
}

/// Returns the pods of a namespace, each with its account.
fn pods<'a>(smi: Smi<'a>, namespace: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    smi.of_kind("Deployment").filter(move |it| text(it, "/metadata/namespace") == namespace).map(|it| {
        let pod = &it["spec"]["template"];
        let account = text(pod, "/spec/serviceAccountName");
        (if account.is_empty() { "default" } else { account }, pod)
    })
}
