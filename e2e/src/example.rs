//! The example in `examples/bookstore`, in one namespace: its objects, its callers, and every verdict and share that it
//! describes.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{Namespace, Pod, until};

/// Time limit for callers to see the effect of an edit, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(30);
/// Maximum difference between a measured share and the weight, in percentage points.
const TOLERANCE: f64 = 8.0;

const SHOP: &str = "http://bookstore:14001";
const STORE: &str = "store:14003";

/// Reads the objects of the example, all of them in one namespace.
pub fn objects(namespace: &str) -> anyhow::Result<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookstore");
    let mut files = vec![root.join("split/50-50.yaml")];
    for folder in ["policy", "workloads"] {
        for entry in fs::read_dir(root.join(folder))? {
            files.push(entry?.path());
        }
    }
    let mut objects = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        for document in text.split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(document)?;
            move_into(namespace, &mut object);
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Replaces every namespace, and the host names that contain one.
fn move_into(namespace: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                if name == "namespace" {
                    *inner = json!(namespace);
                } else {
                    move_into(namespace, inner);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_into(namespace, item)),
        Value::String(text) => {
            for other in ["bookstore", "bookwarehouse"] {
                *text = text.replace(&format!(".{other}:"), ":");
            }
        }
        _ => {}
    }
}

/// Pods that call.
pub struct Callers {
    buyer: Pod,
    thief: Pod,
    warehouse: Pod,
}

/// Waits until the example's pods are ready.
pub async fn callers(namespace: &Namespace) -> anyhow::Result<Callers> {
    Pod::all(namespace, "bookstore", 2).await?;
    Pod::one(namespace, "store").await?;
    Ok(Callers {
        buyer: Pod::one(namespace, "bookbuyer").await?,
        thief: Pod::one(namespace, "bookthief").await?,
        warehouse: Pod::one(namespace, "bookwarehouse").await?,
    })
}

/// Checks every verdict of the example's policy, and the shares of its split.
pub async fn as_described(callers: &Callers) -> anyhow::Result<()> {
    let Callers { buyer, thief, warehouse } = callers;
    let (books, buy) = (format!("{SHOP}/books"), format!("{SHOP}/buy"));
    until("the chain from the buyer to the store to work", EFFECT, async || {
        buyer.call(&books, &[]).await?.must_all_be(200)?;
        buyer.call(&buy, &["--method=POST"]).await?.must_all_be(200)?;
        let answered = warehouse.dial_store(STORE).await?.answered;
        anyhow::ensure!(answered == 1, "the store does not answer the warehouse");
        Ok(())
    })
    .await?;
    buyer.call(&buy, &["--method=POST", "--count=20"]).await?.must_all_be(200)?;
    buyer.call(&books, &["--method=DELETE", "--count=20"]).await?.must_all_be(403)?;
    thief.call(&books, &["--count=20"]).await?.must_all_be(403)?;
    anyhow::ensure!(thief.dial_store(STORE).await?.answered == 0, "the store answers the thief");
    anyhow::ensure!(buyer.dial_store(STORE).await?.answered == 0, "the store answers the buyer");
    // One connection: a split of connections would give all requests to one version.
    let calls = buyer.call(&books, &["--count=1000", "--concurrency=1"]).await?;
    calls.must_all_be(200)?;
    anyhow::ensure!((calls.share("v1") - 50.0).abs() <= TOLERANCE, "not half and half: {calls:?}");
    Ok(())
}
