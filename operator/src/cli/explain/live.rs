//! Lists the kinds that the mesh reads from the cluster of the current kubeconfig.
//!
//! One list a kind, page by page. A kind whose definition is not installed counts as empty; an object that cannot be
//! read is kept by its reason, as the operator's own watches do.

use anyhow::Context as _;
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams, core::DeserializeGuard};
use serde::de::DeserializeOwned;

use crate::{documents::Offline, inputs::Inputs, watch::Field};

/// How many objects a request asks for.
const PAGE: u32 = 500;

/// What the cluster holds.
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
    let mut inputs = Inputs::default();
    macro_rules! list_kinds {
        ($($name:literal => $field:ident;)*) => {$(
            list($name, |inputs| &mut inputs.$field, client, &mut inputs).await?;
        )*};
    }
    list_kinds! { "Pod" => pods; }
    crate::inputs::kinds!(list_kinds);
    Ok(inputs)
}

async fn list<K>(name: &str, field: Field<K>, client: &Client, inputs: &mut Inputs) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                inputs.absent_kinds.insert(format!("{}.{}", K::plural(&()), K::group(&())));
                return Ok(());
            }
            Err(error) => return Err(error).with_context(|| format!("failed to list {name} objects")),
        };
        for object in page.items {
            let key = (object.namespace().unwrap_or_default(), object.name_any());
            match object.0 {
                Ok(object) => {
                    field(inputs).insert(key, object.into());
                }
                Err(invalid) => {
                    inputs.unreadable.insert((name.to_owned(), key), invalid.error);
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}
