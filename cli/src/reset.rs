//! `reset`: leaves nothing behind. A running daemon does it itself; the rest of a stopped one is removed here, and what
//! `setup docker` has changed for it.
//!
//! Invariant: nothing is removed while a daemon uses the state, or when the state is not where the operator says.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use weave_router::app;
use weave_router::config::DEFAULT_STATE_DIR;
use weave_router::store::{self, Store};

use crate::args::{Control, ResetArgs};
use crate::client::{Client, NotRunning};
use crate::setup;

/// Asks the daemon to leave for good; without one, `--force` removes what it left.
pub(crate) fn reset(args: &ResetArgs, control: &Control) -> Result<()> {
    if let Some(given) = &args.state_dir {
        let is_ours = store::is_state(given)?;
        ensure!(is_ours, "{} holds no state of weave-rs, so nothing was removed; check --state-dir", given.display());
    }
    let request = Request::delete("/peer").body(Full::default())?;
    match Client::of(control)?.ask(request) {
        Ok(_) => {}
        Err(error) if error.is::<NotRunning>() && args.force => remove(args)?,
        Err(error) if error.is::<NotRunning>() => {
            let remedy = "nobody could be told that this peer leaves; `weave-rs reset --force` removes it all the same";
            return Err(error.context(remedy));
        }
        Err(error) => return Err(error),
    }
    setup::leave(&args.docker, control)
        .context("this host has left; `weave-rs setup docker --undo` is still to be done")
}

fn remove(args: &ResetArgs) -> Result<()> {
    let directory = args.state_dir.as_deref().unwrap_or_else(|| Path::new(DEFAULT_STATE_DIR));
    // Locked before anything is touched: a daemon may run that listens at another socket.
    let store = if directory.exists() { Some(Store::open(directory)?) } else { None };
    app::reset_kernel(args.bridge.as_ref())?;
    match store {
        Some(store) => Ok(store.remove()?),
        None => Ok(()),
    }
}
