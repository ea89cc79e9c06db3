//! Object of any kind that this crate defines: metadata, spec, status.
//!
//! The kinds differ in their spec and in their names ([`Kind`]); the rest is the same code. kube's derive macro is not
//! used as its objects require a `spec`, and accept no field beside it: SMI's published definitions do not
//! require one, and manifests with `matches` beside `metadata` are common. `conversion` reads objects, including such
//! fields.
//!
//! Does not define what an object means.

use std::{any::TypeId, borrow::Cow, fmt::Debug};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube_core::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeStruct};

use crate::status::Status;

/// Names and scope of a kind. Implemented by its spec.
pub trait Kind:
    Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The scope: namespaced or cluster-wide.
    type Scope: 'static;

    /// The API group.
    const GROUP: &'static str;
    /// The stored version.
    const VERSION: &'static str;
    /// The name of the kind.
    const KIND: &'static str;
    /// The plural, as in the API's paths.
    const PLURAL: &'static str;
    /// The short name for kubectl, if the kind has one.
    const SHORT_NAME: Option<&'static str>;
    /// The description of an object of the kind, for `kubectl explain`.
    const DESCRIPTION: &'static str;
    /// The columns that kubectl prints before the age: name, description, path of a string.
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)];
}

/// Returns true if the objects of a kind are namespaced.
pub fn is_namespaced<K: Resource + 'static>() -> bool {
    TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>()
}

/// Object with a typed spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<Spec> {
    /// The metadata of the object.
    pub metadata: ObjectMeta,
    /// The desired state. An object without a spec is read as one with an empty spec.
    pub spec: Spec,
    /// The state that the mesh reports.
    pub status: Option<Status>,
}

impl<Spec> Object<Spec> {
    /// Returns an object with a name and no other metadata.
    pub fn new(name: impl Into<String>, spec: Spec) -> Self {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        Self { metadata, spec, status: None }
    }

    /// Returns the same object in a namespace.
    #[must_use]
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.metadata.namespace = Some(namespace.into());
        self
    }
}

impl<Spec: Kind> Resource for Object<Spec> {
    type DynamicType = ();
    type Scope = Spec::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Spec::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        Spec::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        Spec::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        Spec::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<Spec: Kind> Serialize for Object<Spec> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { metadata, spec, status } = self;
        let mut object = serializer.serialize_struct(Spec::KIND, 4 + usize::from(status.is_some()))?;
        object.serialize_field("apiVersion", &Self::api_version(&()))?;
        object.serialize_field("kind", Spec::KIND)?;
        object.serialize_field("metadata", metadata)?;
        object.serialize_field("spec", spec)?;
        if let Some(status) = status {
            object.serialize_field("status", status)?;
        }
        object.end()
    }
}

/// Reads `null`, which is what YAML makes of a key without a value, as the default, like an absent key.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
