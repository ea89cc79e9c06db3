//! Reads and writes the TrafficMetrics that can be written: MetricsPolicies of the API server, for users that it allows to.
//!
//! Used by `traffic_api`. `smidge_traffic_metrics::api::stored` translates; this module authorizes, reads the body, sends
//! what is to be kept with the operator's own rights, and passes errors and warnings on. *Invariant:* a user's right is
//! reviewed before anything of the body is read, and nothing is written but what `stored::policy` makes.

use std::time::Duration;

use axum::{
    body::{self, Body},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{CONTENT_TYPE, WARNING},
    },
    response::{IntoResponse as _, Response},
};
use futures::future::try_join_all;
use serde_json::{Value, json};
use smidge_traffic_metrics::{
    api::{
        accept,
        status::Status,
        stored::{
            Action, MAX_BODY, Stored,
            answer::{self, ByKind, Part},
            patch::{self, Change, Patch},
            policy::{self, Shown},
        },
    },
    traffic::TrafficSource,
};
use tokio::time::timeout;
use tracing::info;

use super::{QUEUE_TIMEOUT, Shared, front_proxy::User, policies::Answer};

/// Maximum number of writes in progress.
pub(super) const WRITES: usize = 16;
/// Time limit of the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of attempts to change an object that others change meanwhile.
const ATTEMPTS: u32 = 5;
/// Maximum number of warnings that are passed on.
const MAX_WARNINGS: usize = 10;

/// A request that was authenticated.
pub(super) struct Call<'a> {
    pub stored: Stored,
    pub user: &'a User,
    pub headers: &'a HeaderMap,
}

impl Call<'_> {
    fn header(&self, name: axum::http::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.stored.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.stored.name.as_deref().unwrap_or_default()
    }

    /// Logs what was written for whom: for the API server, the operator is the author.
    fn log(&self, name: &str) {
        let Stored { action, options, .. } = &self.stored;
        let (user, namespace) = (&self.user.name, self.namespace());
        info!(user, namespace, name, ?action, dry_run = options.dry_run, "TrafficMetrics written");
    }

    /// Returns the path of the MetricsPolicy of the request.
    fn path(&self) -> String {
        policy::path(self.stored.namespace.as_deref(), self.stored.name.as_deref())
    }
}

