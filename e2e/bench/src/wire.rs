//! Writes and reads the two messages of the delta protocol by hand.
//!
//! Used by `sidecar` for every message of every simulated proxy, so it builds nothing: a response is a list of slices
//! of the received bytes. Resource bodies are read only where a proxy would find the names of further resources
//! (`references`), and the caller does that once for each version of a resource, not once for each proxy.

/// Types of resources, in the order in which an Envoy subscribes to them when it reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Cluster,
    Endpoints,
    Secret,
    Listener,
    Extension,
    Route,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::Extension, Self::Route];

    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    fn of(type_url: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url().as_bytes() == type_url)
    }
}

/// One resource of a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resource<'a> {
    pub name: &'a [u8],
    pub version: &'a [u8],
    pub body: &'a [u8],
}

/// Response, as slices of its bytes.
#[derive(Debug)]
pub struct Response<'a> {
    pub kind: Kind,
    pub nonce: &'a [u8],
    pub resources: Vec<Resource<'a>>,
    pub removed: Vec<&'a [u8]>,
}

/// Field of a message: its number, and its bytes if it is length-delimited.
struct Field<'a> {
    number: u64,
    bytes: Option<&'a [u8]>,
}

/// Fields of a message; ends with `None` after an error as well, which `is_whole` distinguishes.
struct Fields<'a> {
    left: &'a [u8],
    is_whole: bool,
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { left: bytes, is_whole: true }
    }

    fn read(&mut self) -> Option<Field<'a>> {
        let tag = varint(&mut self.left)?;
        let number = tag >> 3;
        if number == 0 {
            return None;
        }
        let bytes = match tag & 7 {
            0 => varint(&mut self.left).map(|_| None)?,
            1 => take(&mut self.left, 8).map(|_| None)?,
            2 => {
                let len = usize::try_from(varint(&mut self.left)?).ok()?;
                Some(take(&mut self.left, len)?)
            }
            5 => take(&mut self.left, 4).map(|_| None)?,
            _ => return None,
        };
        Some(Field { number, bytes })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.is_whole = false;
            self.left = &[];
        }
        field
    }
}

fn varint(left: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = left.split_first()?;
        *left = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(left: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = left.split_at_checked(len)?;
    *left = rest;
    Some(taken)
}

/// Reads a `DeltaDiscoveryResponse`; `None` if it is none, or of a type to which no proxy subscribes.
pub fn response(bytes: &[u8]) -> Option<Response<'_>> {
    let (mut kind, mut nonce) = (None, &[][..]);
    let (mut resources, mut removed) = (Vec::new(), Vec::new());
    let mut fields = Fields::of(bytes);
    for field in fields.by_ref() {
        match (field.number, field.bytes) {
            (2, Some(bytes)) => resources.push(resource(bytes)?),
            (4, Some(bytes)) => kind = Kind::of(bytes),
            (5, Some(bytes)) => nonce = bytes,
            (6, Some(bytes)) => removed.push(bytes),
            _ => {}
        }
    }
    fields.is_whole.then_some(Response { kind: kind?, nonce, resources, removed })
}

fn resource(bytes: &[u8]) -> Option<Resource<'_>> {
    let mut resource = Resource::default();
    let mut fields = Fields::of(bytes);
    for field in fields.by_ref() {
        match (field.number, field.bytes) {
            (1, Some(bytes)) => resource.version = bytes,
            (2, Some(any)) => {
                let body = Fields::of(any).find(|field| field.number == 2).and_then(|field| field.bytes);
                resource.body = body.unwrap_or_default();
            }
            (3, Some(bytes)) => resource.name = bytes,
            _ => {}
        }
    }
    fields.is_whole.then_some(resource)
}

/// Request of a proxy. Written in the field numbers of `DeltaDiscoveryRequest`.
#[derive(Debug, Default)]
pub struct Request<'a> {
    pub node: Option<&'a str>,
    pub subscribe: Vec<&'a str>,
    pub initial_versions: Vec<(&'a str, &'a str)>,
    pub nonce: &'a [u8],
    /// Message of the NACK of the response with that nonce; empty for an ACK.
    pub refusal: &'a str,
}

impl Request<'_> {
    /// Appends the message of `kind` to `out`.
    pub fn write(&self, kind: Kind, out: &mut Vec<u8>) {
        if let Some(id) = self.node {
            header(1, field_len(id.len()), out);
            field(1, id.as_bytes(), out);
        }
        field(2, kind.type_url().as_bytes(), out);
        for name in &self.subscribe {
            field(3, name.as_bytes(), out);
        }
        for (name, version) in &self.initial_versions {
            header(5, field_len(name.len()) + field_len(version.len()), out);
            field(1, name.as_bytes(), out);
            field(2, version.as_bytes(), out);
        }
        if !self.nonce.is_empty() {
            field(6, self.nonce, out);
        }
        if !self.refusal.is_empty() {
            header(7, field_len(self.refusal.len()), out);
            field(2, self.refusal.as_bytes(), out);
        }
    }
}

/// Appends a response with one resource whose body has `body` bytes, as the baseline server sends it.
pub fn write_response(kind: Kind, name: &str, version: &str, body: usize, out: &mut Vec<u8>) {
    let url = kind.type_url();
    let any_len = field_len(url.len()) + field_len(body);
    header(2, field_len(version.len()) + field_len(any_len) + field_len(name.len()), out);
    field(1, version.as_bytes(), out);
    header(2, any_len, out);
    field(1, url.as_bytes(), out);
    header(2, body, out);
    // Neither zeros nor one letter: no layer in between may compress it.
    out.extend((0..body).map(|at| u8::try_from(at * 7 % 251).unwrap_or_default()));
    field(3, name.as_bytes(), out);
    field(4, url.as_bytes(), out);
    field(5, version.as_bytes(), out);
}

