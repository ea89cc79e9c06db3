//! Flags for the containers that injection adds: their requests and limits, the pull secrets of their images, and the CNI
//! plugin that takes the place of privileges.
//!
//! Shared by `smidge run` and `smidge inject`. `smidge_injector::resources` applies them, and the annotations that take
//! precedence over them.

use crate::injector::{
    Cni, Quantity, Resources,
    resources::{self, Bounds},
    termination,
};

/// Settings of the injected containers.
#[derive(Debug, Clone, clap::Args)]
pub struct Sidecar {
    /// CPU request of the sidecar; none for no request.
    #[arg(long, env = "SMIDGE_PROXY_CPU_REQUEST", default_value = "10m", value_name = "QUANTITY")]
    proxy_cpu_request: Quantity,
    /// CPU limit of the sidecar. A limit below its needs delays the application.
    #[arg(long, env = "SMIDGE_PROXY_CPU_LIMIT", default_value = "none", value_name = "QUANTITY")]
    proxy_cpu_limit: Quantity,
    /// Memory request of the sidecar.
    #[arg(long, env = "SMIDGE_PROXY_MEMORY_REQUEST", default_value = "64Mi", value_name = "QUANTITY")]
    proxy_memory_request: Quantity,
    /// Memory limit of the sidecar.
    #[arg(long, env = "SMIDGE_PROXY_MEMORY_LIMIT", default_value = "512Mi", value_name = "QUANTITY")]
    proxy_memory_limit: Quantity,
    /// CPU request of the init container.
    #[arg(long, env = "SMIDGE_INIT_CPU_REQUEST", default_value = "10m", value_name = "QUANTITY")]
    init_cpu_request: Quantity,
    /// CPU limit of the init container.
    #[arg(long, env = "SMIDGE_INIT_CPU_LIMIT", default_value = "none", value_name = "QUANTITY")]
    init_cpu_limit: Quantity,
    /// Memory request of the init container.
    #[arg(long, env = "SMIDGE_INIT_MEMORY_REQUEST", default_value = "16Mi", value_name = "QUANTITY")]
    init_memory_request: Quantity,
    /// Memory limit of the init container.
    #[arg(long, env = "SMIDGE_INIT_MEMORY_LIMIT", default_value = "64Mi", value_name = "QUANTITY")]
    init_memory_limit: Quantity,
    /// Time for which containers without a `preStop` go on when their pod is deleted, in whole seconds; 0 for none.
    #[arg(
        long,
        env = "SMIDGE_TERMINATION_DELAY_SECONDS",
        default_value_t = 3,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(..=termination::MAXIMUM)
    )]
    termination_delay_seconds: u64,
    /// Name of a Secret with credentials for the registry of the injected images; may be repeated. Every namespace of
    /// the mesh needs a Secret of that name.
    #[arg(
        long = "image-pull-secret",
        env = "SMIDGE_IMAGE_PULL_SECRETS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    image_pull_secrets: Vec<String>,
    /// Part of the CNI plugin in redirecting the pods' traffic: off, it is not installed; offered, it redirects in namespaces
    /// labelled smidge.mesh/redirection=cni; default, it redirects in all but those labelled smidge.mesh/redirection=init.
    #[arg(long, env = "SMIDGE_CNI", value_enum, default_value_t)]
    cni: Cni,
}

impl Sidecar {
    /// Returns the settings of the injector with these.
    pub fn apply(&self, settings: crate::injector::Settings) -> crate::injector::Settings {
        let bounds =
            |request: &Quantity, limit: &Quantity| Bounds { request: request.clone(), limit: limit.clone() };
        crate::injector::Settings {
            proxy_resources: Resources {
                cpu: bounds(&self.proxy_cpu_request, &self.proxy_cpu_limit),
                memory: bounds(&self.proxy_memory_request, &self.proxy_memory_limit),
            },
            init_resources: Resources {
                cpu: bounds(&self.init_cpu_request, &self.init_cpu_limit),
                memory: bounds(&self.init_memory_request, &self.init_memory_limit),
            },
            termination_delay_seconds: self.termination_delay_seconds,
            image_pull_secrets: self.image_pull_secrets.clone(),
            cni: self.cni,
            ..settings
        }
    }

    /// Returns the first problem of the flags together.
    pub fn check(&self) -> Result<(), String> {
        resources::check(&self.apply(crate::injector::Settings::default()))
    }
}
