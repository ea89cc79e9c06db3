//! Turns a request for a certificate into a signed one.
//!
//! Called by `root` for roots and intermediates, by `source` for the leaves of workloads, by `machines` for those of
//! machines and by `serving` for those of our own servers. Pure: time, serial numbers and key pairs are parameters, so nothing here fails except for a reason
//! in its arguments. Profiles follow SPIFFE's X.509-SVID (exactly one URI SAN on a leaf, the trust domain's own on its
//! authorities) and RFC 5280; Envoy since 1.39 always enforces `keyUsage`.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use smidge_xds::mesh::id::{SpiffeId, TrustDomain};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::{Zeroize as _, Zeroizing};

use super::{machine_id::MachineId, pem};

/// Lifetime of a root. Long, because every client must trust the next root before it can replace this one.
pub const ROOT_LIFETIME: Duration = Duration::days(3650);
/// Lifetime of an intermediate. It is replaced at half of it, so there are six months to notice a failed renewal.
pub const INTERMEDIATE_LIFETIME: Duration = Duration::days(365);
/// Lifetime of a leaf.
pub const LEAF_LIFETIME: Duration = Duration::hours(24);
/// Time by which validity starts in the past, so that a peer whose clock is a little behind accepts a new certificate.
pub const CLOCK_SKEW: Duration = Duration::minutes(5);
/// Minimum time that an issuer must have left to issue a certificate.
const SHORTEST: Duration = Duration::hours(1);

/// Error of issuing a certificate or of using an issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The issuer's own certificate ends too soon.
    #[error("failed to issue: the issuing certificate ends at {0}")]
    IssuerEnds(OffsetDateTime),
    /// A name does not fit into a certificate.
    #[error("failed to issue: invalid name {0:?}")]
    InvalidName(String),
    /// The certificate of an issuer is not one of an authority, or not that of the key.
    #[error("invalid issuer: {0}")]
    InvalidIssuer(&'static str),
    /// The library failed to sign or encode.
    #[error("failed to sign a certificate")]
    Sign(#[source] rcgen::Error),
}

/// Purpose of a certificate.
#[derive(Debug, Clone, Copy)]
pub enum Profile<'a> {
    /// A root; signs intermediates only.
    Root(Subject<'a>),
    /// An intermediate; signs leaves only.
    Intermediate(Subject<'a>),
    /// The leaf of a proxy, for both ends of mTLS. `kind` and `name` are those of the instance's owner, for example
    /// `Deployment` `bookstore-v1`; they become `OU` and `CN` of the subject, which metrics read.
    Workload {
        /// The one URI SAN.
        identity: &'a SpiffeId,
        /// Kind of the owner.
        kind: &'a str,
        /// Name of the owner.
        name: &'a str,
        /// Lifetime of the certificate.
        lifetime: Duration,
    },
    /// The leaf by which a machine's proxy authenticates to the control plane. No server accepts it as that of a
    /// workload, and no client as that of a server.
    Machine {
        /// The machine; its ID is the one URI SAN.
        machine: &'a MachineId,
        /// Trust domain of that ID.
        domain: &'a TrustDomain,
        /// Lifetime of the certificate.
        lifetime: Duration,
    },
    /// The leaf of one of our own servers.
    Server {
        /// The DNS SANs.
        names: &'a [String],
    },
}

/// Subject of an authority's certificate.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its common name, for people.
    pub name: &'a str,
    /// Trust domain in its URI SAN; `None` for authorities whose leaves are no SPIFFE identities.
    pub domain: Option<&'a TrustDomain>,
}

/// Serial number: positive, 126 bits of randomness, always 16 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Creates the serial number from these random bytes.
    pub fn new(mut random: [u8; 16]) -> Self {
        // Neither negative nor with a leading zero byte, for any random bytes.
        if let Some(first) = random.first_mut() {
            *first = (*first & 0x7f) | 0x40;
        }
        Self(random)
    }
}

/// Authority that is ready to sign: its certificate is parsed once, not for each leaf.
pub struct Issuer {
    signer: rcgen::Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    digest: IssuerDigest,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// Identifies an issuer by its certificate: the first 64 bits of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerDigest([u8; 8]);

impl IssuerDigest {
    /// Computes the digest of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut first = [0; 8];
        first.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(first)
    }
}

impl fmt::Display for IssuerDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Issuer {
    /// Creates the issuer with this certificate and its key. Of the key, only the library's own form is kept, to sign
    /// with; it cannot be wiped. The serialised form is wiped at once.
    pub fn new(certificate: CertificateDer<'static>, mut key: KeyPair) -> Result<Self, IssueError> {
        key.zeroize();
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| IssueError::InvalidIssuer("no X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(IssueError::InvalidIssuer("not the certificate of an authority"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(IssueError::InvalidIssuer("the key does not belong to the certificate"));
        }
        let not_before = parsed.validity().not_before.to_datetime();
        let not_after = parsed.validity().not_after.to_datetime();
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(IssueError::Sign)?;
        let (pem, digest) = (pem::certificate(&certificate), IssuerDigest::of(&certificate));
        Ok(Self { signer, certificate, pem, digest, not_before, not_after })
    }

