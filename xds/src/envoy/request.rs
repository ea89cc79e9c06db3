//! Prepares a request before it is authorised or routed: its path is read once for all filters, as servers would read
//! it, and nothing in it looks as if a proxy had written it.
//!
//! Knows no caller: what is refused here is refused in every access mode. The answers are 400, and state the reason.

use envoy_types::pb::envoy::{
    config::{
        common::mutation_rules::v3::{
            HeaderMutation,
            header_mutation::{self, RemoveOnMatch},
        },
        core::v3::{
            HeaderValue, HeaderValueOption, Http1ProtocolOptions, HttpProtocolOptions, TypedExtensionConfig,
            header_value_option::HeaderAppendAction,
            http_protocol_options::HeadersWithUnderscoresAction,
            http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
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
            network::http_connection_manager::v3::HttpFilter,
        },
        http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation,
        http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};

use super::{filter::http_filter, rbac, retry, route, wire};
use crate::mesh::settings::Settings;

/// Prefixes of the headers that only proxies write: Envoy's own, some of which it would obey, and those of this mesh.
/// Applications cannot know which peer wrote them. `x-forwarded-*` stay, see docs/limits.md.
const OF_PROXIES: [&str; 2] = ["x-envoy-", "x-smidge-"];

/// Pattern of a path that servers read in several ways, with whatever follows it. Envoy has followed its dot segments
/// and decoded what needs no escape, so the rest of them is hidden from it by parameters: servers that drop parameters
/// (after `;`) and then follow dot segments read `/a/..;/b` as `/b`, and `/a/;x/b` as `/a/b`. The name in front of the
/// parameters of the last segment may be empty: `/;jsessionid=1` is what such servers write themselves.
const AMBIGUOUS: &str = "[^?]*/(?:\\.\\.?(?:;|%3[Bb]).*|;[^/?]*/.*)";

/// The one protocol to which a connection may switch.
pub const WEBSOCKET: &str = "websocket";

/// Header by which the workload's proxy names the verified caller. Its name has one of the prefixes that are removed from
/// every request, whether or not the setting is on: no caller can set it, and turning it on or off opens no gap.
const CALLER: &str = "x-smidge-caller";

/// Builds the limits of the head of a message.
pub fn limits(settings: &Settings) -> HttpProtocolOptions {
    HttpProtocolOptions {
        max_headers_count: wire::number(settings.max_headers),
        ..HttpProtocolOptions::default()
    }
}

/// Builds the options of a server that refuse header names with `_`: many servers read it as `-`, so that such a name
/// could carry a second value of a header that was judged.
pub fn strict_names(settings: &Settings) -> HttpProtocolOptions {
    HttpProtocolOptions {
        headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest as i32,
        ..limits(settings)
    }
}

/// Builds the limits of the head of a server's response.
pub fn response_limits(settings: &Settings) -> HttpProtocolOptions {
    HttpProtocolOptions { max_response_headers_kb: wire::number(settings.max_head_kib), ..limits(settings) }
}

/// Builds the options of HTTP/1 of either side of a proxy: names of headers keep their case, reason phrases their text, and
/// trailers are passed on. Between two proxies HTTP/1 stays HTTP/1, so that they come through both.
pub fn http1() -> Http1ProtocolOptions {
    let formatter =
        PreserveCaseFormatterConfig { forward_reason_phrase: true, ..PreserveCaseFormatterConfig::default() };
    let formatter = wire::extension("envoy.http.stateful_header_formatters.preserve_case", formatter);
    Http1ProtocolOptions {
        header_key_format: Some(HeaderKeyFormat {
            header_format: Some(HeaderFormat::StatefulFormatter(formatter)),
        }),
        enable_trailers: true,
        ..Http1ProtocolOptions::default()
    }
}

/// Builds the options of HTTP/1 towards a client. `host` is that of requests over HTTP/1.0 that name none, which Envoy would
/// refuse and servers take.
pub fn http1_of_client(host: &str) -> Http1ProtocolOptions {
    Http1ProtocolOptions {
        accept_http_10: true,
        default_host_for_http_10: host.to_owned(),
        // An offer of another protocol may be ignored, and a proxy that cannot switch must.
        ignore_http_11_upgrade: vec![other_upgrades()],
        ..http1()
    }
}

/// Builds the pattern of the protocols to which a request over HTTP/1.1 may offer to switch and that are not served: all
/// but WebSocket, in a syntax without negation. It leaves other names that begin with `webs`, of which none is registered:
/// every listener has a copy, and the whole name would add 5 KB to each. Classes of ASCII are smaller than those of
/// Unicode, and Envoy takes at most 100 instructions.
fn other_upgrades() -> StringMatcher {
    let other = |rest: Option<String>, (letter, class): &(char, &str)| {
        let longer = rest.map(|rest| format!("|[{letter}{}]({rest})?", letter.to_ascii_lowercase()));
        Some(format!("[{class}][!-~]*{}", longer.unwrap_or_default()))
    };
    let letters = [('W', "!-VX-vx-~"), ('E', "!-DF-df-~"), ('B', "!-AC-ac-~"), ('S', "!-RT-rt-~")];
    let regex = letters.iter().rev().fold(None, other).unwrap_or_default();
    text(MatchPattern::SafeRegex(RegexMatcher { regex, ..RegexMatcher::default() }))
}

/// Builds the mutation before a route is chosen: removes what only proxies write, and keeps the path without its query
/// for `route`.
pub fn early() -> TypedExtensionConfig {
    let mut mutations: Vec<HeaderMutation> = of_proxies().collect();
    mutations.push(overwrite(route::PATH_HEADER, "%PATH(NQ:PATH)%"));
    wire::extension("envoy.http.early_header_mutation.header_mutation", EarlyHeaderMutation { mutations })
}

/// Builds the filter that removes what only proxies write, also what Envoy itself made of the caller's claims before
/// any filter, and the trailers of requests; then it names the verified caller where that is set.
pub fn own_headers(names_caller: bool) -> HttpFilter {
    let mut request_mutations: Vec<HeaderMutation> = of_proxies().collect();
    request_mutations.extend(names_caller.then(|| overwrite(CALLER, "%DOWNSTREAM_PEER_URI_SAN%")));
    let mutations = Mutations {
        request_mutations,
        // Some servers read the trailers of a request as headers, which no rule would have judged.
        request_trailers_mutations: vec![remove(MatchPattern::SafeRegex(RegexMatcher {
            regex: ".*".to_owned(),
            ..RegexMatcher::default()
        }))],
        ..Mutations::default()
    };
    let config = HeaderMutationFilter { mutations: Some(mutations), ..HeaderMutationFilter::default() };
    http_filter("envoy.filters.http.header_mutation", &config)
}

fn overwrite(name: &str, value: &str) -> HeaderMutation {
    let option = HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..HeaderValueOption::default()
    };
    HeaderMutation { action: Some(header_mutation::Action::Append(option)) }
}

