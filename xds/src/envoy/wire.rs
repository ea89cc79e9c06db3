//! Builds the small parts of Envoy's API: wrapped scalars, durations, addresses, extensions, and sources over ADS.
//!
//! Used by every builder. Knows nothing about the mesh.

use std::net::IpAddr;

use envoy_types::{
    pb::{
        envoy::config::core::v3::{
            Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, ExtensionConfigSource,
            SocketAddress, SubstitutionFormatString, TransportSocket, TypedExtensionConfig, address,
            config_source::ConfigSourceSpecifier, data_source, socket_address::PortSpecifier,
            substitution_format_string::Format, transport_socket,
        },
        google::protobuf::{Any, BoolValue, Duration, UInt32Value},
        xds,
    },
    util::pack_any,
};
use prost::{Message, Name};

/// Wraps a flag.
#[expect(clippy::unnecessary_wraps, reason = "the fields that take it are optional")]
pub fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// Wraps a number.
#[expect(clippy::unnecessary_wraps, reason = "the fields that take it are optional")]
pub fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// Builds a duration in whole seconds. Zero turns most of Envoy's time limits off.
#[expect(clippy::unnecessary_wraps, reason = "the fields that take it are optional")]
pub fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// Builds a duration in milliseconds, below a second.
#[expect(clippy::unnecessary_wraps, reason = "the fields that take it are optional")]
pub fn milliseconds(milliseconds: i32) -> Option<Duration> {
    Some(Duration { seconds: 0, nanos: milliseconds * 1_000_000 })
}

/// Builds a TCP address.
pub fn address(ip: IpAddr, port: u16) -> Address {
    Address { address: Some(address::Address::SocketAddress(socket_address(ip, port))) }
}

/// Builds a TCP address for fields of the bare `SocketAddress`.
pub fn socket_address(ip: IpAddr, port: u16) -> SocketAddress {
    SocketAddress {
        address: ip.to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
        ..SocketAddress::default()
    }
}

/// Builds an inline text, for a field in which Envoy could read a file as well.
pub fn inline(text: impl Into<String>) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(text.into())), ..DataSource::default() }
}

/// Builds a format from a text with Envoy's `%COMMANDS%`.
pub fn format(text: impl Into<String>) -> SubstitutionFormatString {
    SubstitutionFormatString {
        format: Some(Format::TextFormatSource(inline(text))),
        ..SubstitutionFormatString::default()
    }
}

/// Builds the source of a resource that is served on the ADS stream.
#[expect(clippy::unnecessary_wraps, reason = "the fields that take it are optional")]
pub fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3 as i32,
        ..ConfigSource::default()
    })
}

/// Builds the source of a filter of type `M` that is served over ECDS; `default` applies until one is received.
pub fn discovered<M: Message + Name>(default: Option<&M>) -> ExtensionConfigSource {
    ExtensionConfigSource {
        config_source: ads(),
        default_config: default.map(any),
        apply_default_config_without_warming: false,
        type_urls: vec![M::type_url()],
    }
}

/// Packs a message into an `Any`.
pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Builds a named extension.
pub fn extension<M: Message + Name>(name: &str, config: M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack_any(config)) }
}

/// Builds a named extension of the matcher API.
pub fn match_extension<M: Message + Name>(name: &str, config: M) -> xds::core::v3::TypedExtensionConfig {
    xds::core::v3::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack_any(config)) }
}

/// Builds a transport socket.
pub fn transport_socket<M: Message + Name>(name: &str, config: M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(config))),
    }
}
