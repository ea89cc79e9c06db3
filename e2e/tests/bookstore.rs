//! Tests the example in `examples/bookstore` as it is written, and without names and protocols of ports, as Open Service
//! Mesh publishes its own: every verdict and share is the same, under each setting of `undeclaredPorts`.
//!
//! These tests change the settings of the whole mesh, so `make test` runs them after the others, one at a time.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use smidge_e2e::{
    Namespace, Pod,
    settings::{self, with_settings},
    until, with_temp_ns,
};

/// Time limit for callers to see the effect of an edit, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(30);
/// Maximum difference between a measured share and the weight, in percentage points.
const TOLERANCE: f64 = 8.0;

const SHOP: &str = "http://bookstore:14001";
const STORE: &str = "store:14003";

/// Reads the objects of the example, all of them in one namespace.
fn example(namespace: &str) -> anyhow::Result<Vec<Value>> {
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

/// Takes the names and protocols out of the ports of Services and containers; probes name the port by its number.
fn undeclare(object: &mut Value) {
    let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    ports.into_iter().flatten().filter_map(Value::as_object_mut).for_each(bare);
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let number = container.pointer("/ports/0/containerPort").cloned();
        let ports = container.pointer_mut("/ports").and_then(Value::as_array_mut);
        ports.into_iter().flatten().filter_map(Value::as_object_mut).for_each(bare);
        for probe in ["/readinessProbe/httpGet/port", "/readinessProbe/tcpSocket/port"] {
            if let (Some(port), Some(number)) = (container.pointer_mut(probe), &number) {
                *port = number.clone();
            }
        }
    }
}

fn bare(port: &mut Map<String, Value>) {
    port.remove("name");
    port.remove("appProtocol");
}

/// Pods that call.
struct Callers {
    buyer: Pod,
    thief: Pod,
    warehouse: Pod,
}

async fn start(namespace: &Namespace, is_declared: bool) -> anyhow::Result<Callers> {
    for mut object in example(&namespace.name)? {
        if !is_declared {
            undeclare(&mut object);
        }
        namespace.apply(&object.to_string()).await?;
    }
    Pod::all(namespace, "bookstore", 2).await?;
    Pod::one(namespace, "store").await?;
    Ok(Callers {
        buyer: Pod::one(namespace, "bookbuyer").await?,
        thief: Pod::one(namespace, "bookthief").await?,
        warehouse: Pod::one(namespace, "bookwarehouse").await?,
    })
}

/// Checks every verdict of the example's policy, and the shares of its split.
async fn as_described(callers: &Callers) -> anyhow::Result<()> {
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

#[tokio::test]
async fn the_example_works_as_described() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| as_described(&start(namespace, true).await?).await).await
}

#[tokio::test]
async fn the_example_works_without_declared_ports_under_every_setting() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        with_settings(namespace, async || {
            let callers = start(namespace, false).await?;
            as_described(&callers).await?;
            for word in ["http", "tcp", "detect"] {
                settings::set(namespace, json!({"undeclaredPorts": word})).await?;
                as_described(&callers).await.with_context(|| format!("with undeclaredPorts: {word}"))?;
            }
            Ok(())
        })
        .await
    })
    .await
}
