//! Prepares a request before it is authorised or routed: its path is read once for all filters, as servers would read
//! it, and nothing in it looks as if a proxy had written it.
//!
//! Knows no caller: what is refused here is refused in every access mode. The answers are 400, and state the reason.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{AccessLogFilter, HeaderFilter, access_log_filter::FilterSpecifier},
        common::mutation_rules::v3::{
            HeaderMutation,
            header_mutation::{self, RemoveOnMatch},
        },
        core::v3::{
            HeaderValue, HeaderValueOption, HttpProtocolOptions, TypedExtensionConfig,
            header_value_option::HeaderAppendAction, http_protocol_options::HeadersWithUnderscoresAction,
        },
        rbac::v3::{Permission, Policy, Principal, Rbac, permission, principal, rbac::Action},
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    extensions::{
        filters::{
            common::set_filter_state::v3::{FilterStateValue, filter_state_value},
            http::{
                header_mutation::v3::{HeaderMutation as HeaderMutationFilter, Mutations},
                rbac::v3::Rbac as HttpRbac,
                set_filter_state,
            },
            network::http_connection_manager::v3::{HttpFilter, ResponseMapper},
        },
        http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation,
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};

use super::{filter::http_filter, rbac, route, wire};

/// Prefixes of the headers that only proxies write: Envoy's own, some of which it would obey, and those of this mesh.
/// Applications cannot know which peer wrote them. `x-forwarded-*` stay, see docs/limits.md.
const OF_PROXIES: [&str; 2] = ["x-envoy-", "x-smidge-"];

/// Pattern of a path that servers read in several ways, with whatever follows it. Envoy has followed its dot segments
/// and decoded what needs no escape, so the rest of them is hidden from it by parameters: servers that drop parameters
/// (after `;`) and then follow dot segments read `/a/..;/b` as `/b`, and `/a/;x/b` as `/a/b`. The name in front of the
/// parameters of the last segment may be empty: `/;jsessionid=1` is what such servers write themselves.
const AMBIGUOUS: &str = "[^?]*/(?:\\.\\.?(?:;|%3[Bb]).*|;[^/?]*/.*)";

const AMBIGUOUS_TEXT: &str = "smidge: bad request: servers do not agree on how to read this path: it has a segment that is \
                              empty, \".\" or \"..\" before a \";\"\n";

const CONNECT_TEXT: &str = "smidge: CONNECT is not served at ports that are read as HTTP: a forward proxy needs a port \
                            with appProtocol: tcp\n";

/// Maximum size of the head of a request or of a response, in KiB: Envoy's own maximum of 60 is below what servers take.
pub const MAX_HEAD_KIB: u32 = 96;

/// Maximum number of headers of a request or of a response: Envoy's own maximum is 100.
const MAX_HEADERS: u32 = 1000;

/// Builds the limits of the head of a message.
pub fn limits() -> HttpProtocolOptions {
    HttpProtocolOptions { max_headers_count: wire::number(MAX_HEADERS), ..HttpProtocolOptions::default() }
}

/// Builds the options of a server that refuse header names with `_`: many servers read it as `-`, so that such a name
/// could carry a second value of a header that was judged.
pub fn strict_names() -> HttpProtocolOptions {
    HttpProtocolOptions {
        headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest as i32,
        ..limits()
    }
}

/// Builds the limits of the head of a server's response.
pub fn response_limits() -> HttpProtocolOptions {
    HttpProtocolOptions { max_response_headers_kb: wire::number(MAX_HEAD_KIB), ..limits() }
}

/// Builds the pattern of the protocols to which a request over HTTP/1.1 may offer to switch and that are not served: all
/// but WebSocket, in a syntax without negation. It leaves other names that begin alike, of which none is registered:
/// every listener has a copy, so it is small.
pub fn other_upgrades() -> StringMatcher {
    let regex = "(?i)(?:[^w].*|w[^e].*|we[^b].*)".to_owned();
    text(MatchPattern::SafeRegex(RegexMatcher { regex, ..RegexMatcher::default() }))
}

