//! Turns what the columns saw into docs/shapes.md, and compares it with the committed one.

use std::{env, fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use crate::place::COLUMNS;

/// One shape, with what each column saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name of the shape.
    pub shape: String,
    /// Outcomes in the order of `COLUMNS`; the first is without a mesh.
    pub seen: Vec<String>,
}

/// Shapes and what one column saw of them.
pub type Column = Vec<(String, String)>;

/// Both tables.
pub struct Table {
    /// Rows of traffic.
    pub traffic: Vec<Row>,
    /// Rows of Kubernetes objects.
    pub objects: Vec<Row>,
}

/// Reasons of the rows that are not the same in every column.
const REASONS: &[(&str, &str)] = &[
    (
        "HTTP/1.1, absolute URL at an HTTP port",
        "a proxy of HTTP sends a path; a forward proxy in the mesh is a port of protocol TCP, below",
    ),
    (
        "HTTP/1.1, trailers of a request",
        "removed: a server that reads them as headers would read some that no rule has judged",
    ),
    ("request head of 200 KB", "more than 96 KiB, or what `spec.limits` of the MeshConfig sets"),
    ("response head of 200 KB", "more than 96 KiB, or what `spec.limits` of the MeshConfig sets"),
    (
        "Service without selector, EndpointSlice with a pod",
        "the mesh does not know who serves there, so the call leaves in plaintext, which `mtls: strict` refuses",
    ),
    (
        "`type: NodePort`, at the node",
        "an address of the node is outside the mesh, so the call leaves in plaintext: call the Service",
    ),
    (
        "`hostPort`, at the node",
        "an address of the node is outside the mesh, so the call leaves in plaintext: call the Service",
    ),
    (
        "pods in the node's network (`hostNetwork`)",
        "they have no proxy, and a strict namespace sends no plaintext; `mtls: permissive` allows it",
    ),
    (
        "address of a pod",
        "in the mesh only at the ports of a headless Service over the pod ([limits](limits.md)): call the Service",
    ),
    (
        "Service without pods",
        "the proxy accepts the connection, so it can give an answer: 503 in a namespace of the mesh",
    ),
];

const SAME: &str = "same";
/// Mark of a shape that has no meaning in a column.
pub const NONE: &str = "–";

impl Row {
    /// Joins columns of the same shapes, in their order.
    pub fn of_columns(columns: &[Column]) -> anyhow::Result<Vec<Self>> {
        let first = columns.first().context("no column")?;
        let row = |(index, (shape, _)): (usize, &(String, String))| {
            let seen = columns.iter().filter_map(|column| column.get(index));
            let seen: Vec<_> = seen.filter(|(of, _)| of == shape).map(|(_, seen)| seen.clone()).collect();
            anyhow::ensure!(seen.len() == COLUMNS.len(), "a column without {shape:?}");
            Ok(Self { shape: shape.clone(), seen })
        };
        first.iter().enumerate().map(row).collect()
    }

    fn reason(&self) -> Option<&'static str> {
        REASONS.iter().find(|(shape, _)| *shape == self.shape).map(|(_, reason)| *reason)
    }

    fn line(&self) -> String {
        let without = self.seen.first().cloned().unwrap_or_default();
        let mut line = format!("| {} | {without} ", self.shape);
        for seen in self.seen.iter().skip(1) {
            let _ = write!(line, "| {} ", if *seen == without { SAME } else { seen });
        }
        line + "| " + self.reason().unwrap_or_default() + " |\n"
    }

    fn is_same(&self) -> bool {
        self.seen.iter().all(|seen| seen == NONE || Some(seen) == self.seen.first())
    }
}

impl Table {
    fn text(&self) -> String {
        let head = format!("| shape | {} | reason |\n|{}\n", COLUMNS.join(" | "), " --- |".repeat(6));
        let rows = |rows: &[Row]| rows.iter().map(Row::line).collect::<String>();
        include_str!("head.md")
            .replace("{traffic}\n", &(head.clone() + &rows(&self.traffic)))
            .replace("{objects}\n", &(head + &rows(&self.objects)))
    }

    /// Fails at a difference from the committed table, and where a row that differs has no reason or the reverse.
    pub fn must_be_as_written(&self) -> anyhow::Result<()> {
        let text = self.text();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/shapes.md");
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &text).context("failed to write docs/shapes.md")?;
        }
        for row in self.traffic.iter().chain(&self.objects) {
            anyhow::ensure!(row.is_same() == row.reason().is_none(), "without a reason, or same: {row:?}");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter(|line| !written.contains(line)).collect::<Vec<_>>().join("\n");
        anyhow::ensure!(
            text == written,
            "docs/shapes.md has other rows (UPDATE_EXPECT=1 writes it):\n{lines}"
        );
        Ok(())
    }
}
