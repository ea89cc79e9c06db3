//! Switches access modes in every direction while an allowed caller sends requests and holds TCP connections.
//!
//! The caller of this module sets the mode: by the label of a namespace, or by the settings of the whole mesh.

use std::time::Duration;

use crate::{
    Namespace, Pod,
    bookstore::{EVERYTHING, TCP, caller, everything, shop, store, target, tcp_route},
    until,
};

/// Time limit for a caller to see the effect of a switch, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);

const BOOKS: &str = "http://shop:14001/books";
const STORE: &str = "store:14003";

/// Every direction once, from `enforce` and back to it.
const SWITCHES: [&str; 6] = ["audit", "permissive", "audit", "enforce", "permissive", "enforce"];

/// Returns the number of times that all directions are switched: `SMIDGE_SWITCHES`, for a soak.
fn rounds() -> usize {
    std::env::var("SMIDGE_SWITCHES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// Sets the modes one after another, in a namespace that enforces at first, and verifies each of them with a caller
/// without a permission. No request of the other caller may fail, and its TCP connections may end only when enforcement
/// begins.
pub async fn in_every_direction(
    namespace: &Namespace,
    set: impl AsyncFn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    namespace.apply(&(shop("shop", "shop", "v1") + &store() + &caller("buyer") + &caller("thief"))).await?;
    let rules = "[{kind: TCPRoute, name: store}]";
    let route = tcp_route("store", &format!("[{TCP}]")) + &target("store", "store", &["buyer"], rules);
    namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING) + &route)).await?;
    for app in ["shop", "store"] {
        Pod::one(namespace, app).await?;
    }
    let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
    until("the buyer to be allowed", EFFECT, async || {
        buyer.call(BOOKS, &[]).await?.must_all_be(200)?;
        anyhow::ensure!(buyer.dial_store(STORE).await?.answered == 1, "the store does not answer");
        Ok(())
    })
    .await?;
    holds("enforce", &thief).await?;

    let kept = buyer.keep_calling(BOOKS, &["--concurrency=4", "--rate=200"]).await?;
    let fresh = buyer.keep_calling(BOOKS, &["--concurrency=2", "--rate=50", "--new-connections"]).await?;
    let rounds = rounds();
    for mode in SWITCHES.iter().cycle().take(rounds * SWITCHES.len()) {
        let dialling = buyer.keep_dialling(STORE).await?;
        set(mode).await?;
        holds(mode, &thief).await?;
        // When enforcement begins, TCP connections end: some of them may no longer be allowed.
        if *mode != "enforce" {
            let dialled = dialling.dialled().await?;
            anyhow::ensure!(dialled.end == "held", "to {mode}: a TCP connection ended: {dialled:?}");
        }
        anyhow::ensure!(buyer.dial_store(STORE).await?.answered == 1, "{mode}: the store does not answer");
    }
    let switches = rounds * SWITCHES.len();
    for (kind, calls) in [("kept", kept.calls().await?), ("new", fresh.calls().await?)] {
        println!("{switches} switches, {kind} connections: {} requests, {:?}", calls.requests, calls.status);
        calls.must_all_be(200)?;
    }
    Ok(())
}

/// Waits until the mode applies to a caller without a permission.
async fn holds(mode: &str, thief: &Pod) -> anyhow::Result<()> {
    let expected = if mode == "enforce" { 403 } else { 200 };
    until(&format!("{mode} to hold"), EFFECT, async || {
        thief.call(BOOKS, &["--count=5"]).await?.must_all_be(expected)?;
        let is_answered = thief.dial_store(STORE).await?.answered == 1;
        anyhow::ensure!(is_answered == (expected == 200), "the store answers: {is_answered}");
        Ok(())
    })
    .await
}