/// Builds the mutation before a route is chosen: removes what only proxies write, and keeps the path without its query
/// for `route`.
pub fn early() -> TypedExtensionConfig {
    let option = HeaderValueOption {
        header: Some(HeaderValue {
            key: route::PATH_HEADER.to_owned(),
            value: "%PATH(NQ:PATH)%".to_owned(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..HeaderValueOption::default()
    };
    let mut mutations: Vec<HeaderMutation> = of_proxies().collect();
    mutations.push(HeaderMutation { action: Some(header_mutation::Action::Append(option)) });
    wire::extension("envoy.http.early_header_mutation.header_mutation", EarlyHeaderMutation { mutations })
}

/// Builds the filter that removes what only proxies write, also what Envoy itself made of the caller's claims before
/// any filter.
pub fn forget_proxies() -> HttpFilter {
    let mutations = Mutations { request_mutations: of_proxies().collect(), ..Mutations::default() };
    let config = HeaderMutationFilter { mutations: Some(mutations), ..HeaderMutationFilter::default() };
    http_filter("envoy.filters.http.header_mutation", &config)
}

fn of_proxies() -> impl Iterator<Item = HeaderMutation> {
    OF_PROXIES.into_iter().map(|prefix| {
        let key_matcher = Some(text(MatchPattern::Prefix(prefix.to_owned())));
        HeaderMutation { action: Some(header_mutation::Action::RemoveOnMatch(RemoveOnMatch { key_matcher })) }
    })
}

/// Builds the filter that keeps the path without its query for `rbac`: a pattern over the whole `:path` could be met by
/// text in the query.
pub fn path_state() -> HttpFilter {
    let state = FilterStateValue {
        key: Some(filter_state_value::Key::ObjectKey(rbac::PATH_STATE.to_owned())),
        factory_key: "envoy.string".to_owned(),
        // `:path` by name, as the default would prefer a header that callers can set.
        value: Some(filter_state_value::Value::FormatString(wire::format("%PATH(NQ:PATH)%"))),
        ..FilterStateValue::default()
    };
    let config = set_filter_state::v3::Config {
        on_request_headers: vec![state],
        ..set_filter_state::v3::Config::default()
    };
    http_filter("envoy.filters.http.set_filter_state", &config)
}

/// Builds the filter that refuses ambiguous paths. Its statistics have their own name: they count no policy denial.
pub fn refuse_ambiguous() -> HttpFilter {
    let permission = Permission { rule: Some(permission::Rule::Header(ambiguous())) };
    let principal = Principal { identifier: Some(principal::Identifier::Any(true)) };
    let policy = Policy { permissions: vec![permission], principals: vec![principal], ..Policy::default() };
    let rules = Rbac {
        action: Action::Deny as i32,
        // One entry, so that the order of a map's bytes cannot vary.
        policies: [("ambiguous".to_owned(), policy)].into(),
        ..Rbac::default()
    };
    let config =
        HttpRbac { rules: Some(rules), rules_stat_prefix: "ambiguous_".to_owned(), ..HttpRbac::default() };
    http_filter("envoy.filters.http.rbac", &config)
}

/// Builds the answer to a request with an ambiguous path, in place of the refusal.
pub fn ambiguous_text() -> ResponseMapper {
    let filter = FilterSpecifier::HeaderFilter(HeaderFilter { header: Some(ambiguous()) });
    ResponseMapper {
        filter: Some(AccessLogFilter { filter_specifier: Some(filter) }),
        status_code: wire::number(400),
        body_format_override: Some(wire::format(AMBIGUOUS_TEXT)),
        ..ResponseMapper::default()
    }
}

/// Builds the answer to a CONNECT, which no route takes.
pub fn connect_text() -> ResponseMapper {
    let connect = HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(MatchPattern::Exact(
            "CONNECT".to_owned(),
        )))),
        ..HeaderMatcher::default()
    };
    let filter = FilterSpecifier::HeaderFilter(HeaderFilter { header: Some(connect) });
    ResponseMapper {
        filter: Some(AccessLogFilter { filter_specifier: Some(filter) }),
        status_code: wire::number(501),
        body_format_override: Some(wire::format(CONNECT_TEXT)),
        ..ResponseMapper::default()
    }
}

fn ambiguous() -> HeaderMatcher {
    let regex = RegexMatcher { regex: AMBIGUOUS.to_owned(), ..RegexMatcher::default() };
    HeaderMatcher {
        name: ":path".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(MatchPattern::SafeRegex(regex)))),
        ..HeaderMatcher::default()
    }
}

fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}
