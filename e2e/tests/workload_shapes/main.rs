//! The table of workload shapes (docs/shapes.md): traffic of every kind, Kubernetes objects of every kind, with the mesh on
//! both sides, on the client's only, on the server's only, and without it.
//!
//! `UPDATE_EXPECT=1` writes the table; without it, any difference from the written one is a failure. A row that is not as
//! without a mesh has its reason there.

mod ending;
mod objects;
mod place;
mod pods;
mod table;
mod traffic;

use smidge_e2e::with_temp_ns;

use place::Places;
use table::Table;

#[tokio::test]
async fn workloads_differ_by_the_mesh_only_as_the_table_lists() -> anyhow::Result<()> {
    with_temp_ns(&[], async |mesh| {
        let places = Places::create(mesh).await?;
        let outcome = observe(&places).await;
        places.delete().await?;
        outcome
    })
    .await
}

async fn observe(places: &Places<'_>) -> anyhow::Result<()> {
    let (traffic, objects) = tokio::try_join!(traffic::observe(places), objects::observe(places))?;
    Table { traffic, objects }.must_be_as_written()
}

#[tokio::test]
async fn pods_of_every_shape_run_to_their_end() -> anyhow::Result<()> {
    with_temp_ns(&[], pods::all).await
}

#[tokio::test]
async fn a_pod_that_ends_can_call_until_its_application_has_ended() -> anyhow::Result<()> {
    with_temp_ns(&[], ending::calls).await
}
