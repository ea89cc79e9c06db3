//! Machines are admitted by a certificate of their authority that names them, and by nothing else: attacks on the
//! certificate, its key and its object, in the authenticator alone and over TLS against the server.

use std::{
    collections::BTreeMap, fs::Permissions, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration,
};

use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SanType};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use smidge::auth::{
    Metrics,
    machines::{Hex, MachineAuthenticator, Settings, key_digest},
    reason::Reason,
};
use smidge::lower::machine::Machine;
use smidge_testing::{api_server::Hands, tokens::NOW};
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::{Admission, Authenticator as _, Presented, Refusal},
};
use time::OffsetDateTime;
use tokio::{sync::watch, time::timeout};
use tonic::metadata::MetadataMap;

mod tls;

/// Machines by namespace and name.
type Objects = BTreeMap<(String, String), Machine>;

fn find(objects: &Objects, namespace: &str, name: &str) -> Option<Machine> {
    objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
}

fn machine(pinned: Option<&KeyPair>) -> Machine {
    let pinned_key = pinned.map(|key| key_digest(&key.subject_public_key_info()));
    Machine { service_account: "db".to_owned(), pinned_key }
}

/// An authenticator of machines whose objects the test publishes.
struct Harness {
    objects: watch::Sender<Objects>,
    hands: Hands,
    registry: Registry,
    authenticator: Arc<MachineAuthenticator<Objects>>,
}

impl Harness {
    fn new(now: i64) -> Self {
        let (objects, hands, mut registry) = (watch::Sender::default(), Hands::at(now), Registry::default());
        let authenticator = Arc::new(MachineAuthenticator::new(Settings {
            domain: TrustDomain::default(),
            cluster: ClusterId::default(),
            objects: objects.subscribe(),
            lookup: find,
            clock: hands.clock(),
            metrics: Metrics::register(&mut registry),
        }));
        Self { objects, hands, registry, authenticator }
    }

    /// Publishes `shop/db-1` as this machine, or without it.
    fn publish(&self, machine: Option<Machine>) {
        let key = ("shop".to_owned(), "db-1".to_owned());
        self.objects.send_modify(|objects| match machine {
            Some(machine) => drop(objects.insert(key, machine)),
            None => drop(objects.remove(&key)),
        });
    }

