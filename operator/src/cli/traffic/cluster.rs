//! Requests TrafficMetrics from the API server of the current kubeconfig.
//!
//! Used by `stat`, `edges` and `top`. Reads lists page by page, with a bound on pages and bytes of all requests of one output;
//! `page` and `refusal` read the answers.

use std::{io, time::Duration};

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{Request, StatusCode, header};
use kube::{Client, Config, api::ListParams};
use smidge_traffic_metrics::api::{duration, request::Figures};
use tokio::time::timeout;

use super::{
    page::{Item, Page, PageError},
    refusal::Refusal,
    target::{Target, TargetError},
};

/// Maximum number of objects in a page.
const PAGE: u32 = 500;
/// Maximum number of pages of a list.
const MAX_PAGES: usize = 200;
/// Maximum size of the answers of one output together, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Errors of reading.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The process could not be set up.
    #[error("failed to set up the process")]
    Process(#[source] io::Error),
    /// No kubeconfig, or one that is not valid.
    #[error("found no cluster to ask (hint: KUBECONFIG names the file of a cluster, as for kubectl)")]
    NoCluster(#[source] Box<kube::Error>),
    /// Invalid arguments.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The request could not be made, for example of a selector.
    #[error("failed to make the request {path}")]
    Request {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server did not answer.
    #[error("failed to read {path} (hint: does `kubectl version` reach the API server?)")]
    Send {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server did not answer in time.
    #[error("{path} was not answered within {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// The path.
        path: String,
    },
    /// The answer is an error.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer exceeds a bound.
    #[error("the answer to {path} has more than {bound} (hint: -n, -l or a name selects fewer objects)")]
    TooMuch {
        /// The path.
        path: String,
        /// The bound.
        bound: String,
    },
    /// The answer cannot be read.
    #[error("the answer to {path} is not one of TrafficMetrics")]
    Invalid {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: PageError,
    },
}

/// Reader of the figures of one output.
pub struct Reader {
    client: Client,
    bytes: usize,
}

/// Items of all pages.
#[derive(Debug, Default)]
pub struct Items {
    /// The items.
    pub items: Vec<Item>,
    /// Number of items that the server has left out.
    pub left_out: u64,
}

/// Connects to the cluster of the current kubeconfig. An answer that is an error is not requested again: a person is
/// waiting, and reads the hint sooner.
pub async fn connect() -> Result<Client, ReadError> {
    let failed = |error| ReadError::NoCluster(Box::new(error));
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig).map_err(failed)?;
    config.default_retry = false;
    Client::try_from(config).map_err(failed)
}

impl Reader {
    /// Returns a reader for one output.
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), bytes: 0 }
    }

    /// Reads the objects as wholes.
    pub async fn wholes(&mut self, target: &Target) -> Result<Items, ReadError> {
        let figures = target.wholes();
        if target.name.is_some() {
            return self.one(&figures).await;
        }
        let path = figures.path();
        let mut all = Items::default();
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector.clone_from(&target.selector);
        for _ in 0..MAX_PAGES {
            let failed = |source| ReadError::Request { path: path.clone(), source: Box::new(source) };
            let request = kube::core::Request::new(&path).list(&parameters).map_err(failed)?;
            let window = duration::format(target.window);
            let page = self.page(&figures, &format!("{}&window={window}", request.uri())).await?;
            all.items.extend(page.items);
            match page.next {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(all),
            }
        }
        Err(ReadError::TooMuch { path, bound: format!("{MAX_PAGES} pages") })
    }

    /// Reads what is not a list of objects: one object, or its edges.
    pub async fn one(&mut self, figures: &Figures) -> Result<Items, ReadError> {
        let window = duration::format(figures.parameters.window);
        let page = self.page(figures, &format!("{}?window={window}", figures.path())).await?;
        Ok(Items { items: page.items, left_out: page.remaining })
    }

    async fn page(&mut self, figures: &Figures, uri: &str) -> Result<Page, ReadError> {
        let (status, body) = match timeout(TIMEOUT, self.read(figures, uri)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ReadError::TimedOut { path: figures.path() }),
        };
        self.bytes = self.bytes.saturating_add(body.len());
        if status != StatusCode::OK {
            return Err(Refusal::new(figures, status.as_u16(), &body).into());
        }
        Page::parse(&body).map_err(|source| ReadError::Invalid { path: figures.path(), source })
    }

    /// Returns the status and the body of an answer.
    async fn read(&self, figures: &Figures, uri: &str) -> Result<(StatusCode, Vec<u8>), ReadError> {
        let path = || figures.path();
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .body(kube::client::Body::empty())
            .map_err(|error| ReadError::Request { path: path(), source: Box::new(error) })?;
        let sent = self.client.send(request).await;
        let response = sent.map_err(|error| ReadError::Send { path: path(), source: Box::new(error) })?;
        let status = response.status();
        let left = MAX_BYTES.saturating_sub(self.bytes);
        let collected = Limited::new(response.into_body(), left).collect().await;
        let body = collected.map_err(|source| {
            if source.downcast_ref::<LengthLimitError>().is_some() {
                return ReadError::TooMuch { path: path(), bound: format!("{} MiB", MAX_BYTES >> 20) };
            }
            ReadError::Send { path: path(), source }
        })?;
        Ok((status, body.to_bytes().into()))
    }
}