    /// Returns its own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns its own certificate as PEM: the one after the leaf in a chain.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the digest by which the versions of its leaves name it.
    pub fn digest(&self) -> IssuerDigest {
        self.digest
    }

    /// Returns the end of validity of its own certificate.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Returns the time at which it should be replaced: at half of its lifetime.
    pub fn renew_at(&self) -> OffsetDateTime {
        self.not_before + (self.not_after - self.not_before) / 2
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("digest", &self.digest)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A certificate and the end of its validity.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// End of validity; never after its issuer's.
    pub not_after: OffsetDateTime,
}

/// Signs `public` for `profile`, valid from a little before `now`.
pub fn issue(
    issuer: &Issuer,
    public: &impl PublicKeyData,
    profile: Profile<'_>,
    now: OffsetDateTime,
    serial: Serial,
) -> Result<Issued, IssueError> {
    let not_after = (now + lifetime(profile)).min(issuer.not_after);
    if issuer.not_after - now < SHORTEST {
        return Err(IssueError::IssuerEnds(issuer.not_after));
    }
    let mut params = params(profile, now, serial)?;
    params.not_after = not_after;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(public, &issuer.signer).map_err(IssueError::Sign)?;
    Ok(Issued { certificate: certificate.der().clone(), not_after })
}

/// Creates a new root with `key`.
pub fn root(
    mut key: KeyPair,
    subject: Subject<'_>,
    now: OffsetDateTime,
    serial: Serial,
) -> Result<Issuer, IssueError> {
    key.zeroize();
    let params = params(Profile::Root(subject), now, serial)?;
    let certificate = params.self_signed(&key).map_err(IssueError::Sign)?;
    Issuer::new(certificate.der().clone(), key)
}

/// Generates a key pair, whose serialised key is wiped when it is dropped.
///
/// The form that the cryptographic library keeps to sign with, and the copies that it makes on its stack while it
/// generates a key, cannot be wiped from here.
pub fn pair() -> Result<Zeroizing<KeyPair>, IssueError> {
    KeyPair::generate().map(Zeroizing::new).map_err(IssueError::Sign)
}

fn lifetime(profile: Profile<'_>) -> Duration {
    match profile {
        Profile::Root(_) => ROOT_LIFETIME,
        Profile::Intermediate(_) => INTERMEDIATE_LIFETIME,
        Profile::Server { .. } => LEAF_LIFETIME,
        Profile::Workload { lifetime, .. } | Profile::Machine { lifetime, .. } => lifetime,
    }
}

fn params(
    profile: Profile<'_>,
    now: OffsetDateTime,
    serial: Serial,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + lifetime(profile);
    params.serial_number = Some(SerialNumber::from_slice(&serial.0));
    params.distinguished_name = DistinguishedName::new();
    match profile {
        Profile::Root(subject) => authority(&mut params, subject, 1)?,
        Profile::Intermediate(subject) => authority(&mut params, subject, 0)?,
        Profile::Workload { identity, kind, name, lifetime: _ } => {
            params.distinguished_name.push(DnType::OrganizationalUnitName, kind);
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = vec![uri(identity.to_string())?];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        Profile::Machine { machine, domain, lifetime: _ } => {
            params.is_ca = IsCa::ExplicitNoCa;
            params.subject_alt_names = vec![uri(machine.uri(domain))?];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        Profile::Server { names } => {
            // No subject: clients read the SAN alone, and a DNS name may be longer than a CN can be.
            params.subject_alt_names =
                names.iter().map(|name| dns(name)).collect::<Result<Vec<_>, IssueError>>()?;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
    }
    Ok(params)
}

fn authority(params: &mut CertificateParams, subject: Subject<'_>, below: u8) -> Result<(), IssueError> {
    params.distinguished_name.push(DnType::OrganizationName, "Smidge");
    params.distinguished_name.push(DnType::CommonName, subject.name);
    if let Some(domain) = subject.domain {
        params.subject_alt_names = vec![uri(format!("spiffe://{domain}"))?];
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(())
}

fn uri(text: String) -> Result<SanType, IssueError> {
    text.as_str().try_into().map(SanType::URI).map_err(|_| IssueError::InvalidName(text))
}

fn dns(name: &str) -> Result<SanType, IssueError> {
    name.try_into().map(SanType::DnsName).map_err(|_| IssueError::InvalidName(name.to_owned()))
}
