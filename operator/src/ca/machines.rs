//! Issues the certificates by which machines authenticate to the control plane.
//!
//! Used by the command line, which opens the authority that a control plane has created. The verifier for the control
//! plane's side is in `authorities`. Does not decide which machine may have a certificate, or what it may do with it:
//! whoever can read the authority's keys may issue, and `auth` admits only machines that have an object.

use rcgen::PublicKeyData;
use smidge_xds::mesh::id::TrustDomain;
use time::{Duration, OffsetDateTime};

use super::{
    issue::{self, IssueError, Profile, Serial},
    machine_id::MachineId,
    pem,
    root::{self, RootError},
    secret::{AuthorityName, Issuing},
    store::Secrets,
};

/// Lifetime of a machine's certificate, if the user asks for no other: long enough for a machine that is renewed by a
/// daily timer to be away for some weeks.
pub const MACHINE_LIFETIME: Duration = Duration::days(30);

/// Authority of machines, ready to sign.
#[derive(Debug)]
pub struct MachineIssuer {
    issuing: Issuing,
    domain: TrustDomain,
}

/// Certificate of a machine.
#[derive(Debug, Clone)]
pub struct MachineCertificate {
    /// The certificate and the intermediate that signed it, as PEM.
    pub chain: String,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

impl MachineIssuer {
    /// Opens the authority in `secrets`. It must exist: a new one would be trusted by no control plane.
    pub async fn open(
        secrets: &Secrets,
        domain: TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Self, RootError> {
        root::existing_roots(secrets, AuthorityName::Machines, &domain, now).await?;
        let issuing = root::issuing(secrets, AuthorityName::Machines, &domain, now).await?;
        Ok(Self { issuing, domain })
    }

    /// Issues a certificate for the key `public` of `machine`, valid for `lifetime`, but never longer than its issuer.
    pub fn issue(
        &self,
        machine: &MachineId,
        public: &impl PublicKeyData,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<MachineCertificate, IssueError> {
        let issuer = &self.issuing.issuer;
        let profile = Profile::Machine { machine, domain: &self.domain, lifetime };
        let leaf = issue::issue(issuer, public, profile, now, Serial::new(rand::random()))?;
        let chain = pem::certificate(&leaf.certificate) + issuer.pem();
        Ok(MachineCertificate { chain, not_after: leaf.not_after })
    }
}
