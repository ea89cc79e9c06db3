//! Settings that a user might have made: MeshConfigs, and labels of namespaces. Most generated clusters enforce; some
//! audit or let every caller in, and sometimes a mode is unknown.

use serde_json::{Map, Value, json};

use crate::differential::{
    generated::{OTHER, SHOP, object},
    random::Random,
};

const ACCESS: [(usize, &str); 6] =
    [(20, "enforce"), (55, "audit"), (10, "permissive"), (5, "Permissive"), (5, "none"), (5, "")];
const MTLS: [(usize, &str); 3] = [(80, "permissive"), (10, "strict"), (10, "maybe")];

/// Generates the settings of a cluster.
pub fn settings(random: &mut Random) -> Vec<Value> {
    let mut all = Vec::new();
    if random.percent(70) {
        let end = random.weighted(&[(48, "open"), (48, "closed"), (4, "shut")]);
        let mut spec = json!({ "pathRegexEnd": end });
        if random.percent(12) {
            spec["access"] = json!({ "mode": random.weighted(&ACCESS) });
        }
        if random.percent(8) {
            spec["mtls"] = json!({ "mode": random.weighted(&MTLS) });
        }
        all.push(object("smidge.mesh/v1alpha1", "MeshConfig", "", "default", &spec));
    }
    if random.percent(4) {
        // This one has no effect.
        let spec = json!({ "access": { "mode": "permissive" }, "mtls": { "mode": "permissive" } });
        all.push(object("smidge.mesh/v1alpha1", "MeshConfig", "", "spare", &spec));
    }
    if random.percent(20) {
        let mut labels = Map::new();
        if random.percent(75) {
            labels.insert("smidge.mesh/access".to_owned(), json!(random.weighted(&ACCESS)));
        }
        if random.percent(35) {
            labels.insert("smidge.mesh/mtls".to_owned(), json!(random.weighted(&MTLS)));
        }
        all.push(namespace(SHOP, &Value::Object(labels)));
    }
    if random.percent(4) {
        // This namespace is not called, so its settings mean nothing here.
        all.push(namespace(OTHER, &json!({ "smidge.mesh/access": "permissive" })));
    }
    all
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}
