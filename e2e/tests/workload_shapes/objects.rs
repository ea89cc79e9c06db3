//! Shapes of Kubernetes objects: each way in which an application is addressed, called from each column's client.

use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, deployment, service, target},
    until,
};

use crate::{
    place::{Clients, Places},
    table::{Column, NONE, Row},
};

/// Time limit for a call to succeed after everything is ready; one that must fail is observed for as long.
const SETTLED: Duration = Duration::from_secs(6);
/// Number of rows that are observed at a time.
const AT_ONCE: usize = 6;
/// Time limit for the first call, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(30);
/// Port of the second pod with a named port.
const HIGH: u16 = 14_005;
/// Port of the server in the node's network, of the first place.
const NODE_PORT: u16 = 14_101;
/// Host port of a pod, of the first place.
const HOST_PORT: u16 = 14_201;

/// Caller of a shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// The column's client.
    Client,
    /// A pod of the server itself.
    Itself,
}

/// One way to address an application: its name in the table, who calls, the URL, where `NS`, `POD` and `NODE` stand for
/// the namespace, the server's pod and the node, and `PORT` for a port of the place.
type Shape = (&'static str, From, &'static str);

const SHAPES: &[Shape] = &[
    ("Service", From::Client, "http://web.NS:14001/books"),
    ("Service whose port is not the pod's", From::Client, "http://renumbered.NS/books"),
    ("second Service on the same pods", From::Client, "http://second.NS:14001/books"),
    ("`targetPort` by name, of two numbers on two pods", From::Client, "http://named.NS/books"),
    ("headless Service", From::Client, "http://members.NS:14001/books"),
    ("pod of a StatefulSet by its DNS name", From::Client, "http://member-0.members.NS:14001/books"),
    ("Service without selector, EndpointSlice with a pod", From::Client, "http://manual.NS:14001/books"),
    ("ExternalName of a Service", From::Client, "http://alias.NS:14001/books"),
    ("`type: NodePort`, at the node", From::Client, "http://NODE:PORT/books"),
    ("`hostPort`, at the node", From::Client, "http://NODE:HOSTPORT/books"),
    ("pods in the node's network (`hostNetwork`)", From::Client, "http://node.NS/books"),
    ("address of a pod", From::Client, "http://POD:14001/books"),
    ("Service without pods", From::Client, "http://empty.NS:14001/books"),
    ("port that the Service does not have", From::Client, "http://web.NS:14999/books"),
    ("a pod calls itself, by its Service", From::Itself, "http://alone.NS:14001/books"),
    ("a pod calls itself, by its own address", From::Itself, "http://POD:14001/books"),
    ("a pod calls itself, by localhost", From::Itself, "http://localhost:14001/books"),
];

fn node_port(index: usize) -> anyhow::Result<u16> {
    Ok(NODE_PORT + u16::try_from(index)?)
}

fn host_port(index: usize) -> anyhow::Result<u16> {
    Ok(HOST_PORT + u16::try_from(index)?)
}

/// Builds the objects of a place; `index` keeps the ports of the node apart.
fn objects(namespace: &str, index: usize) -> anyhow::Result<String> {
    let (node_port, host_port) = (node_port(index)?, host_port(index)?);
    let server = |app: &str, labels: &str, port: u16| {
        let arguments = ["bookstore", "--name", app, "--port", &port.to_string()];
        deployment(app, "web", labels, "", &arguments, port)
    };
    let named = |manifest: String, port: u16, fields: &str| {
        manifest
            .replace(&format!("containerPort: {port}"), &format!("containerPort: {port}, name: web{fields}"))
    };
    let web = named(server("web", "{app: web, part: named}", HTTP), HTTP, "");
    let high = server("high", "{app: high, part: named}", HIGH);
    let high = named(high, HIGH, &format!(", hostPort: {host_port}"));
    let member = server("member", "{app: member}", HTTP)
        .replace("kind: Deployment", "kind: StatefulSet")
        .replace("  selector: {match", "  serviceName: members\n  selector: {match");
    let on_node = server("node", "{app: node, smidge.mesh/inject: disabled}", node_port)
        .replace("      serviceAccountName", "      hostNetwork: true\n      serviceAccountName");
    let ports = |service: &str, port: &str| {
        format!("  ports: [{{name: http, appProtocol: http, {port}}}]\n{service}")
    };
    let declare = |name: &str, fields: &str, port: &str| {
        let head = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n");
        head + &ports(fields, port) + "---\n"
    };
    let services = declare("renumbered", "  selector: {app: web}\n", "port: 80, targetPort: 14001")
        + &declare("named", "  selector: {part: named}\n", "port: 80, targetPort: web")
        + &declare("members", "  clusterIP: None\n  selector: {app: member}\n", "port: 14001")
        + &declare("manual", "", "port: 14001")
        + &declare("node", "  selector: {app: node}\n", &format!("port: 80, targetPort: {node_port}"))
        + &declare("at-node", "  type: NodePort\n  selector: {app: web}\n", "port: 14001")
        + &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: alias}}\nspec: \
             {{type: ExternalName, externalName: web.{namespace}.svc.cluster.local}}\n---\n"
        );
    let services = services + &service("web", "web", HTTP) + &service("second", "web", HTTP);
    let services = services + &service("alone", "member", HTTP) + &service("empty", "none", HTTP);
    Ok(web + &high + &member + &on_node + &services)
}

