//! Turns the settings of injected pods into the text that the operator publishes, and back, for `smidge inject`.
//!
//! Pure. The text has everything that the webhook uses but the key of the probes' paths, which is a secret: every
//! authenticated user may read it. Writes and reads no object; `operator::publish_settings` and the command line do.

use serde::{Deserialize, Serialize};
use smidge_xds::bootstrap::Family;

use super::{
    Cni, ProbeKey, Settings,
    resources::{Bounds, Quantity, Resources},
};

/// Name of the ConfigMap in the operator's namespace.
pub const CONFIG_MAP: &str = "smidge-injection";
/// Key of the text in it.
pub const KEY: &str = "settings.json";

/// Settings as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Version of the operator that published them.
    pub version: String,
    proxy_image: String,
    proxy_version: Option<String>,
    init_image: String,
    image_pull_policy: String,
    trust_domain: String,
    cluster_name: String,
    cluster_domain: String,
    system_namespace: String,
    xds_port: u16,
    control_plane_roots: Vec<String>,
    is_ipv6: bool,
    concurrency: u16,
    log_level: String,
    proxy_resources: Texts,
    init_resources: Texts,
    image_pull_secrets: Vec<String>,
    termination_delay_seconds: u64,
    cni: Cni,
}

/// Requests and limits of one container, as quantities or `none`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Texts {
    cpu_request: String,
    cpu_limit: String,
    memory_request: String,
    memory_limit: String,
}

/// Errors of reading published settings.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The text has another form.
    #[error("it is not of the form that this version reads")]
    Form(#[source] serde_json::Error),
    /// A request or limit is no quantity.
    #[error("{value:?} is no quantity: {why}")]
    Quantity {
        /// The value.
        value: String,
        /// The expected form.
        why: String,
    },
    /// There is no root, so that no proxy could trust the control plane.
    #[error("it has no root of the control plane")]
    NoRoots,
}

impl Published {
    /// Returns the settings as published by this version.
    pub fn of(settings: &Settings) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proxy_image: settings.proxy_image.clone(),
            proxy_version: settings.proxy_version.clone(),
            init_image: settings.init_image.clone(),
            image_pull_policy: settings.image_pull_policy.clone(),
            trust_domain: settings.trust_domain.clone(),
            cluster_name: settings.cluster_name.clone(),
            cluster_domain: settings.cluster_domain.clone(),
            system_namespace: settings.system_namespace.clone(),
            xds_port: settings.xds_port,
            control_plane_roots: settings.control_plane_roots.clone(),
            is_ipv6: settings.family == Family::V6,
            concurrency: settings.concurrency,
            log_level: settings.log_level.clone(),
            proxy_resources: Texts::of(&settings.proxy_resources),
            init_resources: Texts::of(&settings.init_resources),
            image_pull_secrets: settings.image_pull_secrets.clone(),
            termination_delay_seconds: settings.termination_delay_seconds,
            cni: settings.cni,
        }
    }

    /// Returns the text.
    pub fn to_text(&self) -> String {
        // A struct of texts and numbers always has a form in JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads the text. Fields that this version does not know are ignored.
    pub fn parse(text: &str) -> Result<Self, InvalidSettings> {
        serde_json::from_str(text).map_err(InvalidSettings::Form)
    }

    /// Returns the settings with `probe_key` as the key of the probes' paths. Without a root there are none: pods with
    /// them could not start.
    pub fn settings(self, probe_key: ProbeKey) -> Result<Settings, InvalidSettings> {
        if !self.control_plane_roots.iter().any(|root| root.contains("-----BEGIN CERTIFICATE-----")) {
            return Err(InvalidSettings::NoRoots);
        }
        Ok(Settings {
            proxy_resources: self.proxy_resources.read()?,
            init_resources: self.init_resources.read()?,
            proxy_image: self.proxy_image,
            proxy_version: self.proxy_version,
            init_image: self.init_image,
            image_pull_policy: self.image_pull_policy,
            trust_domain: self.trust_domain,
            cluster_name: self.cluster_name,
            cluster_domain: self.cluster_domain,
            system_namespace: self.system_namespace,
            xds_port: self.xds_port,
            control_plane_roots: self.control_plane_roots,
            probe_key,
            family: if self.is_ipv6 { Family::V6 } else { Family::V4 },
            concurrency: self.concurrency,
            log_level: self.log_level,
            image_pull_secrets: self.image_pull_secrets,
            termination_delay_seconds: self.termination_delay_seconds,
            cni: self.cni,
        })
    }
}

impl Texts {
    fn of(Resources { cpu, memory }: &Resources) -> Self {
        Self {
            cpu_request: cpu.request.to_string(),
            cpu_limit: cpu.limit.to_string(),
            memory_request: memory.request.to_string(),
            memory_limit: memory.limit.to_string(),
        }
    }

    fn read(&self) -> Result<Resources, InvalidSettings> {
        let quantity = |text: &str| {
            text.parse::<Quantity>().map_err(|why| InvalidSettings::Quantity { value: text.to_owned(), why })
        };
        let bounds = |request: &str, limit: &str| {
            Ok::<_, InvalidSettings>(Bounds { request: quantity(request)?, limit: quantity(limit)? })
        };
        Ok(Resources {
            cpu: bounds(&self.cpu_request, &self.cpu_limit)?,
            memory: bounds(&self.memory_request, &self.memory_limit)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            control_plane_roots: vec![
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            ],
            ..Settings::default()
        }
    }

    #[test]
    fn settings_are_read_as_they_were_published() {
        let settings = Settings {
            proxy_version: Some("1.40.0".to_owned()),
            xds_port: 15999,
            image_pull_secrets: vec!["mesh".to_owned()],
            termination_delay_seconds: 7,
            cni: Cni::Offered,
            proxy_resources: Resources::of(["1", "none"], ["1Gi", "2Gi"]),
            ..settings()
        };
        let text = Published::of(&settings).to_text();
        let read = Published::parse(&text).and_then(|it| it.settings(settings.probe_key.clone()));
        assert_eq!(read.ok(), Some(settings));
    }

    #[test]
    fn the_key_of_the_probes_is_not_published() {
        let secret =
            Settings { probe_key: ProbeKey::from_secret(b"another secret, of the mesh alone"), ..settings() };
        assert_eq!(Published::of(&secret), Published::of(&settings()));
    }

    #[test]
    fn settings_without_a_root_are_refused() {
        for roots in [vec![], vec![String::new()], vec!["\n".to_owned()]] {
            let published = Published::of(&Settings { control_plane_roots: roots, ..settings() });
            let read = published.settings(ProbeKey::from_secret(b""));
            assert!(matches!(read, Err(InvalidSettings::NoRoots)), "{read:?}");
        }
    }

    #[test]
    fn settings_that_cannot_be_read_are_refused() {
        assert!(matches!(Published::parse("{}"), Err(InvalidSettings::Form(_))));
        let text = Published::of(&settings()).to_text().replace("64Mi", "64 Mi");
        let read = Published::parse(&text).and_then(|it| it.settings(ProbeKey::from_secret(b"")));
        assert!(matches!(read, Err(InvalidSettings::Quantity { .. })), "{read:?}");
    }
}
