//! One connection's task: bytes between a stream and its machine, messages between the machine and control.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use weave_datapath::linux::clock::Clock;
use weave_mesh::connection::{Connection, Error, Event, PREAUTH_MAX_BYTES};
use weave_mesh::connector::{ConnectionId, DialError, DialId};

use super::{Caller, Order, Report};

/// Read at one time from a peer; a burst of records shares one system call.
const READ_BYTES: usize = 16 * 1024;
/// No further messages are taken from control while this much is sealed and unsent.
const UNSENT_MAX_BYTES: usize = 256 * 1024;
/// How long a closing connection waits for the other end to read.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What a task knows of its connection.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) connection: ConnectionId,
    pub(super) dial: Option<DialId>,
    pub(super) remote: SocketAddr,
    pub(super) clock: Clock,
    pub(super) reporter: mpsc::Sender<Report>,
    /// How long the messages are that wait for this task, octets.
    pub(super) queued: Arc<AtomicUsize>,
    /// Its turns with control.
    pub(super) turns: Arc<Semaphore>,
}

/// Why a task ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection reset: {0}")]
    Stream(#[from] io::Error),
    #[error("closed by the other end")]
    Eof,
    #[error(transparent)]
    Machine(#[from] Error),
    #[error("closed here")]
    Ordered,
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Open,
}

/// A stream, its machine, and what is between them.
struct Line {
    stream: TcpStream,
    machine: Connection,
    stage: Stage,
    /// Taken from the machine and not yet by the stream.
    unsent: Vec<u8>,
    /// Lent to each read. Small for a stranger: hundreds of them may be waiting.
    received: Vec<u8>,
}

impl Shell {
    pub(super) async fn run(self, stream: TcpStream, machine: Connection, mut orders: mpsc::Receiver<Order>) {
        // Small messages must not wait for each other's acknowledgements; a stream without the option still works.
        let _ = stream.set_nodelay(true);
        let (stage, received) = (Stage::Handshake, vec![0; PREAUTH_MAX_BYTES]);
        let mut line = Line { stream, machine, stage, unsent: Vec::new(), received };
        let end = loop {
            if let Err(end) = self.step(&mut line, &mut orders).await {
                break end;
            }
        };
        // What the machine still has to say, such as why it refuses.
        let _ = timeout(FLUSH_TIMEOUT, line.flush()).await;
        self.report_end(line.stage, &end).await;
    }

    /// Waits for one thing to happen, and deals with it.
    async fn step(&self, line: &mut Line, orders: &mut mpsc::Receiver<Order>) -> Result<(), End> {
        let Line { stream, machine, stage, unsent, received } = line;
        if unsent.is_empty() {
            *unsent = machine.poll_transmit().unwrap_or_default();
        }
        let deadline = machine.poll_timeout().map(|at| Instant::from_std(self.clock.system_instant(at)));
        let may_order = *stage == Stage::Open && machine.backlog_bytes() < UNSENT_MAX_BYTES;
        let (mut reader, mut writer) = stream.split();
        tokio::select! {
            written = writer.write(unsent), if !unsent.is_empty() => {
                unsent.drain(..written?);
            }
            read = reader.read(received) => {
                let read = read?;
                if read == 0 {
                    return Err(End::Eof);
                }
                let outcome = machine.handle_bytes(&received[..read]);
                self.report_events(line).await?;
                outcome?;
            }
            order = orders.recv(), if may_order => {
                self.carry_out(order.ok_or(End::Ordered)?, machine).await?;
                // What control said in one breath goes in one segment.
                while machine.backlog_bytes() < UNSENT_MAX_BYTES && let Ok(order) = orders.try_recv() {
                    self.carry_out(order, machine).await?;
                }
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                machine.handle_timeout(self.clock.now())?;
            }
        }
        Ok(())
    }

    async fn carry_out(&self, order: Order, machine: &mut Connection) -> Result<(), End> {
        match order {
            Order::Send(message, bytes) => {
                self.queued.fetch_sub(bytes, Ordering::Relaxed);
                machine.send(&message)?;
            }
            Order::AwaitRoom => {
                let report = Report::Room { connection: self.connection };
                self.reporter.send(report).await.map_err(|_| End::Ordered)?;
            }
        }
        Ok(())
    }

    async fn report_events(&self, line: &mut Line) -> Result<(), End> {
        while let Some(event) = line.machine.poll_event() {
            let (connection, dial, remote) = (self.connection, self.dial, self.remote);
            let report = match event {
                Event::Connected(connected) => {
                    line.stage = Stage::Open;
                    line.received.resize(READ_BYTES, 0);
                    Report::Connected { connection, dial, remote, connected }
                }
                Event::Message(message) => {
                    let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| End::Ordered)?;
                    Report::Message { connection, message: Box::new(message), turn }
                }
            };
            self.reporter.send(report).await.map_err(|_| End::Ordered)?;
        }
        Ok(())
    }

    async fn report_end(&self, stage: Stage, end: &End) {
        let (connection, remote, reason) = (self.connection, self.remote, end.to_string());
        let report = match (stage, self.dial) {
            (Stage::Open, _) => Report::Closed { connection, reason },
            (Stage::Handshake, Some(dial)) => {
                Report::DialFailed { connection, dial, remote: remote.to_string(), error: DialError::Connect(reason) }
            }
            (Stage::Handshake, None) => Report::Refused { connection, remote, reason, caller: caller(end) },
        };
        // Control that is gone needs no report.
        let _ = self.reporter.send(report).await;
    }
}

/// A host of the operator's gets as far as a wrong password, mesh or version; others do not.
const fn caller(end: &End) -> Caller {
    match end {
        End::Machine(Error::WrongPassword | Error::OtherMesh { .. } | Error::Version { .. }) => Caller::Misconfigured,
        _ => Caller::Stranger,
    }
}

impl Line {
    /// Sends everything that the machine has, and the end of the stream.
    async fn flush(&mut self) -> io::Result<()> {
        let mut next = Some(std::mem::take(&mut self.unsent));
        while let Some(bytes) = next {
            self.stream.write_all(&bytes).await?;
            next = self.machine.poll_transmit();
        }
        self.stream.shutdown().await
    }
}