/// Returns an address as the host of a URL.
fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn slice(pod: &Pod) -> String {
    let family = if pod.address.contains(':') { "IPv6" } else { "IPv4" };
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: manual, labels: {{kubernetes.io/service-name: manual}}}}
addressType: {family}
ports: [{{name: http, port: {HTTP}, appProtocol: http}}]
endpoints: [{{addresses: ['{}'], conditions: {{ready: true}}}}]
---
",
        pod.address
    )
}

/// The server's pods of one place.
struct Servers {
    web: Pod,
    /// The one pod of its Service.
    alone: Pod,
    node: String,
    /// Port of the Service of type NodePort.
    node_port: i32,
    /// Host port of a pod.
    host_port: u16,
}

impl Servers {
    async fn of(namespace: &Namespace, index: usize) -> anyhow::Result<Self> {
        let web = Pod::one(namespace, "web").await?;
        namespace.apply(&slice(&web)).await?;
        for app in ["high", "member"] {
            Pod::one(namespace, app).await?;
        }
        let services: Api<core::Service> = Api::namespaced(namespace.cluster.client(), &namespace.name);
        let spec = services.get("at-node").await?.spec.unwrap_or_default();
        let node_port = spec.ports.into_iter().flatten().find_map(|port| port.node_port);
        Ok(Self {
            web,
            alone: Pod::one(namespace, "member").await?,
            node: Pod::one(namespace, "node").await?.address,
            node_port: node_port.context("a Service without a port at the node")?,
            host_port: host_port(index)?,
        })
    }

    fn url(&self, shape: &Shape) -> String {
        let (_, from, url) = shape;
        let pod = if *from == From::Itself { &self.alone } else { &self.web };
        url.replace("NS:", &format!("{}:", self.web.namespace))
            .replace("NS/", &format!("{}/", self.web.namespace))
            .replace("POD", &host(&pod.address))
            .replace("NODE", &host(&self.node))
            .replace("HOSTPORT", &self.host_port.to_string())
            .replace("PORT", &self.node_port.to_string())
    }
}

/// Makes the calls of all columns.
pub async fn observe(places: &Places<'_>) -> anyhow::Result<Vec<Row>> {
    let clients = places.clients("caller", &caller("caller")).await?;
    for (index, namespace) in places.servers().into_iter().enumerate() {
        namespace.apply(&objects(&namespace.name, index)?).await?;
    }
    places.mesh.apply(&target("web", "web", &["caller", "web"], EVERYTHING)).await?;
    let mut servers = Vec::new();
    for (index, namespace) in places.servers().into_iter().enumerate() {
        servers.push(Servers::of(namespace, index).await?);
    }
    let mut columns = Vec::new();
    for (client, namespace) in places.pairs(&clients) {
        let server = servers.iter().find(|server| server.web.namespace == namespace.name);
        columns.push(column(client, &clients, server.context("a place without servers")?).await?);
    }
    Row::of_columns(&columns)
}

async fn column(client: &Pod, clients: &Clients, servers: &Servers) -> anyhow::Result<Column> {
    let first = servers.url(SHAPES.first().context("no shape")?);
    until(&format!("{first} to be reached"), EFFECT, async || {
        client.call(&first, &[]).await?.must_all_be(200)
    })
    .await?;
    let rows = stream::iter(SHAPES).map(async |shape| {
        let (name, from, _) = shape;
        // A client in the mesh and a server outside are never the same pod.
        let is_other = client.name == clients.inside.name && servers.web.namespace != client.namespace;
        let what = match from {
            From::Itself if is_other => NONE.to_owned(),
            From::Itself => settled(&servers.alone, &servers.url(shape)).await,
            From::Client => settled(client, &servers.url(shape)).await,
        };
        Ok(((*name).to_owned(), what))
    });
    rows.buffered(AT_ONCE).try_collect().await
}

/// Calls until the answers are 200, or the time limit; returns what was seen last.
async fn settled(client: &Pod, url: &str) -> String {
    let mut last = String::new();
    let good = until(url, SETTLED, async || {
        let options = ["--count=20", "--concurrency=20", "--timeout-ms=2000", "--new-connections"];
        let calls = client.call(url, &options).await?;
        // In which way a connection fails depends on the node, and on the time limit.
        let failed = calls.failures.keys().next().map(|_| "no answer".to_owned());
        last = calls.status.keys().map(u16::to_string).chain(failed).collect::<Vec<_>>().join(", ");
        let mut is_good = calls.only_status() == Some(200);
        if url.contains("named.") {
            last = format!("{last} of {} pods", calls.served_by.len());
            is_good &= calls.served_by.len() > 1;
        }
        anyhow::ensure!(is_good, "{last}");
        Ok(())
    });
    // What does not succeed is a row of the table, and no failure.
    let _ = good.await;
    last
}
