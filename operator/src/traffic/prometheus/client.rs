//! Sends one query to Prometheus and returns the body of the answer, whose length is bounded.
//!
//! Impure. Used by `traffic::prometheus`, which limits the time. Each query has a connection of its own, which ends with
//! it. Redirects are not followed: they would send the token elsewhere. Does not read answers, except for errors.

use std::{io, sync::Arc};

use http_body_util::{BodyExt as _, Collected, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use smidge_traffic_metrics::samples::{error_of, short};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{Settings, url::PrometheusUrl};
use crate::ca::pem;

/// Path of instant queries.
const PATH: &str = "/api/v1/query";
/// Maximum length of an answer, in bytes: about 90,000 samples.
pub const MAX_BODY: usize = 32 << 20;
/// Maximum length of the body of an error, in bytes.
const MAX_ERROR: usize = 64 << 10;
/// Maximum length of the head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Maximum length of a token, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// Errors of a query, as predicates of Prometheus.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The file of the token cannot be read, or has none.
    #[error("was not queried: the file with the token cannot be used: {0}")]
    Token(String),
    /// The file with the authorities cannot be read, or has none.
    #[error("was not queried: the file with the authorities cannot be used: {0}")]
    Authorities(String),
    /// The name of the host cannot be in a certificate.
    #[error("was not queried: its host is no name of a server")]
    Name,
    /// The operator stops.
    #[error("was not queried: the operator stops")]
    Stopped,
    /// No connection could be established.
    #[error("cannot be reached: {0}")]
    Connect(#[source] io::Error),
    /// It broke HTTP, or ended the connection.
    #[error("broke off: {0}")]
    Http(#[from] hyper::Error),
    /// It could not be sent a request.
    #[error("was not queried: {0}")]
    Request(#[from] hyper::http::Error),
    /// The body ended early.
    #[error("broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The body is too long.
    #[error("answered with more than {} MiB; ask for one namespace or one object", MAX_BODY >> 20)]
    TooLarge,
    /// It answered with another status.
    #[error("answered {}{}", status.as_u16(), reason)]
    Status {
        /// The status.
        status: StatusCode,
        /// Rest of the message: the error in the body, if it has one.
        reason: String,
    },
}

/// Client for the queries of one question.
pub struct Client<'a> {
    url: &'a PrometheusUrl,
    token: Option<Zeroizing<String>>,
    tls: Option<TlsConnector>,
}

impl<'a> Client<'a> {
    /// Reads the files of credentials.
    pub async fn open(settings: &'a Settings) -> Result<Self, QueryError> {
        let token = match &settings.token {
            Some(file) => {
                let text = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
                let text = text.map_err(|error| QueryError::Token(error.to_string()))?;
                let token = Zeroizing::new(text.trim().to_owned());
                if token.is_empty() || token.len() > MAX_TOKEN {
                    return Err(QueryError::Token(format!("it has {} bytes", token.len())));
                }
                Some(token)
            }
            None => None,
        };
        let tls = match (&settings.ca, settings.url.is_https) {
            (Some(file), true) => {
                let text = tokio::fs::read(file).await;
                Some(connector(&text.map_err(|error| QueryError::Authorities(error.to_string()))?)?)
            }
            (None, true) => return Err(QueryError::Authorities("https needs one".to_owned())),
            (_, false) => None,
        };
        Ok(Self { url: &settings.url, token, tls })
    }

    /// Returns the body of the answer to a query. Prometheus itself is to end it after `limit`.
    pub async fn query(&self, text: &str, limit: std::time::Duration) -> Result<Vec<u8>, QueryError> {
        let PrometheusUrl { host, port, .. } = self.url;
        let request = self.request(text, limit)?;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(QueryError::Connect)?;
        let Some(tls) = &self.tls else { return self.exchange(stream, request).await };
        let name = ServerName::try_from(host.clone()).map_err(|_| QueryError::Name)?;
        let stream = tls.connect(name, stream).await.map_err(QueryError::Connect)?;
        self.exchange(stream, request).await
    }

    fn request(&self, text: &str, limit: std::time::Duration) -> Result<Request<Full<Bytes>>, QueryError> {
        let limit = format!("{}s", limit.as_secs());
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", text)
            .append_pair("timeout", &limit)
            .finish();
        let mut request = Request::post(format!("{}{PATH}", self.url.prefix))
            .header(HOST, self.url.authority())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            let bearer = Zeroizing::new(format!("Bearer {}", token.as_str()));
            let bearer = HeaderValue::from_str(&bearer);
            let mut bearer = bearer.map_err(|_| QueryError::Token("it is no text of one line".to_owned()))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        Ok(request.body(Full::from(form))?)
    }

    /// Sends a request over a connection, which ends with the answer.
    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        request: Request<Full<Bytes>>,
    ) -> Result<Vec<u8>, QueryError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let response = sender.send_request(request).await?;
            self.body(response).await
        };
        let (mut asking, mut connection) = (std::pin::pin!(asking), std::pin::pin!(connection));
        tokio::select! {
            answer = &mut asking => answer,
            // It has passed on all that it received, or the error.
            _ = &mut connection => asking.await,
        }
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Vec<u8>, QueryError> {
        let status = response.status();
        if status == StatusCode::OK {
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            return Ok(body.map_err(of_body)?.to_bytes().into());
        }
        if status.is_redirection() {
            return Err(QueryError::Status { status, reason: ": redirects are not followed".to_owned() });
        }
        let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        let reason = error_of(&body).map(|error| format!(": {}", self.without_token(&body, short(&error))));
        Err(QueryError::Status { status, reason: reason.unwrap_or_default() })
    }

    /// Returns a text about a body, or another one if the body has the token, of which the text can have a part.
    pub fn without_token(&self, body: &[u8], text: String) -> String {
        let repeats = |token: &Zeroizing<String>| String::from_utf8_lossy(body).contains(token.as_str());
        if self.token.as_ref().is_some_and(repeats) { "its text repeats the token".to_owned() } else { text }
    }
}

fn of_body(error: Box<dyn std::error::Error + Send + Sync>) -> QueryError {
    if error.is::<LengthLimitError>() { QueryError::TooLarge } else { QueryError::Body(error) }
}

/// Returns what verifies a server by these authorities.
fn connector(authorities: &[u8]) -> Result<TlsConnector, QueryError> {
    let failed = |error: rustls::Error| QueryError::Authorities(error.to_string());
    let certificates = pem::certificates(authorities);
    let certificates =
        certificates.ok_or_else(|| QueryError::Authorities("it has no certificate in PEM".to_owned()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(failed)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
