//! `stop`: ends the daemon, and returns when its process is gone.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http_body_util::Full;
use hyper::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::args::Control;
use crate::client::Client;

/// A daemon that has said that it ends and is there after this is stuck.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks for a daemon whose process cannot be seen from here.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) fn stop(control: &Control) -> Result<()> {
    let client = Client::of(control)?;
    let process = client.process()?.and_then(opened);
    client.ask(Request::post("/stop").body(Full::default())?)?;
    let is_gone = match process {
        Some(process) => wait_end(&process)?,
        None => wait_silence(&client),
    };
    if is_gone { Ok(()) } else { bail!("the daemon is still there after {END_TIMEOUT:?}; see its log") }
}

/// Holds on to the process, so that its number cannot become another's.
fn opened(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// A process that has ended makes its descriptor readable.
fn wait_end(process: &OwnedFd) -> Result<bool> {
    let timeout = Timespec::try_from(END_TIMEOUT)?;
    Ok(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout))? > 0)
}

fn wait_silence(client: &Client) -> bool {
    let until = Instant::now() + END_TIMEOUT;
    while client.process().is_ok() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    true
}
