//! `reset`: leaves nothing behind. A running daemon does it itself; the rest of a stopped one is removed here.

use anyhow::Result;
use http_body_util::Full;
use hyper::Request;
use weave_router::{app, store};

use crate::args::{Control, ResetArgs};
use crate::client::{Client, NotRunning};

/// Asks the daemon to leave for good; without one, `--force` removes what it left.
pub(crate) fn reset(args: &ResetArgs, control: &Control) -> Result<()> {
    let request = Request::delete("/peer").body(Full::default())?;
    match Client::of(control)?.ask(request) {
        Ok(_) => Ok(()),
        Err(error) if error.is::<NotRunning>() && args.force => {
            app::reset_kernel(args.bridge.as_ref())?;
            Ok(store::remove(&args.state_dir)?)
        }
        Err(error) if error.is::<NotRunning>() => Err(error
            .context("nobody could be told that this peer leaves; `weave-rs reset --force` removes it all the same")),
        Err(error) => Err(error),
    }
}
