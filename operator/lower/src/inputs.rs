//! The objects of one cluster at one moment, as read: a plain value.
//!
//! Filled by a source (the API server, or files through `documents`), read by `lower`. Holds what users and the cluster
//! wrote, without validation. Has no client, no clock and no secret: of the certificate authority, it holds only the
//! public roots.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::Arc,
};

use imbl::{OrdMap, ordmap::DiffItem};

use smidge_crds::object::Object;
use smidge_mesh::{
    id::{ClusterId, TrustDomain},
    settings::{AccessLogs, Tracing},
};

use crate::{finding::Finding, table::table_of_kinds};

/// Namespace (empty for a cluster-scoped object) and name of an object.
pub type Key = (String, String);

/// Returns true if an object can have a name: most kinds, ServiceAccounts included, are named like DNS subdomains.
pub(crate) fn is_name(name: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253 && name.chars().all(is_inner) && name.starts_with(is_outer) && name.ends_with(is_outer)
}

/// Objects of one kind. A copy costs nothing, and a comparison with the original costs only what differs.
pub type Objects<K> = OrdMap<Key, Shared<K>>;

/// An object that is held in several places. Equality compares the pointers first, and the contents only if these
/// differ.
#[derive(Debug)]
pub struct Shared<K>(Arc<K>);

impl<K> Clone for Shared<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Deref for Shared<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

impl<K: PartialEq> PartialEq for Shared<K> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// Returns the names of the objects that differ, at the cost of what the two lists do not share.
pub fn differing<'a, K: PartialEq>(
    old: &'a Objects<K>,
    new: &'a Objects<K>,
) -> impl Iterator<Item = &'a Key> {
    old.diff(new).map(|item| match item {
        DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _) => key,
    })
}

/// Changes every object of a kind; other holders of an object keep it unchanged.
pub fn change_each<K: Clone>(objects: &mut Objects<K>, mut change: impl FnMut(&Key, &mut K)) {
    let keys: Vec<Key> = objects.keys().cloned().collect();
    for key in keys {
        if let Some(Shared(object)) = objects.get_mut(&key) {
            change(&key, Arc::make_mut(object));
        }
    }
}

impl<K> From<K> for Shared<K> {
    fn from(object: K) -> Self {
        Self(Arc::new(object))
    }
}

impl<K> From<Arc<K>> for Shared<K> {
    fn from(object: Arc<K>) -> Self {
        Self(object)
    }
}

/// The inputs of every cluster.
pub type Clusters = BTreeMap<ClusterId, Inputs>;

/// Defines the inputs: the objects of each kind of the table, and facts about the cluster.
macro_rules! inputs {
    (
        kubernetes { $($(#[$doc:meta])* $list:ident: $kind:ty, $nodes:expr;)* }
        custom { $($(#[$custom_doc:meta])* $custom_list:ident: $spec:ty, $($column:expr),*;)* }
    ) => {
        /// Objects of one cluster, and facts about the cluster itself.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Inputs {
            $($(#[$doc])* pub $list: Objects<$kind>,)*
            $($(#[$custom_doc])* pub $custom_list: Objects<Object<$spec>>,)*
            /// Definitions that the cluster does not have, by their full name (`traffictargets.access.smi-spec.io`).
            /// The list of that kind above is then empty, which must be reported to users.
            pub absent_kinds: BTreeSet<String>,
            /// Objects that could not be read, by kind and name, with the reason. They are in no list above.
            pub unreadable: BTreeMap<(String, Key), String>,
            /// Findings of the source itself, about what it could not read as objects: files, for example.
            pub reported: Arc<Vec<Finding>>,
            /// Root certificates of this mesh, each one PEM block.
            pub roots: BTreeSet<String>,
            /// The mesh's trust domain; default `cluster.local`.
            pub trust_domain: TrustDomain,
            /// The domain under which the cluster's DNS serves Services; default `cluster.local`.
            pub cluster_domain: String,
            /// Namespace in which Smidge itself runs; default `smidge-system`.
            pub system_namespace: String,
            /// The calls about which proxies write a line; default: none.
            pub access_logs: AccessLogs,
            /// The collector of spans, and the share of requests that is traced; default: none.
            pub tracing: Option<Tracing>,
        }

        impl Default for Inputs {
            fn default() -> Self {
                Self {
                    $($list: Objects::new(),)*
                    $($custom_list: Objects::new(),)*
                    absent_kinds: BTreeSet::new(),
                    unreadable: BTreeMap::new(),
                    reported: Arc::default(),
                    roots: BTreeSet::new(),
                    trust_domain: TrustDomain::default(),
                    cluster_domain: "cluster.local".to_owned(),
                    system_namespace: "smidge-system".to_owned(),
                    access_logs: AccessLogs::default(),
                    tracing: None,
                }
            }
        }
    };
}

table_of_kinds!(inputs);