impl<S: TrafficSource + 'static> Shared<S> {
    /// Answers a request for objects that can be written.
    pub(super) async fn stored(
        &self,
        call: &Call<'_>,
        accepted: &str,
        body: Body,
    ) -> Result<Response, Status> {
        self.authorizer.authorize(call.user, &call.stored.access()).await?;
        if call.stored.action == Action::Read {
            return self.read_stored(&call.stored, accepted).await;
        }
        let turn = timeout(QUEUE_TIMEOUT, self.writes.acquire()).await.ok().and_then(Result::ok);
        let _turn = turn.ok_or_else(|| Status::too_many("too many objects are being written; try again"))?;
        let body = timeout(BODY_TIMEOUT, body::to_bytes(body, MAX_BODY)).await;
        let body = body.map_err(|_| Status::timeout())?.map_err(|_| Status::too_large(MAX_BODY))?;
        let content_type = call.header(CONTENT_TYPE);
        match call.stored.action {
            Action::Create => self.create(call, &patch::object(content_type, &body)?).await,
            Action::Update => self.change(call, &Change::Whole(patch::object(content_type, &body)?)).await,
            Action::Patch => match patch::read(content_type, &body)? {
                Patch::Change(change) => self.change(call, &change).await,
                Patch::Applied(object) => self.apply(call, &object).await,
            },
            Action::Delete => self.delete(call, &body).await,
            Action::Read => Err(Status::internal("a read is no write")),
        }
    }

    async fn read_stored(&self, stored: &Stored, accepted: &str) -> Result<Response, Status> {
        let form = accept::choose(accepted, stored.name.is_none())?;
        let _turn = self.turn().await?;
        let part = match &stored.name {
            Some(name) => {
                let path = policy::path(stored.namespace.as_deref(), Some(name));
                let policy = self.policies.get(&path, name).await?;
                Part { policies: vec![Shown::of(&policy)], ..Part::default() }
            }
            None => self.policies.list(stored).await?,
        };
        let questions = answer::questions(stored, &part.policies);
        // At most one for each kind.
        let traffic = try_join_all(questions.iter().map(|question| self.traffic(question))).await?;
        let traffic: ByKind = questions.iter().map(|question| question.kind).zip(traffic).collect();
        answer::write(stored, form, (&part, &traffic), self.now()).map(super::json)
    }

    async fn create(&self, call: &Call<'_>, object: &Value) -> Result<Response, Status> {
        let wanted = policy::read(object, &call.stored, true)?;
        let warnings = wanted.warnings.clone();
        let path = policy::path(call.stored.namespace.as_deref(), None);
        let policy = wanted.new_policy();
        let name = policy.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let sent = self.policies.send(Method::POST, &path, &call.stored.options, Some(&policy));
        let answer = sent.await?.ok(&name)?;
        Self::written(call, StatusCode::CREATED, answer, warnings)
    }

    /// Changes an object that exists. A change that does not name the version that it is for is made again if the object
    /// was changed meanwhile.
    async fn change(&self, call: &Call<'_>, change: &Change) -> Result<Response, Status> {
        let path = call.path();
        let mut refused = Status::internal("the object could not be changed");
        for _ in 0..ATTEMPTS {
            let current = self.policies.get(&path, call.name()).await?;
            let version = current.pointer("/metadata/resourceVersion").cloned();
            let object = patch::change(&Shown::of(&current), change, &call.stored)?;
            let wanted = policy::read(&object, &call.stored, true)?;
            let is_pinned =
                object.pointer("/metadata/resourceVersion").is_some_and(|it| Some(it) != version.as_ref())
                    || matches!(change, Change::Whole(_)) && wanted.has_version();
            let warnings = wanted.warnings.clone();
            let next = wanted.onto(current);
            let sent = self.policies.send(Method::PUT, &path, &call.stored.options, Some(&next)).await?;
            match sent.ok(call.name()) {
                Err(status) if status.code == 409 && !is_pinned => refused = status,
                sent => return Self::written(call, StatusCode::OK, sent?, warnings),
            }
        }
        Err(refused)
    }

    /// Applies a part of an object. Creates it only for users who may do that.
    async fn apply(&self, call: &Call<'_>, object: &Value) -> Result<Response, Status> {
        if call.stored.options.manager.is_empty() {
            return Err(Status::bad_request("fieldManager is required for apply patch"));
        }
        let wanted = policy::read(object, &call.stored, false)?;
        let path = call.path();
        let current = self.policies.find(&path, call.name()).await?;
        if current.is_none() {
            self.authorizer.authorize(call.user, &call.stored.access_to_create()).await?;
        }
        let warnings = wanted.warnings.clone();
        let policy = wanted.applied(current.as_ref().and_then(|it| it.pointer("/metadata/uid")));
        let sent = self.policies.send(Method::PATCH, &path, &call.stored.options, Some(&policy)).await?;
        let code = if sent.code == 201 { StatusCode::CREATED } else { StatusCode::OK };
        Self::written(call, code, sent.ok(call.name())?, warnings)
    }

    async fn delete(&self, call: &Call<'_>, body: &[u8]) -> Result<Response, Status> {
        let given = if body.is_empty() { json!({}) } else { patch::object(call.header(CONTENT_TYPE), body)? };
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        for field in
            ["dryRun", "gracePeriodSeconds", "orphanDependents", "preconditions", "propagationPolicy"]
        {
            if let (Some(value), Some(options)) = (given.get(field), options.as_object_mut()) {
                options.insert(field.to_owned(), value.clone());
            }
        }
        let path = call.path();
        let sent = self.policies.send(Method::DELETE, &path, &call.stored.options, Some(&options));
        let answer = sent.await?.ok(call.name())?;
        if answer.body.get("kind").and_then(Value::as_str) == Some(policy::KIND) {
            // It ends once its finalizers are gone.
            return Self::written(call, StatusCode::OK, answer, Vec::new());
        }
        call.log(call.name());
        answer::deleted(call.name(), answer.body.pointer("/details/uid")).map(super::json)
    }

    /// Writes the answer to a write, with the warnings of both sides.
    fn written(
        call: &Call<'_>,
        code: StatusCode,
        answer: Answer,
        own: Vec<String>,
    ) -> Result<Response, Status> {
        let shown = Shown::of(&answer.body);
        let mut response = (code, super::json(answer::written(&call.stored, &shown)?)).into_response();
        let own = own.into_iter().filter_map(|text| warning(&text));
        for value in own.chain(answer.warnings).take(MAX_WARNINGS) {
            response.headers_mut().append(WARNING, value);
        }
        call.log(shown.text("name"));
        Ok(response)
    }
}

/// Returns a warning as a header. Texts are quoted: other characters than those of ASCII are escaped.
fn warning(text: &str) -> Option<HeaderValue> {
    let text = text.escape_default().to_string();
    HeaderValue::from_str(&format!("299 - \"{text}\"")).ok()
}
