//! runc has made a container's namespaces, and waits: the daemon attaches it.

use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::bundle::Bundle;
use crate::command::Options;
use crate::{daemon, prepare};

/// The longest state that is read, octets.
const STATE_MAX_BYTES: u64 = 1 << 20;

/// A container's state, as runc gives it to hooks (OCI runtime specification 1.0, "State").
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    pid: u32,
    bundle: PathBuf,
}

/// # Errors
/// When the container could not be attached: runc then undoes it, and Docker shows the reason.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut text = Vec::new();
    std::io::stdin().take(STATE_MAX_BYTES).read_to_end(&mut text)?;
    let state: State =
        serde_json::from_slice(&text).context("this is a hook of runc's, which gives it a container's state")?;
    let deadline = Instant::now() + options.timeout;
    let process = state.pid.to_string();
    let path = format!("/containers/{}/plug", state.id);
    let bundle = Bundle::read(&state.bundle)?;
    let mut form = prepare::wishes(&bundle);
    form.push(("pid", &process));
    let answer = daemon::ask(&options.socket, &path, &form, deadline);
    answer.map(drop).map_err(|why| anyhow!("the container could not be attached: {why}"))
}
