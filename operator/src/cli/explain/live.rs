//! Lists the kinds that the mesh reads from the cluster of the current kubeconfig.
//!
//! Sends one list request for each kind, page by page. A kind whose definition is not installed is treated as empty; an
//! object that cannot be read is kept with its reason, as the operator's own watches do.

use anyhow::Context as _;
use futures::future::{FutureExt as _, LocalBoxFuture};
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::DeserializeGuard};

use crate::{
    documents::Offline,
    inputs::{Inputs, Objects},
    kinds::{self, Row, Visitor, Watched},
    source::kubernetes::Field,
};

/// Maximum number of objects in a page.
const PAGE: u32 = 500;

/// Lists the objects of the cluster.
pub(super) fn load() -> anyhow::Result<Offline> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inputs = runtime.block_on(async {
        let hint = "hint: -f PATH explains files without a cluster";
        let client =
            Client::try_default().await.with_context(|| format!("found no cluster to ask; {hint}"))?;
        list_all(&client).await
    })?;
    Ok(Offline { inputs, ..Offline::default() })
}

async fn list_all(client: &Client) -> anyhow::Result<Inputs> {
    let mut lists = Lists { client, pending: Vec::new() };
    kinds::visit(&mut lists);
    let mut inputs = Inputs::default();
    for listed in lists.pending {
        listed.await?(&mut inputs);
    }
    Ok(inputs)
}

/// Stores the objects of one kind in the inputs.
type Put = Box<dyn FnOnce(&mut Inputs)>;

/// One list for each kind, none of which is requested yet.
struct Lists<'a> {
    client: &'a Client,
    pending: Vec<LocalBoxFuture<'a, anyhow::Result<Put>>>,
}

impl Visitor for Lists<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        self.pending.push(list(row.name, row.objects_mut, self.client).boxed_local());
    }
}

async fn list<K: Watched>(name: &'static str, field: Field<K>, client: &Client) -> anyhow::Result<Put> {
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    let (mut objects, mut unreadable) = (Objects::new(), Vec::new());
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let definition = format!("{}.{}", K::plural(&()), K::group(&()));
                return Ok(Box::new(move |inputs| inputs.absent_kinds.extend([definition])));
            }
            Err(error) => return Err(error).with_context(|| format!("failed to list {name} objects")),
        };
        for object in page.items {
            let key = (object.namespace().unwrap_or_default(), object.name_any());
            match object.0 {
                Ok(object) => drop(objects.insert(key, object.into())),
                Err(invalid) => unreadable.push(((name.to_owned(), key), invalid.error)),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    Ok(Box::new(move |inputs| {
        *field(inputs) = objects;
        inputs.unreadable.extend(unreadable);
    }))
}
