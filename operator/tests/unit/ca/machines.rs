//! Certificates of machines: their content, and that no other authority's peers accept them, nor they others'.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, UnixTime};
use smidge::ca::{
    Authorities, AuthorityName, MACHINE_LIFETIME, MachineId, MachineIssuer, Metrics, Secrets, issue, pem,
    root::{RootError, existing_roots},
};
use smidge_testing::api_server::{ApiServer, Hands};
use smidge_xds::mesh::id::TrustDomain;
use tempfile::TempDir;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{NOW, leaf, leaves, open, serving};

fn private_folder() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

async fn open_with_machines(path: &Path, hands: &Hands) -> Result<Authorities, RootError> {
    let secrets = Secrets::folder(path).await?;
    let opening =
        Authorities::open_with_machines(secrets, TrustDomain::default(), hands.clock(), Metrics::default());
    Box::pin(opening).await
}

async fn issuer(path: &Path, now: OffsetDateTime) -> Result<MachineIssuer, RootError> {
    MachineIssuer::open(&Secrets::folder(path).await?, TrustDomain::default(), now).await
}

fn certificate(
    issuer: &MachineIssuer,
    lifetime: time::Duration,
    hands: &Hands,
) -> Vec<CertificateDer<'static>> {
    let (machine, pair): (MachineId, _) = ("shop/db-1".parse().unwrap(), issue::pair().unwrap());
    let made = issuer.issue(&machine, &*pair, lifetime, hands.now()).unwrap();
    pem::certificates(made.chain.as_bytes()).unwrap()
}

/// Returns true if a server that asks for certificates of machines accepts the client with `chain`.
fn is_accepted(authorities: &Authorities, chain: &[CertificateDer<'static>], at: i64) -> bool {
    let verifier = authorities.machine_verifier().unwrap();
    assert!(verifier.client_auth_mandatory(), "a client without a certificate gets in");
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap()));
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

#[tokio::test]
async fn a_certificate_of_a_machine_names_the_machine_and_is_for_clients_only() {
    let (folder, hands) = (private_folder(), Hands::at(NOW));
    let authorities = open_with_machines(folder.path(), &hands).await.unwrap();
    let issuer = issuer(folder.path(), hands.now()).await.unwrap();
    let chain = certificate(&issuer, MACHINE_LIFETIME, &hands);
    assert_eq!(chain.len(), 2, "leaf and intermediate, no root");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://cluster.local/machine/shop/db-1")]);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags.is_power_of_two());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && !extended.any);
    assert!(leaf.basic_constraints().unwrap().is_some_and(|basic| !basic.value.ca));
    assert_eq!(leaf.validity().not_before.timestamp(), NOW - 300);
    assert_eq!(leaf.validity().not_after.timestamp(), NOW + 30 * 86_400);
    assert!(is_accepted(&authorities, &chain, NOW) && is_accepted(&authorities, &chain, NOW - 299));
    assert!(!is_accepted(&authorities, &chain, NOW + 30 * 86_400 + 1));
    // As long as its issuer at most.
    let long = certificate(&issuer, time::Duration::days(5000), &hands);
    let (_, long) = X509Certificate::from_der(&long[0]).unwrap();
    assert_eq!(long.validity().not_after.timestamp(), NOW + 365 * 86_400);
}

#[tokio::test]
async fn what_one_authority_signs_no_other_accepts() {
    // The client of the handshakes has the machine's clock.
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let (folder, hands, domain) = (private_folder(), Hands::at(now), TrustDomain::default());
    let authorities = open_with_machines(folder.path(), &hands).await.unwrap();
    let issuer = issuer(folder.path(), hands.now()).await.unwrap();
    let machine = certificate(&issuer, MACHINE_LIFETIME, &hands);
    let secrets = Secrets::existing_folder(folder.path()).await.unwrap();
    let roots = existing_roots(&secrets, AuthorityName::Machines, &domain, hands.now());
    let roots = roots.await.unwrap().certificates();
    assert!(leaves::judge(roots.clone(), &machine, now));
    let others = [
        authorities.control_plane_roots(),
        authorities.workload_bundle().roots.into_iter().collect(),
        vec![authorities.webhook_ca_bundle()],
    ];
    for others in others {
        assert!(!leaves::judge(others.clone(), &machine, now));
        assert!(others.iter().all(|root| !roots.contains(root)));
    }
    let workload = leaves::chain(&leaf(&authorities).await);
    assert!(!is_accepted(&authorities, &workload, now), "a workload is no machine");
    let certificate_of_server =
        Arc::new(authorities.control_plane_certificate(vec!["smidge".to_owned()]).unwrap());
    serving::handshake(&certificate_of_server, authorities.control_plane_roots(), "smidge").await.unwrap();
    serving::handshake(&certificate_of_server, roots.clone(), "smidge").await.unwrap_err();
    // Another mesh's authority with the same names.
    let elsewhere = private_folder();
    open_with_machines(elsewhere.path(), &hands).await.unwrap();
    let foreign = self::issuer(elsewhere.path(), hands.now()).await.unwrap();
    assert!(!is_accepted(&authorities, &certificate(&foreign, MACHINE_LIFETIME, &hands), now));
}

#[tokio::test]
async fn an_authority_of_machines_exists_only_where_it_was_asked_for() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    assert!(server.objects.secrets.lock().unwrap().keys().all(|name| !name.contains("machines")));
    authorities.machine_verifier().expect_err("nobody could be verified");
    let folder = private_folder();
    let error = issuer(folder.path(), hands.now()).await.unwrap_err().to_string();
    assert!(error.contains("smidge-root-machines") && error.contains("control plane creates"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "an authority that nobody trusts");
}

#[tokio::test]
async fn a_certificate_outlives_the_renewal_of_its_intermediate() {
    let (folder, hands) = (private_folder(), Hands::at(NOW));
    let authorities = open_with_machines(folder.path(), &hands).await.unwrap();
    hands.advance(time::Duration::days(182));
    let first = issuer(folder.path(), hands.now()).await.unwrap();
    let old = certificate(&first, MACHINE_LIFETIME, &hands);
    hands.advance(time::Duration::days(1));
    authorities.refresh().await.unwrap();
    let new = certificate(&issuer(folder.path(), hands.now()).await.unwrap(), MACHINE_LIFETIME, &hands);
    assert_ne!(old[1], new[1], "the intermediate was not renewed");
    for chain in [old, new] {
        assert!(is_accepted(&authorities, &chain, hands.now().unix_timestamp()));
    }
}
