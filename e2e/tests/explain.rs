//! Tests `smidge explain` against a cluster: it reports what the proxies do, and its suggestion changes what they do.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, caller, everything, shop, target},
    until, with_temp_ns,
};
use tokio::process::Command;

/// Time limit for a caller to see the effect of a change of policy, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);

const BOOKS: &str = "http://shop:14001/books";

/// Returns the path of this build's program, which is in the folder above the tests.
fn program() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(|deps| deps.parent()).context("no folder above the test")?;
    Ok(folder.join("smidge"))
}

/// Runs `smidge explain`; returns the exit status and the answer.
async fn ask(namespace: &Namespace, caller: &str) -> anyhow::Result<(Option<i32>, Value)> {
    let kubeconfig = std::env::var_os("SMIDGE_KUBECONFIG").context("no cluster is under test")?;
    let name = &namespace.name;
    let mut command = Command::new(program()?);
    command.args(["explain", &format!("{name}/{caller}"), &format!("{name}/shop")]);
    command.args(["--method", "GET", "--path", "/books", "--port", "14001", "--output", "json"]);
    command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("failed to run smidge explain")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout).with_context(|| format!("no answer: {said}"))?;
    Ok((output.status.code(), answer))
}

#[tokio::test]
async fn the_answer_is_what_the_proxies_do_and_the_suggestion_changes_it() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &caller("thief"))).await?;
        namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
        Pod::one(namespace, "shop").await?;
        let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
        until("the buyer to be allowed", EFFECT, async || buyer.call(BOOKS, &[]).await?.must_all_be(200))
            .await?;

        let (status, answer) = ask(namespace, "buyer").await?;
        anyhow::ensure!(status == Some(0) && answer["verdict"] == "allowed", "{status:?} {answer:#}");
        anyhow::ensure!(answer["mode"] == "enforce", "{answer:#}");

        thief.call(BOOKS, &[]).await?.must_all_be(403)?;
        let (status, answer) = ask(namespace, "thief").await?;
        anyhow::ensure!(status == Some(1) && answer["verdict"] == "denied", "{status:?} {answer:#}");
        let suggestion = answer["suggestion"]["yaml"].as_str().context("no suggestion")?;
        namespace.apply(suggestion).await?;
        until("the suggestion to let the thief in", EFFECT, async || {
            thief.call(BOOKS, &[]).await?.must_all_be(200)
        })
        .await?;
        thief.call("http://shop:14001/buy", &[]).await?.must_all_be(403)?;
        let (status, answer) = ask(namespace, "thief").await?;
        anyhow::ensure!(status == Some(0) && answer["verdict"] == "allowed", "{status:?} {answer:#}");
        Ok(())
    })
    .await
}
