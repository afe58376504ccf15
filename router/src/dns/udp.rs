//! Questions over UDP: one thread for each address at which we listen.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::mpsc;
use tracing::{debug, error};
use weave_datapath::linux::udp::Exchange;

use super::Transport;
use super::answer::Verdict;
use super::budget::Share;
use super::service::{Shared, rng};
use super::wire::Asked;

const STACK_BYTES: usize = 256 * 1024;

/// A question that upstream servers must answer, and where its reply goes.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) source: SocketAddr,
    pub(super) query: Vec<u8>,
    /// The longest reply that its asker takes, octets.
    pub(super) limit: usize,
    /// Of the questions that are under way.
    pub(super) share: Share,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(super) fn spawn(socket: UdpSocket, shared: Arc<Shared>, forwards: mpsc::Sender<Forward>) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        let serve = move || serve(&Arc::new(socket), &shared, &forwards, &stopped);
        let thread = std::thread::Builder::new().name("dns-udp".to_owned()).stack_size(STACK_BYTES).spawn(serve)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let woken = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).is_ok();
        if let Some(thread) = self.thread.take()
            && woken
            && thread.join().is_err()
        {
            error!("a thread that answers names over UDP panicked");
        }
    }
}

/// Whether the thread is to end: after each batch when questions wait, and at once when none does.
fn is_stopped(socket: &UdpSocket, stop: &OwnedFd, is_idle: bool) -> bool {
    let mut waiting = [PollFd::new(stop, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
    let patience = if is_idle { None } else { Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }) };
    let watched = if is_idle { &mut waiting[..] } else { &mut waiting[..1] };
    match poll(watched, patience) {
        Ok(_) => !waiting[0].revents().is_empty(),
        Err(_) => false,
    }
}

fn serve(socket: &Arc<UdpSocket>, shared: &Shared, forwards: &mpsc::Sender<Forward>, stop: &OwnedFd) {
    let mut exchange = Exchange::default();
    let mut rng = rng();
    let mut is_idle = false;
    while !is_stopped(socket, stop, is_idle) {
        let mut snapshot = None;
        let served = exchange.run(socket, |source, query, reply| {
            // Taken after the questions: a name that was given before a question was asked is in its answer.
            let (published, askers) = snapshot.get_or_insert_with(|| (shared.published(), shared.askers()));
            let Some(asker) = askers.find(source.ip(), &published.attached) else {
                shared.note_stranger();
                return;
            };
            match shared.responder.respond(&published.names, query, Transport::Udp, &mut rng, reply) {
                Verdict::Answered | Verdict::Dropped => {}
                Verdict::Forward { limit } => {
                    let forward =
                        |share| Forward { socket: Arc::clone(socket), source, query: query.to_vec(), limit, share };
                    let share = shared.questions.take(asker);
                    let is_sent = share.is_some_and(|share| forwards.try_send(forward(share)).is_ok());
                    if !is_sent && let Some(asked) = Asked::parse(query) {
                        *reply = asked.failure();
                    }
                }
            }
        });
        is_idle = match served {
            Ok(count) => count == 0,
            Err(error) => {
                debug!(%error, "a reply did not arrive");
                true
            }
        };
    }
}