fn of_proxies() -> impl Iterator<Item = HeaderMutation> {
    OF_PROXIES.into_iter().map(|prefix| remove(MatchPattern::Prefix(prefix.to_owned())))
}

fn remove(names: MatchPattern) -> HeaderMutation {
    let key_matcher = Some(text(names));
    HeaderMutation { action: Some(header_mutation::Action::RemoveOnMatch(RemoveOnMatch { key_matcher })) }
}

/// Builds the filter that keeps the path without its query for `rbac`: a pattern over the whole `:path` could be met by
/// text in the query. It keeps the number of the attempt for `retry`, which `own_headers` removes. `plain` is true for
/// callers in plaintext, whose number is a claim.
pub fn kept_state(plain: bool) -> HttpFilter {
    let state = FilterStateValue {
        key: Some(filter_state_value::Key::ObjectKey(rbac::PATH_STATE.to_owned())),
        factory_key: "envoy.string".to_owned(),
        // `:path` by name, as the default would prefer a header that callers can set.
        value: Some(filter_state_value::Value::FormatString(wire::format("%PATH(NQ:PATH)%"))),
        ..FilterStateValue::default()
    };
    let config = set_filter_state::v3::Config {
        on_request_headers: std::iter::once(state).chain((!plain).then(retry::attempt_state)).collect(),
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

/// Matches an ambiguous path.
pub fn ambiguous() -> HeaderMatcher {
    let regex = RegexMatcher { regex: AMBIGUOUS.to_owned(), ..RegexMatcher::default() };
    HeaderMatcher {
        name: ":path".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(MatchPattern::SafeRegex(regex)))),
        ..HeaderMatcher::default()
    }
}

/// Wraps a pattern.
pub fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}
