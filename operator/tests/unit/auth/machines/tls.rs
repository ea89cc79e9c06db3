//! The server over TLS with client certificates: who gets a stream, and what ends it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use smidge::{
    ca::{
        self, Authorities, MACHINE_LIFETIME, MachineId, MachineIssuer, STANDALONE_SERVER_NAME as NAME,
        Secrets, ServingCertificate, pem,
    },
    clock::Clock,
    tls,
};
use smidge_testing::tls::Authority;
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, SpiffeId, TrustDomain},
    server::{CertSource as _, Holder, Server},
};
use smidge_xds_testing::{client, fixture};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Harness, Machine, machine, private_folder};

const DEADLINE: Duration = Duration::from_secs(20);

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A control plane that admits machines, with the authorities of a folder.
struct ControlPlane {
    harness: Harness,
    folder: TempDir,
    authorities: Authorities,
    address: SocketAddr,
    _handles: fixture::Handles,
}

impl ControlPlane {
    async fn start() -> Self {
        let harness = Harness::new(OffsetDateTime::now_utc().unix_timestamp());
        let folder = private_folder();
        let secrets = Secrets::folder(folder.path()).await.unwrap();
        let (domain, metrics) = (TrustDomain::default(), ca::Metrics::default());
        let opening = Authorities::open_with_machines(secrets, domain, Clock::system(), metrics);
        let authorities = Box::pin(opening).await.unwrap();
        let certificate: Arc<ServingCertificate> =
            Arc::new(authorities.control_plane_certificate(vec![NAME.to_owned()]).unwrap());
        let verifier = authorities.machine_verifier().unwrap();
        let config = certificate.tls_asking(&[b"h2"], verifier).unwrap();
        let (server, handles) = fixture::server(None);
        let Server {
            authenticator: _,
            certificates,
            hub,
            metrics,
            proxies,
            reports,
            nacks,
            compute_limiter,
            settings,
        } = server;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, connections) = mpsc::channel(64);
        tokio::spawn(tls::accept(listener, config, compute_limiter.clone(), 100, accepted));
        let server = Server {
            authenticator: Arc::clone(&harness.authenticator),
            certificates,
            hub,
            metrics,
            proxies,
            reports,
            nacks,
            compute_limiter,
            settings,
        };
        tokio::spawn(server.serve(ReceiverStream::new(connections), std::future::pending()));
        Self { harness, folder, authorities, address, _handles: handles }
    }

    /// Issues a certificate for a key of this machine.
    async fn certificate(&self, machine: &str, key: &KeyPair) -> Chain {
        let secrets = Secrets::existing_folder(self.folder.path()).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let authority = MachineIssuer::open(&secrets, TrustDomain::default(), now).await.unwrap();
        let machine: MachineId = machine.parse().unwrap();
        let issued = authority.issue(&machine, key, MACHINE_LIFETIME, now).unwrap();
        (
            pem::certificates(issued.chain.as_bytes()).unwrap(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// Opens a stream over a connection with this client certificate.
    async fn open(&self, presented: Option<Chain>) -> Result<client::Client, Status> {
        let mut roots = RootCertStore::empty();
        for root in self.authorities.control_plane_roots() {
            roots.add(pem::certificates(root.as_bytes()).unwrap().remove(0)).unwrap();
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match presented {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        // A client of TLS 1.3 learns of the refusal of its certificate only after the handshake.
        let connection = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        client::open_on(connection).await
    }
}

/// Returns the status with which a stream ends.
async fn end(client: &mut client::Client) -> Code {
    let next = timeout(DEADLINE, client.responses.message()).await.expect("still open");
    next.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn a_machine_gets_a_stream_by_its_certificate_and_loses_it_with_its_object() {
    let control_plane = ControlPlane::start().await;
    let key = KeyPair::generate().unwrap();
    let chain = control_plane.certificate("shop/db-1", &key).await;
    let again = (chain.0.clone(), chain.1.clone_key());
    let unknown = control_plane.open(Some(chain)).await.err().expect("it has no object");
    assert_eq!((unknown.code(), unknown.message()), (Code::PermissionDenied, "not permitted"));
    let renamed = Machine { service_account: "web".to_owned(), pinned_key: None };
    for change in [None, Some(renamed)] {
        control_plane.harness.publish(Some(machine(Some(&key))));
        let mut client = control_plane.open(Some((again.0.clone(), again.1.clone_key()))).await.unwrap();
        client.introduce("external:db-1").await;
        control_plane.harness.publish(change);
        assert_ne!(end(&mut client).await, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_connection_without_a_machines_certificate_gets_no_stream() {
    let control_plane = ControlPlane::start().await;
    control_plane.harness.publish(Some(machine(None)));
    let elsewhere = ControlPlane::start().await;
    let key = KeyPair::generate().unwrap();
    let holder = Holder {
        proxy: ProxyId {
            cluster: ClusterId::default(),
            namespace: "shop".to_owned(),
            instance: "external:db-1".to_owned(),
        },
        identity: SpiffeId {
            trust_domain: TrustDomain::default(),
            namespace: "shop".to_owned(),
            service_account: "db".to_owned(),
        },
        workload_kind: "ExternalWorkload".to_owned(),
        workload_name: "db-1".to_owned(),
    };
    let leaf = control_plane.authorities.leaves().issue(&holder).await.unwrap();
    let workload = (
        pem::certificates(leaf.chain.as_bytes()).unwrap(),
        PrivateKeyDer::Pkcs8(pem::private_key(leaf.key.as_bytes()).unwrap().to_vec().into()),
    );
    let foreign = elsewhere.certificate("shop/db-1", &key).await;
    // The chain of one, the key of which belongs to another.
    let (own, _) = control_plane.certificate("shop/db-1", &key).await;
    let mut mixed = foreign.0.clone();
    mixed.extend(own.into_iter().skip(1));
    let mixed = (mixed, PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    let unrelated = Authority::new("machines issuer").client("db-1", &["db-1"]);
    let cases = [
        ("none", None),
        ("a workload's", Some(workload)),
        ("another mesh's", Some(foreign)),
        ("another mesh's under our intermediate", Some(mixed)),
        ("an unrelated one", Some(unrelated)),
    ];
    for (what, presented) in cases {
        let refused = timeout(DEADLINE, control_plane.open(presented)).await.expect("it is kept waiting");
        assert!(refused.is_err(), "a stream for {what}");
    }
    assert_eq!(control_plane.harness.counted("Admitted"), 0);
    let good = control_plane.certificate("shop/db-1", &key).await;
    control_plane.open(Some(good)).await.expect("the certificate of the machine");
}
