//! Runs the real kubectl, with the arguments that a user types.
//!
//! For what must work in a terminal and in scripts: `kubectl wait`, `kubectl apply --server-side`, `kubectl edit`. The
//! program is the one of the cluster (`KUBECTL`, which `e2e/mesh env` prints), else the first in the path.

use std::{ffi::OsString, process::Stdio};

use anyhow::Context as _;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::Namespace;

impl Namespace {
    /// Runs kubectl in this namespace with arguments separated by blanks, and returns its output. The error has its
    /// messages.
    pub async fn kubectl(&self, line: &str) -> anyhow::Result<String> {
        self.kubectl_with(line, "", "false").await
    }

    /// Does the same with `input` as its standard input, and `editor` for `kubectl edit`.
    pub async fn kubectl_with(&self, line: &str, input: &str, editor: &str) -> anyhow::Result<String> {
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| OsString::from("kubectl"));
        let kubeconfig = std::env::var_os("SMIDGE_KUBECONFIG").context("no cluster is under test")?;
        let mut command = Command::new(&program);
        command.arg("--kubeconfig").arg(kubeconfig).arg("--namespace").arg(&self.name);
        command.args(line.split_whitespace()).env("KUBE_EDITOR", editor).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("failed to run {}", program.display()))?;
        let mut stdin = process.stdin.take().context("standard input")?;
        let fed = async {
            stdin.write_all(input.as_bytes()).await?;
            drop(stdin);
            Ok(())
        };
        let ((), output) = tokio::try_join!(fed, process.wait_with_output())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        anyhow::ensure!(output.status.success(), "`kubectl {line}` failed: {stdout}\n{stderr}");
        Ok(stdout)
    }
}