    async fn admit(&self, chain: &[CertificateDer<'static>]) -> Result<Admission, Refusal> {
        self.authenticator.admit(&Presented { metadata: &MetadataMap::new(), chain }).await
    }

    async fn reason(&self, chain: &[CertificateDer<'static>]) -> String {
        let refusal = self.admit(chain).await.expect_err("the certificate was taken");
        refusal.detail.split(':').next().unwrap().to_owned()
    }

    fn counted(&self, result: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let series = format!("stream_authentications_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).expect(result).parse().unwrap()
    }
}

/// A certificate as TLS would have verified it, with these names, valid for an hour around `NOW`.
fn certificate(key: &KeyPair, names: &[SanType]) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW - 300).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW + 3600).unwrap();
    params.self_signed(key).unwrap().der().clone()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn good() -> SanType {
    uri("spiffe://cluster.local/machine/shop/db-1")
}

/// Returns true if the streams of `admission` have received the signal to end.
async fn is_gone(admission: &mut Admission) -> bool {
    timeout(Duration::ZERO, &mut admission.gone).await.is_ok()
}

#[tokio::test]
async fn a_machine_with_an_object_is_admitted_as_its_account() {
    let (harness, key) = (Harness::new(NOW), KeyPair::generate().unwrap());
    harness.publish(Some(machine(None)));
    let admission = harness.admit(&[certificate(&key, &[good()])]).await.unwrap();
    assert_eq!(admission.proxy.to_string(), "local/shop/external:db-1");
    assert_eq!(admission.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/db");
    assert_eq!(
        (admission.workload_kind.as_str(), admission.workload_name.as_str()),
        ("ExternalWorkload", "db-1")
    );
    assert_eq!(admission.expires_in, Duration::from_hours(1));
    assert_eq!(harness.counted("Admitted"), 1);
}

#[tokio::test]
async fn every_name_but_the_machines_own_refuses() {
    let (harness, key) = (Harness::new(NOW), KeyPair::generate().unwrap());
    harness.publish(Some(machine(None)));
    let dns = SanType::DnsName("db-1.shop".try_into().unwrap());
    let cases: Vec<Vec<SanType>> = vec![
        vec![],
        vec![dns.clone()],
        vec![good(), good()],
        vec![good(), uri("spiffe://cluster.local/machine/shop/db-2")],
        vec![good(), dns],
        vec![uri("spiffe://other.domain/machine/shop/db-1")],
        vec![uri("spiffe://cluster.local.other/machine/shop/db-1")],
        vec![uri("spiffe://cluster.local/ns/shop/sa/db")],
        vec![uri("spiffe://cluster.local/machine/shop/db-1/x")],
        vec![uri("spiffe://cluster.local/machine/shop/x/../db-1")],
        vec![uri("spiffe://cluster.local/machine/shop/db%2d1")],
        vec![uri("spiffe://cluster.local/machine/shop%2fdb-1")],
        vec![uri("spiffe://cluster.local/machine/shop/DB-1")],
        vec![uri("spiffe://cluster.local/machine//db-1")],
        vec![uri("spiffe://cluster.local/machine/shop/db-1?x")],
        vec![uri("spiffe://cluster.local/machine/shop/")],
    ];
    for names in cases {
        assert_eq!(harness.reason(&[certificate(&key, &names)]).await, "NotMachine", "{names:?}");
    }
    assert_eq!(harness.counted("Admitted"), 0);
    // The leaf alone counts: what comes after it names nobody.
    let chain = [certificate(&key, &[]), certificate(&key, &[good()])];
    assert_eq!(harness.reason(&chain).await, "NotMachine");
}

#[tokio::test]
async fn an_authority_is_no_machine_and_junk_is_no_certificate() {
    let (harness, key) = (Harness::new(NOW), KeyPair::generate().unwrap());
    harness.publish(Some(machine(None)));
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![good()];
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().der().clone();
    assert_eq!(harness.reason(&[authority]).await, "NotMachine");
    assert_eq!(harness.reason(&[]).await, "NoCertificate");
    let whole = certificate(&key, &[good()]);
    let longer = [&*whole, b"x"].concat();
    for junk in [&[] as &[u8], b"junk", &whole[..whole.len() - 1], &longer] {
        let junk = CertificateDer::from(junk.to_vec());
        assert_eq!(harness.reason(&[junk]).await, "MalformedCertificate");
    }
    assert_eq!(harness.counted(Reason::NoCertificate.as_str()), 1);
    assert_eq!(harness.counted(Reason::MalformedCertificate.as_str()), 4);
}

#[tokio::test]
async fn a_certificate_counts_while_it_is_valid_by_our_clock() {
    let (harness, key) = (Harness::new(NOW), KeyPair::generate().unwrap());
    harness.publish(Some(machine(None)));
    let chain = [certificate(&key, &[good()])];
    harness.hands.advance(time::Duration::seconds(3599));
    assert_eq!(harness.admit(&chain).await.unwrap().expires_in, Duration::from_secs(1));
    harness.hands.advance(time::Duration::seconds(1));
    assert_eq!(harness.reason(&chain).await, "Expired");
    harness.hands.advance(time::Duration::seconds(-3901));
    assert_eq!(harness.reason(&chain).await, "NotYetValid");
}

#[tokio::test]
async fn a_pinned_key_admits_no_other() {
    let (harness, key, other) =
        (Harness::new(NOW), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    harness.publish(Some(machine(Some(&key))));
    harness.admit(&[certificate(&key, &[good()])]).await.unwrap();
    let refusal = harness.admit(&[certificate(&other, &[good()])]).await.unwrap_err();
    assert!(refusal.detail.starts_with("KeyMismatch: machine shop/db-1, key sha256:"), "{refusal}");
}

#[tokio::test]
async fn a_machine_without_an_object_is_refused_until_it_has_one() {
    let (harness, key) = (Harness::new(NOW), KeyPair::generate().unwrap());
    let chain = [certificate(&key, &[good()])];
    assert_eq!(harness.reason(&chain).await, "MachineUnknown");
    harness.publish(Some(machine(None)));
    harness.admit(&chain).await.unwrap();
    let elsewhere = [certificate(&key, &[uri("spiffe://cluster.local/machine/other/db-1")])];
    assert_eq!(harness.reason(&elsewhere).await, "MachineUnknown", "of another namespace");
}

#[tokio::test]
async fn a_stream_ends_when_its_object_says_something_else_and_not_before() {
    let (harness, key, other) =
        (Harness::new(NOW), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let chain = [certificate(&key, &[good()])];
    let renamed = Machine { service_account: "web".to_owned(), pinned_key: None };
    for change in [None, Some(renamed), Some(machine(Some(&other)))] {
        harness.publish(Some(machine(None)));
        let mut admission = harness.admit(&chain).await.unwrap();
        let mut unpolled = harness.admit(&chain).await.unwrap();
        assert!(!is_gone(&mut admission).await);
        // Pinning the key that it has changes nothing.
        harness.publish(Some(machine(Some(&key))));
        assert!(!is_gone(&mut admission).await);
        harness.publish(change.clone());
        assert!(is_gone(&mut admission).await, "{change:?}");
        assert!(is_gone(&mut unpolled).await, "a change before the first look was missed: {change:?}");
    }
    harness.publish(Some(machine(None)));
    let mut admission = harness.admit(&chain).await.unwrap();
    drop(harness.objects);
    assert!(is_gone(&mut admission).await, "nobody would end it any more");
}

/// A folder that only its owner may read.
fn private_folder() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

#[test]
fn a_machine_is_read_from_an_object_with_a_valid_identity() {
    let read = |spec: serde_json::Value| Machine::read(&serde_json::from_value(spec).unwrap());
    let account = |name: &str| Some(Machine { service_account: name.to_owned(), pinned_key: None });
    assert_eq!(read(json!({})), account("default"));
    assert_eq!(read(json!({"serviceAccount": ""})), account("default"));
    assert_eq!(read(json!({"serviceAccount": "db"})), account("db"));
    for name in ["db/sa/admin", "DB", "..", "d b"] {
        assert_eq!(read(json!({"serviceAccount": name})), None, "{name}");
    }
    let key = KeyPair::generate().unwrap();
    let digest = key_digest(&key.subject_public_key_info());
    let pin = format!("sha256:{}", Hex(&digest));
    let pinned = read(json!({"credential": {"publicKey": pin}})).unwrap();
    assert_eq!(pinned.pinned_key, Some(digest));
    for pin in ["", "sha256:", &pin[..pin.len() - 1], &pin.replace("sha256", "sha512")] {
        assert_eq!(read(json!({"credential": {"publicKey": pin}})), None, "{pin:?} pins nothing");
    }
}
