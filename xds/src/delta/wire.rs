//! The two messages of the delta protocol as this server needs them.
//!
//! `Request` is the part of `DeltaDiscoveryRequest` that is read here: a proxy's node lists hundreds of extensions, and
//! some versions repeat it in every ACK, so unused fields are skipped and not built. `Response` is written straight
//! from the shared resources into the stream's buffer: one copy of a body per stream, and none that remains.

use std::{collections::HashMap, fmt, sync::Arc};

use prost::bytes::BufMut;

use super::Secret;
use crate::resources::{Resource, ResourceType, Version};

/// Message of a client, in the field numbers of `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Node that the client claims to be. Some clients send it with the first message only.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// Type URL of the resources that the message is about.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to which the client subscribes. All of them must be answered.
    #[prost(string, repeated, tag = "3")]
    pub subscribe: Vec<String>,
    /// Names from which the client unsubscribes.
    #[prost(string, repeated, tag = "4")]
    pub unsubscribe: Vec<String>,
    /// Versions that the client holds from an earlier stream, by name; only in its first message of a type.
    #[prost(map = "string, string", tag = "5")]
    pub initial_versions: HashMap<String, String>,
    /// The nonce of the response that the message answers, if it answers one.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Present if the client refused that response.
    #[prost(message, optional, tag = "7")]
    pub error: Option<ErrorDetail>,
}

/// The part of a node that is read: a claim, never an identity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// `<instance>.<namespace>`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The build of Envoy. Its metadata is not read.
    #[prost(message, optional, tag = "8")]
    pub build: Option<BuildVersion>,
}

/// The part of `envoy.config.core.v3.BuildVersion` that is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildVersion {
    /// The version.
    #[prost(message, optional, tag = "1")]
    pub version: Option<SemanticVersion>,
}

/// A version, as in `envoy.type.v3.SemanticVersion`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SemanticVersion {
    /// The first number.
    #[prost(uint32, tag = "1")]
    pub major: u32,
    /// The second number.
    #[prost(uint32, tag = "2")]
    pub minor: u32,
    /// The third number.
    #[prost(uint32, tag = "3")]
    pub patch: u32,
}

/// Error by which the client refused a response.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ErrorDetail {
    /// The client's message.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Response to a client, all of one kind.
#[derive(Debug)]
pub struct Response {
    /// The type of everything in it.
    pub kind: ResourceType,
    /// Nonce that the client's answer will carry.
    pub nonce: u64,
    /// Resources that are new or changed, or that the client requested.
    pub updated: Vec<Item>,
    /// Names that do not exist, or do not any longer.
    pub removed: Vec<Arc<str>>,
}

/// One resource in a response.
pub enum Item {
    /// A resource of the pool.
    Shared(Arc<Resource>),
    /// The proxy's own certificate and key: in this response only, wiped with it.
    Own(Secret),
}

impl Item {
    /// Returns the name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Shared(resource) => &resource.name,
            Self::Own(_) => super::IDENTITY,
        }
    }

    /// Returns the version on the wire.
    pub fn version(&self) -> &Version {
        match self {
            Self::Shared(resource) => &resource.version,
            Self::Own(secret) => &secret.version,
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Shared(resource) => &resource.body,
            Self::Own(secret) => secret.body(),
        }
    }

    /// Returns the length of the encoded `Any`.
    fn any_len(&self, kind: ResourceType) -> usize {
        field_len(kind.type_url().len()) + field_len(self.body().len())
    }

    /// Returns the length of the encoded `Resource`.
    fn len(&self, kind: ResourceType) -> usize {
        field_len(self.version().as_str().len())
            + field_len(self.any_len(kind))
            + field_len(self.name().len())
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name(), self.version())
    }
}

impl Response {
    /// Returns the length of `encode`'s output.
    pub fn encoded_len(&self) -> usize {
        let updated: usize = self.updated.iter().map(|item| field_len(item.len(self.kind))).sum();
        let removed: usize = self.removed.iter().map(|name| field_len(name.len())).sum();
        updated + removed + field_len(self.kind.type_url().len()) + field_len(self.nonce.to_string().len())
    }

    /// Writes the response as an `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
    pub fn encode(&self, buf: &mut impl BufMut) {
        let type_url = self.kind.type_url();
        for item in &self.updated {
            header(2, item.len(self.kind), buf);
            field(1, item.version().as_str().as_bytes(), buf);
            header(2, item.any_len(self.kind), buf);
            field(1, type_url.as_bytes(), buf);
            field(2, item.body(), buf);
            field(3, item.name().as_bytes(), buf);
        }
        field(4, type_url.as_bytes(), buf);
        field(5, self.nonce.to_string().as_bytes(), buf);
        for name in &self.removed {
            field(6, name.as_bytes(), buf);
        }
    }
}

/// Returns the length of a length-delimited field with a number below 16: one byte of tag.
fn field_len(len: usize) -> usize {
    1 + prost::length_delimiter_len(len) + len
}

fn header(number: u8, len: usize, buf: &mut impl BufMut) {
    buf.put_u8(number << 3 | 2);
    // Cannot fail: the buffer has room, or grows.
    let _ = prost::encode_length_delimiter(len, buf);
}

fn field(number: u8, bytes: &[u8], buf: &mut impl BufMut) {
    header(number, bytes.len(), buf);
    buf.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
    use prost::Message;

    use super::*;

    #[test]
    fn a_response_reads_back_as_the_message_of_the_protocol() {
        let shared = |name: &str, len: usize| {
            Item::Shared(Arc::new(Resource {
                kind: ResourceType::Route,
                name: name.into(),
                version: Version::new("v1"),
                body: vec![7; len].into(),
            }))
        };
        let response = Response {
            kind: ResourceType::Route,
            nonce: 300,
            updated: vec![shared("a", 0), shared("b", 127), shared("c", 128), shared("d", 70_000)],
            removed: vec!["gone".into(), "x".repeat(200).into()],
        };
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        assert_eq!(bytes.len(), response.encoded_len());
        let read = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
        assert_eq!((read.type_url.as_str(), read.nonce.as_str()), (ResourceType::Route.type_url(), "300"));
        assert_eq!(read.removed_resources, ["gone".to_owned(), "x".repeat(200)]);
        let names: Vec<_> = read.resources.iter().map(|r| (r.name.as_str(), r.version.as_str())).collect();
        assert_eq!(names, [("a", "v1"), ("b", "v1"), ("c", "v1"), ("d", "v1")]);
        for (resource, len) in read.resources.iter().zip([0, 127, 128, 70_000]) {
            let any = resource.resource.as_ref().unwrap();
            assert_eq!((any.type_url.as_str(), any.value.len()), (ResourceType::Route.type_url(), len));
        }
    }
}
