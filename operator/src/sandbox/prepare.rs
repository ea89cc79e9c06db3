//! Turns a machine of a sandbox into one that an Envoy can serve: redirection in its network, certificate and bootstrap.
//!
//! Used by `processes`, and by the quickstart as `smidge sandbox-part prepare`. All three are made by commands of this
//! very program. Starts no proxy.

use std::{
    ffi::OsStr,
    io,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// User and group of the proxies, and the mark of their sockets where all processes have one user.
pub const PROXY: &str = "1337";

const COMMANDS: &str = r#"set -eu
PATH=$PATH:/usr/sbin:/sbin
smidge=$1 network=$2 machine=$3 address=$4 folder=$5 state=$6 control_plane=$7 mark=$8 user=$9
nsenter --net="/run/netns/$network" -- "$smidge" redirect ${mark:+--proxy-mark "$mark"}
"$smidge" machine certificate "$machine" --state "$state" --out "$folder" >/dev/null
"$smidge" machine bootstrap "$machine" --state "$state" --credentials "$folder" \
    --control-plane "$control_plane" --address "$address" ${mark:+--proxy-mark "$mark"} >"$folder/envoy.json"
[ -n "$mark" ] || chown -R "$user:$user" "$folder"
"#;

/// A machine to prepare.
#[derive(Debug, Clone, clap::Args)]
pub struct Preparation {
    /// Name of its network namespace, below /run/netns.
    pub network: String,
    /// The machine: NAMESPACE/NAME.
    pub machine: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Folder for the certificate and for the bootstrap, `envoy.json`.
    pub folder: PathBuf,
    /// Folder of the control plane's state.
    #[arg(long)]
    pub state: PathBuf,
    /// Address and port of the control plane.
    #[arg(long)]
    pub control_plane: String,
    /// Know the proxy by the mark of its sockets: all processes have one user.
    #[arg(long)]
    pub one_user: bool,
}

/// Prepares a machine with `smidge`, by commands of `shell`. Returns their output, and whether they have succeeded.
pub fn prepare(mut shell: Command, smidge: &OsStr, machine: &Preparation) -> io::Result<Output> {
    let Preparation { network, machine, address, folder, state, control_plane, one_user } = machine;
    shell.args(["-c", COMMANDS, "sh"]).arg(smidge).args([network, machine, &address.to_string()]);
    shell.args([folder, state]).args([control_plane.as_str(), if *one_user { PROXY } else { "" }, PROXY]);
    shell.stdin(Stdio::null()).output()
}
