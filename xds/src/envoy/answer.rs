//! Answers that a proxy gives by itself: the text of each states that it is the mesh's and for what reason.
//!
//! `filter` puts them into the connection managers. Decides no answer: Envoy rewrites only what it answers itself, by the
//! status, the flag or the request to which a mapper refers.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{
            AccessLogFilter, ComparisonFilter, HeaderFilter, ResponseFlagFilter, StatusCodeFilter,
            access_log_filter::FilterSpecifier, comparison_filter,
        },
        core::v3::{RuntimeUInt32, SubstitutionFormatString},
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    extensions::filters::network::http_connection_manager::v3::{LocalReplyConfig, ResponseMapper},
    r#type::matcher::v3::string_matcher::MatchPattern,
};

use super::{request, retry, wire};

const CONNECT: &str = "smidge: CONNECT is not served at ports that are read as HTTP: a forward proxy needs a port with \
                       appProtocol: tcp\n";

const AMBIGUOUS: &str = "smidge: bad request: servers do not agree on how to read this path: it has a segment that is \
                         empty, \".\" or \"..\" before a \";\"\n";

const WITHDRAWN: &str = "smidge: access denied by the mesh's policy: no TrafficTarget allows this workload to call this \
                         Service any more\n";

/// Builds the texts of the server's proxy. Only `rbac` answers 403 on its own, except for ambiguous paths. `plain` is true
/// for callers in plaintext, who have no identity.
pub fn of_workload(plain: bool) -> LocalReplyConfig {
    let caller = if plain { "a caller without an identity (plaintext)" } else { "%DOWNSTREAM_PEER_URI_SAN%" };
    // A plaintext connection has no certificate of the server either.
    let server = if plain { "this workload" } else { "%DOWNSTREAM_LOCAL_URI_SAN%" };
    let refusal = format!(
        "smidge: access denied by the mesh's policy: no TrafficTarget allows {caller} to %REQ(:METHOD)% \
         %PATH(NQ:PATH)% at {server}\n"
    );
    // Only the proxy of a caller in the mesh obeys a mark.
    let marks = (!plain).then(retry::marks);
    let own_answers = [
        unrepeated(),
        // The refusal of an ambiguous path, by a filter that answers 403.
        mapper(header(request::ambiguous()), Some(400), AMBIGUOUS),
        connect(),
        mapper(status(403), None, &refusal),
    ];
    LocalReplyConfig {
        mappers: marks.into_iter().flatten().chain(own_answers).collect(),
        body_format: Some(own("workload's")),
    }
}

/// Builds the texts of the caller's proxy. A request whose Service left the proxy's view while its connection was open
/// finds the cluster or the route gone while its listener drains. That is a refusal as well, and not an error of a
/// server; every other request with a path has a route.
pub fn of_caller() -> LocalReplyConfig {
    let withdrawn = mapper(flags(&["NC", "NR"]), Some(403), WITHDRAWN);
    LocalReplyConfig { mappers: vec![connect(), withdrawn, unrepeated()], body_format: Some(own("caller's")) }
}

/// Builds the answer to a request whose body outgrew the buffer between two attempts: no server has taken it, which 503
/// tells callers, and gRPC would read 507 as an unknown error.
fn unrepeated() -> ResponseMapper {
    ResponseMapper { body_format_override: None, ..mapper(retry::outgrown(), Some(503), "") }
}

/// Builds the texts of a listener that refuses every request. It has no route, so that CONNECT and requests without a
/// path get the same answer as all others. A request that is refused for itself gets the refusal of the call as well:
/// its caller need not mend it in vain.
pub fn of_refusal(code: u32, text: &str) -> LocalReplyConfig {
    let itself = format!("{text}; the request itself gets %RESPONSE_CODE% (%RESPONSE_CODE_DETAILS%)\n");
    LocalReplyConfig {
        mappers: vec![mapper(status(404), Some(code), &format!("{text}\n"))],
        body_format: Some(wire::format(itself)),
    }
}

/// Builds the answer to a CONNECT, which no route takes.
fn connect() -> ResponseMapper {
    let method = HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(request::text(MatchPattern::Exact(
            "CONNECT".to_owned(),
        )))),
        ..HeaderMatcher::default()
    };
    mapper(header(method), Some(501), CONNECT)
}

/// Builds the text of every other answer of a proxy, with Envoy's details of the reason.
fn own(whose: &str) -> SubstitutionFormatString {
    wire::format(format!(
        "smidge: the {whose} proxy answers %RESPONSE_CODE% (%RESPONSE_CODE_DETAILS%): %LOCAL_REPLY_BODY%\n"
    ))
}

fn mapper(to: FilterSpecifier, status: Option<u32>, text: &str) -> ResponseMapper {
    ResponseMapper {
        filter: Some(AccessLogFilter { filter_specifier: Some(to) }),
        status_code: status.and_then(wire::number),
        body_format_override: Some(wire::format(text)),
        ..ResponseMapper::default()
    }
}

fn header(header: HeaderMatcher) -> FilterSpecifier {
    FilterSpecifier::HeaderFilter(HeaderFilter { header: Some(header) })
}

fn status(code: u32) -> FilterSpecifier {
    FilterSpecifier::StatusCodeFilter(StatusCodeFilter {
        comparison: Some(ComparisonFilter {
            op: comparison_filter::Op::Eq as i32,
            value: Some(RuntimeUInt32 { default_value: code, runtime_key: "smidge.refused".to_owned() }),
        }),
    })
}

fn flags(flags: &[&str]) -> FilterSpecifier {
    let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags })
}
