//! Authentication: the API server's client certificate, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use smidge::traffic_api::front_proxy::{ConfigurationError, Trusted};
use smidge_testing::tls::Authority;

use super::{BASE, Port, configuration, read};

const FORGED: [(&str, &str); 2] = [("x-remote-user", "system:admin"), ("x-remote-group", "system:masters")];

#[tokio::test]
async fn headers_count_only_with_the_api_servers_certificate() {
    let port = Port::open().await;
    let own = || Some(port.front_proxies.client("front-proxy-client", &[]));
    let other = Authority::new("front proxies");
    let callers = [
        ("no certificate", None),
        ("another authority of the same name", Some(other.client("front-proxy-client", &[]))),
        ("another name", Some(port.front_proxies.client("kubelet", &[]))),
        ("the name as a DNS name alone", Some(port.front_proxies.client("kubelet", &["front-proxy-client"]))),
    ];
    let paths =
        ["/apis/metrics.smi-spec.io", BASE, "/openapi/v2", "/healthz", &format!("{BASE}/deployments")];
    for (caller, shown) in callers {
        for path in paths {
            let shown = shown.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
            let (status, document) = read(port.send(shown, path, &FORGED).await).await;
            assert_eq!(status, 401, "{caller}: {path}");
            assert_eq!(document["message"], "Unauthorized", "{caller}: {path}");
        }
    }
    assert!(port.objects.access_reviews.lock().unwrap().is_empty(), "no user was reviewed");
    let (status, _) = read(port.send(own(), &format!("{BASE}/deployments"), &FORGED).await).await;
    assert_eq!(status, 200);
    // Without a user there is none to authorize.
    for headers in [&[][..], &[("x-remote-user", "")], &[("x-remote-group", "system:masters")]] {
        assert_eq!(read(port.send(own(), BASE, headers).await).await.0, 401, "{headers:?}");
    }
}

#[tokio::test]
async fn a_replaced_authority_counts_at_once() {
    let port = Port::open().await;
    assert_eq!(port.ask(BASE, &[]).await.0, 200);
    let next = Authority::new("front proxies");
    let trust = |data: &BTreeMap<_, _>| port.trusting.send_replace(Arc::new(Trusted::parse(data).unwrap()));
    trust(&configuration(&next, &[]));
    assert_eq!(port.ask(BASE, &[]).await.0, 401);
    // Without names, any certificate of the authority is accepted.
    let shown = Some(next.client("any", &[]));
    assert_eq!(read(port.send(shown, BASE, &[("x-remote-user", "ann")]).await).await.0, 200);
    port.trusting.send_replace(Arc::default());
    assert_eq!(read(port.send(Some(next.client("any", &[])), BASE, &FORGED).await).await.0, 401);
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error_that_names_the_field() {
    let authority = Authority::new("front proxies");
    let with = |field: &str, text: &str| {
        let mut data = configuration(&authority, &[]);
        data.insert(field.to_owned(), text.to_owned());
        Trusted::parse(&data).unwrap_err()
    };
    assert_eq!(Trusted::parse(&BTreeMap::new()).unwrap_err(), ConfigurationError::NoAuthorities);
    assert_eq!(with("requestheader-client-ca-file", " "), ConfigurationError::NoAuthorities);
    for text in ["text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(with("requestheader-client-ca-file", text), ConfigurationError::Authorities);
    }
    let error = with("requestheader-allowed-names", &json!({"a": 1}).to_string());
    assert!(error.to_string().contains("requestheader-allowed-names: expected a JSON list"), "{error}");
}
