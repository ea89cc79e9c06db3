//! Content of a leaf certificate, read by other implementations than the one that wrote it, and its validity.

use std::{sync::Arc, time::Duration};

use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use smidge::ca::pem;
use smidge_xds::{resources::Version, server::CertSource as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{ApiServer, Authorities, Credentials, Hands, NOW, holder, leaf, open};

pub fn chain(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
    pem::certificates(credentials.chain.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_leaf_is_an_svid_with_the_workload_in_its_subject() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    let credentials = leaf(&authorities).await;
    let chain = chain(&credentials);
    assert_eq!(chain.len(), 2, "leaf and intermediate, no root");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "OU=Deployment, CN=web-v1");
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags.is_power_of_two());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(!leaf.is_ca());
    assert_eq!(leaf.validity().not_before.timestamp(), NOW - 300);
    assert_eq!(leaf.validity().not_after.timestamp(), NOW + 86_400);
    let pair = rcgen::KeyPair::from_pem(&credentials.key).unwrap();
    assert_eq!(pair.algorithm(), &rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(rcgen::PublicKeyData::subject_public_key_info(&pair), leaf.public_key().raw);
}

#[tokio::test]
async fn authorities_of_workloads_carry_the_trust_domain_only_and_others_none() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    let root = authorities.workload_bundle().roots.into_iter().next().unwrap();
    let intermediate = chain(&leaf(&authorities).await).remove(1);
    for (der, below) in [(pem::certificates(root.as_bytes()).unwrap().remove(0), 1), (intermediate, 0)] {
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://cluster.local")]);
        let basic = certificate.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(below));
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && !usage.digital_signature());
    }
    let webhooks = pem::certificates(authorities.webhook_ca_bundle().as_bytes()).unwrap();
    let (_, root) = X509Certificate::from_der(&webhooks[0]).unwrap();
    assert!(root.subject_alternative_name().unwrap().is_none());
}

pub fn judge(roots: impl IntoIterator<Item = String>, chain: &[CertificateDer<'static>], at: i64) -> bool {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(pem::certificates(root.as_bytes()).unwrap().remove(0)).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap()));
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

#[tokio::test]
async fn webpki_takes_a_leaf_under_its_own_authority_only_and_for_a_day() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    let chain = chain(&leaf(&authorities).await);
    let bundle = || authorities.workload_bundle().roots;
    assert!(judge(bundle(), &chain, NOW));
    assert!(judge(bundle(), &chain, NOW - 299), "a peer whose clock is behind");
    assert!(!judge(bundle(), &chain, NOW + 86_401));
    assert!(!judge(authorities.control_plane_roots(), &chain, NOW));
    assert!(!judge([authorities.webhook_ca_bundle()], &chain, NOW));
}

#[tokio::test]
async fn every_leaf_has_a_key_serial_and_renewal_of_its_own() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    let (mut keys, mut serials, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let credentials = leaf(&authorities).await;
        let der = chain(&credentials).remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        serials.push(certificate.raw_serial().to_vec());
        keys.push(credentials.key.to_string());
        versions.push(credentials.version.clone());
    }
    for distinct in [&mut serials, &mut keys.into_iter().map(String::into_bytes).collect()] {
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 20);
    }
    versions.sort();
    versions.dedup();
    assert!(versions.len() > 15, "renewals are not spread");
}

fn left(authorities: &Authorities, account: &str, version: &Version) -> Option<Duration> {
    authorities.leaves().renew_in(&holder(account), version)
}

#[tokio::test]
async fn a_leaf_is_kept_until_it_is_due_and_by_its_own_identity_only() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    let version = leaf(&authorities).await.version;
    let due = left(&authorities, "web", &version).unwrap();
    assert!((12 * 3600..=16 * 3600).contains(&due.as_secs()), "due in {due:?}");
    assert_eq!(left(&authorities, "db", &version), None);
    assert_eq!(left(&authorities, "web", &Version::new("deadbeef")), None);
    hands.advance(time::Duration::hours(11));
    assert_eq!(left(&authorities, "web", &version).unwrap() + Duration::from_hours(11), due);
    hands.advance(time::Duration::hours(6));
    assert_eq!(left(&authorities, "web", &version), None);
}

#[tokio::test]
async fn a_leaf_lives_for_the_lifetime_that_is_set_and_is_renewed_in_time() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    let source = authorities.leaves().with_lifetime(Duration::from_mins(1));
    let issued = source.issue(&holder("web")).await.unwrap();
    let due = left(&authorities, "web", &issued.version).unwrap();
    assert!((30..=40).contains(&due.as_secs()), "due in {due:?}");
    let chain = chain(&issued);
    assert!(judge(authorities.workload_bundle().roots, &chain, NOW + 59));
    assert!(!judge(authorities.workload_bundle().roots, &chain, NOW + 61));
}
