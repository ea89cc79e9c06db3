//! Places for clients and servers: in the mesh under the strictest modes, in the mesh under the most permissive ones, and
//! outside of it. The four columns of the table are pairs of them.

use smidge_e2e::{Namespace, Pod, bookstore::everything};

/// Columns of the table, with the meaning that a reader gives them.
pub const COLUMNS: [&str; 4] = ["without", "both", "client only", "server only"];

/// Three namespaces, each with what is called `server` and `client`.
pub struct Places<'a> {
    /// In the mesh: `mtls: strict`, `access: enforce`.
    pub mesh: &'a Namespace,
    /// In the mesh, and open to callers outside: `mtls: permissive`, `access: permissive`.
    pub open: Namespace,
    /// Outside the mesh.
    pub outside: Namespace,
}

impl<'a> Places<'a> {
    /// Creates the other two namespaces.
    pub async fn create(mesh: &'a Namespace) -> anyhow::Result<Self> {
        let open = [
            ("smidge.mesh/inject", "enabled"),
            ("smidge.mesh/mtls", "permissive"),
            ("smidge.mesh/access", "permissive"),
        ];
        let open = Namespace::create(&mesh.cluster, &open).await?;
        let outside = Namespace::create(&mesh.cluster, &[]).await?;
        Ok(Self { mesh, open, outside })
    }

    /// Deletes the two namespaces that `create` has created.
    pub async fn delete(&self) -> anyhow::Result<()> {
        self.open.delete().await?;
        self.outside.delete().await
    }

    /// Returns the namespaces in which servers run.
    pub fn servers(&self) -> [&Namespace; 3] {
        [self.mesh, &self.open, &self.outside]
    }

    /// Creates a client in the mesh and one outside, of this image's program.
    pub async fn clients(&self, app: &str, manifest: &str) -> anyhow::Result<Clients> {
        self.mesh.apply(&(manifest.to_owned() + &everything())).await?;
        self.outside.apply(manifest).await?;
        let (inside, outside) = tokio::try_join!(Pod::one(self.mesh, app), Pod::one(&self.outside, app))?;
        Ok(Clients { inside, outside })
    }

    /// Returns each column's client and the namespace of its server, in the order of `COLUMNS`.
    pub fn pairs<'b>(&'b self, clients: &'b Clients) -> [(&'b Pod, &'b Namespace); 4] {
        [
            (&clients.outside, &self.outside),
            (&clients.inside, self.mesh),
            (&clients.inside, &self.outside),
            (&clients.outside, &self.open),
        ]
    }
}

/// The two clients.
pub struct Clients {
    /// In the mesh.
    pub inside: Pod,
    /// Outside the mesh.
    pub outside: Pod,
}
