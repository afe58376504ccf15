//! Ways to see whether a network works: waiting, pinging, streaming, listening in, and forging.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::topology::Container;

mod capture;
mod stream;

pub use capture::{Capture, PacketSocket};
pub use stream::{Report, TcpStreamProbe, UdpStreamProbe};

/// Polls a condition until it holds, and returns how long that took. The one place where a test may wait.
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        let last = condition();
        if matches!(last, Ok(true)) {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() >= deadline {
            match last {
                Err(error) => return Err(error.context(format!("not within {deadline:?}: {what}"))),
                Ok(_) => bail!("not within {deadline:?}: {what}"),
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tries until something can be had. Also what was closed just now may be in use: a program that another test starts holds
/// all descriptors of this process for a moment, between its fork and its exec.
pub fn obtain<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut had = None;
    eventually(deadline, what, || {
        had = Some(attempt()?);
        Ok(true)
    })?;
    had.context("it was had")
}

/// Lets time pass in which nothing is to happen, and fails at the first sign that `condition` no longer holds.
pub fn throughout(time: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        if !condition()? {
            bail!("after {:?} it was over: {what}", begin.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Does a job for each of `items`, all at the same time; the results are in their order.
pub fn at_once<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    job: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let job = &job;
        let jobs: Vec<_> = items.into_iter().map(|item| scope.spawn(move || job(item))).collect();
        jobs.into_iter().map(|job| job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// One echo request, answered within a second and a half or not.
pub fn ping(from: &Container, to: impl Into<IpAddr>) -> Result<()> {
    from.namespace().run(&format!("ping -n -c1 -W1.5 {}", to.into()))?;
    Ok(())
}

/// Pings until one is answered.
pub fn ping_eventually(from: &Container, to: impl Into<IpAddr>, deadline: Duration) -> Result<Duration> {
    let to = to.into();
    eventually(deadline, &format!("{from} pings {to}"), || {
        Ok(from.namespace().run(&format!("ping -n -c1 -W0.3 {to}")).is_ok())
    })
    .with_context(|| from.namespace().run("ip neigh").unwrap_or_default())
}
