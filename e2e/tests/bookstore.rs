//! Tests the example in `examples/bookstore` as it is written, and without names and protocols of ports, as Open Service
//! Mesh publishes its own: every verdict and share is the same, under each setting of `undeclaredPorts`.
//!
//! These tests change the settings of the whole mesh, so `make test` runs them after the others, one at a time.

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use smidge_e2e::{
    Namespace,
    example::{self, Callers, as_described, callers},
    settings::{self, with_settings},
    with_temp_ns,
};

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

async fn start(namespace: &Namespace, is_declared: bool) -> anyhow::Result<Callers> {
    for mut object in example::objects(&namespace.name)? {
        if !is_declared {
            undeclare(&mut object);
        }
        namespace.apply(&object.to_string()).await?;
    }
    callers(namespace).await
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