pub fn header(number: u8, len: usize, out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut left = len;
    while left >= 0x80 {
        out.push(u8::try_from(left & 0x7f).unwrap_or_default() | 0x80);
        left >>= 7;
    }
    out.push(u8::try_from(left).unwrap_or_default());
}

pub fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    header(number, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn field_len(len: usize) -> usize {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(7).max(1);
    1 + usize::try_from(digits).unwrap_or_default() + len
}

/// Encoding of "over ADS, in version 3" in a `ConfigSource`.
const ADS: &[u8] = &[0x1a, 0, 0x30, 2];

/// Returns the names of the resources to which a cluster or listener makes a proxy subscribe.
///
/// Reads every field that may be a message and recognises those that name a resource by the config source beside the
/// name; text that happens to parse as a message has none.
pub fn references<'a>(kind: Kind, name: &'a [u8], body: &'a [u8]) -> Vec<(Kind, &'a [u8])> {
    let mut found = Vec::new();
    if kind == Kind::Cluster {
        // eds_cluster_config = 3 { eds_config = 1, service_name = 2 }; without a service name it is the cluster's.
        let eds = Fields::of(body).find(|field| field.number == 3).and_then(|field| field.bytes);
        if let Some(service) = eds.and_then(|eds| beside_source(eds, 1, 2)) {
            found.push((Kind::Endpoints, if service.is_empty() { name } else { service }));
        }
    }
    search(kind, body, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn search<'a>(kind: Kind, bytes: &'a [u8], found: &mut Vec<(Kind, &'a [u8])>) {
    // SdsSecretConfig { name = 1, sds_config = 2 }, Rds { config_source = 1, route_config_name = 2 }.
    if let Some(name) = beside_source(bytes, 2, 1) {
        found.push((Kind::Secret, name));
    } else if kind == Kind::Listener && Fields::of(bytes).all(|field| field.number <= 2) {
        let name = beside_source(bytes, 1, 2).filter(|name| !name.is_empty());
        found.extend(name.map(|name| (Kind::Route, name)));
    }
    let mut fields = Fields::of(bytes);
    let inner: Vec<(u64, &[u8])> =
        fields.by_ref().filter_map(|field| Some((field.number, field.bytes?))).collect();
    if !fields.is_whole {
        return;
    }
    // A filter { name = 1, config_discovery = 5 { config_source = 1 } }.
    let discovery = inner.iter().find(|(number, bytes)| *number == 5 && beside_source(bytes, 1, 0).is_some());
    let name = inner.iter().find(|(number, _)| *number == 1);
    if let (Some(_), Some((_, name))) = (discovery, name) {
        found.push((Kind::Extension, name));
    }
    for (_, bytes) in inner {
        search(kind, bytes, found);
    }
}

/// Returns the field `name` of a message whose field `source` is a config source over ADS; empty if it has none.
fn beside_source(bytes: &[u8], source: u64, name: u64) -> Option<&[u8]> {
    let mut fields = Fields::of(bytes);
    let (mut is_ads, mut found) = (false, &[][..]);
    for field in fields.by_ref() {
        is_ads |= field.number == source && field.bytes == Some(ADS);
        if field.number == name {
            found = field.bytes.unwrap_or_default();
        }
    }
    (fields.is_whole && is_ads).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_reads_back() {
        for body in [0, 1, 127, 128, 20_000] {
            let mut bytes = Vec::new();
            write_response(Kind::Route, "a/b/80", "7", body, &mut bytes);
            let read = response(&bytes).unwrap();
            assert_eq!((read.kind, read.nonce, read.resources.len()), (Kind::Route, &b"7"[..], 1));
            let resource = read.resources[0];
            assert_eq!(
                (resource.name, resource.version, resource.body.len()),
                (&b"a/b/80"[..], &b"7"[..], body)
            );
            assert!(response(&bytes[..bytes.len() - 1]).is_none());
        }
    }

    #[test]
    fn references_are_found_by_the_config_source_beside_them() {
        let ads = |number: u8, out: &mut Vec<u8>| field(number, ADS, out);
        let (mut eds, mut sds, mut filter, mut source, mut rds) =
            <(Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)>::default();
        ads(1, &mut eds);
        field(1, b"identity", &mut sds);
        ads(2, &mut sds);
        ads(1, &mut source);
        field(1, b"inbound/80/http", &mut filter);
        field(5, &source, &mut filter);
        ads(1, &mut rds);
        field(2, b"a/b/80", &mut rds);
        let body = |inner: &[(u8, &Vec<u8>)]| {
            let mut body = Vec::new();
            for (number, inner) in inner {
                field(*number, inner, &mut body);
            }
            body
        };
        let cluster = body(&[(3, &eds), (7, &sds)]);
        let expected: Vec<(Kind, &[u8])> = vec![(Kind::Endpoints, b"cluster"), (Kind::Secret, b"identity")];
        assert_eq!(references(Kind::Cluster, b"cluster", &cluster), expected);
        let listener = body(&[(8, &filter), (9, &rds)]);
        let expected: Vec<(Kind, &[u8])> =
            vec![(Kind::Extension, b"inbound/80/http"), (Kind::Route, b"a/b/80")];
        assert_eq!(references(Kind::Listener, b"listener", &listener), expected);
    }
}
