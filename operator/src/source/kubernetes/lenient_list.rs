//! Lists a kind object by object, when one object keeps the whole list from being read.
//!
//! The client reads a list as one JSON text, and its parser refuses values that are nested too deeply. A user who may
//! write one such object could stop the mesh. Here every object is first cut out of the text, which works for any depth
//! of nesting, and then read by itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Resource, api::ListParams, core::Request};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// Errors of listing object by object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request for the kind could not be built.
    #[error("failed to ask for a list")]
    Request(#[source] kube::core::request::Error),
    /// The API server did not return a list.
    #[error("failed to list")]
    Answer(#[source] Box<kube::Error>),
    /// The answer is not a list of objects.
    #[error("failed to read a list")]
    List(#[source] serde_json::Error),
}

/// One object, or the error of reading it.
#[derive(Debug)]
pub struct Listed<K> {
    /// Metadata of the object.
    pub metadata: ObjectMeta,
    /// The object, or the error of reading it.
    pub object: Result<K, String>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

/// Lists every object of a kind.
pub async fn list<K>(client: &Client) -> Result<Vec<Listed<K>>, Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let request =
        Request::new(K::url_path(&(), None)).list(&ListParams::default()).map_err(Error::Request)?;
    let text = client.request_text(request).await.map_err(|error| Error::Answer(Box::new(error)))?;
    read(&text)
}

/// Reads every object of the text of a list.
pub fn read<K: DeserializeOwned>(text: &str) -> Result<Vec<Listed<K>>, Error> {
    let List { items } = serde_json::from_str(text).map_err(Error::List)?;
    let read = |item: Box<RawValue>| {
        // Without a name the object could not be reported, and the API server stores no object without one.
        let Named { metadata } = serde_json::from_str(item.get()).ok()?;
        let object = serde_json::from_str(item.get()).map_err(|error| error.to_string());
        Some(Listed { metadata, object })
    };
    Ok(items.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_object_that_is_nested_too_deeply_costs_only_itself() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!(
            r#"{{"kind":"List","items":[{{"metadata":{{"name":"a"}}}},{{"spec":{deep},"metadata":{{"name":"b"}}}},
            {{"metadata":{{"name":"c"}},"spec":1}}]}}"#
        );
        let read: Vec<Listed<Value>> = read(&text).unwrap();
        let names: Vec<_> = read.iter().filter_map(|it| it.metadata.name.as_deref()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(read[0].object.is_ok() && read[2].object.is_ok());
        assert!(read[1].object.as_ref().unwrap_err().contains("recursion limit"), "{:?}", read[1].object);
    }
}
