//! Reads a part of TrafficMetrics, edges or routes, of one object or of each in a list.
//!
//! Used by `edges` and `top`. A list has no parts, so there is a request for each object, and a bound of their number.

use std::collections::BTreeSet;

use smidge_traffic_metrics::api::request::Subresource;

use super::{
    cluster::{Items, ReadError, Reader},
    target::Target,
};

/// Maximum number of objects whose parts are read.
const MAX_OBJECTS: usize = 200;

/// Reads the parts of the objects. One that was deleted since it was listed has none.
pub async fn read(reader: &mut Reader, target: &Target, part: Subresource) -> Result<Items, ReadError> {
    if let Some(name) = &target.name {
        let namespace = target.namespace.as_deref().unwrap_or_default();
        return reader.one(&target.part(part, namespace, name)).await;
    }
    let listed = reader.wholes(target).await?.items;
    let names: BTreeSet<_> = listed.iter().map(|it| (&it.object.namespace, &it.object.name)).collect();
    if names.len() > MAX_OBJECTS {
        let bound = format!("{MAX_OBJECTS} objects, whose {} are requested one by one", part.as_str());
        return Err(ReadError::TooMuch { path: target.wholes().path(), bound });
    }
    let mut all = Items::default();
    for (namespace, name) in names {
        match reader.one(&target.part(part, namespace, name)).await {
            Ok(Items { items, left_out }) => {
                all.items.extend(items);
                all.left_out = all.left_out.saturating_add(left_out);
            }
            Err(ReadError::Refused(refusal)) if refusal.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}
