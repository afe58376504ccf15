//! Octets from one side to the other: a body as far as it goes, an answer, or all there is, both ways.
//!
//! ```text
//!   client.source ──→ request's body, then whatever else comes early ──→ engine.sink
//!   client.sink   ←── heads, then a body, or a stream                ←── engine.source
//! ```
//!
//! Invariants: both directions go at once, since an engine may answer what it has not read; who ends one direction leaves
//! the other open; a transfer that is given up, to go on later, has neither lost nor repeated an octet.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::framing::{Body, ChunkError, Measure};
use super::head::{Answer, HeadEnd, HeadError};
use super::source::Source;

/// The longest head of a request or an answer; credentials for many registries are sent in one.
pub(crate) const HEAD_MAX_BYTES: usize = 256 * 1024;
/// How far a client is read ahead of the answer it waits for, only to notice when it goes away.
const AHEAD_MAX_BYTES: usize = 64 * 1024;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Side<R, W> {
    pub(crate) source: Source<R>,
    pub(crate) sink: W,
}

/// Why a transfer stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    #[error("cannot be read: {0}")]
    Source(io::Error),
    #[error("cannot be written to: {0}")]
    Sink(io::Error),
    #[error("ended in the middle of a message")]
    Cut,
    #[error("ended before the first octet of a message")]
    Nothing,
    #[error("the head is longer than {HEAD_MAX_BYTES} octets")]
    HeadTooLong,
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// How it goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// With the next request.
    Next,
    /// There are no more messages, only octets.
    Stream,
    /// Not at all.
    Close,
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Transfer {
    measure: Measure,
    /// Octets at the front of the source that are to be written.
    pending: usize,
}

impl Transfer {
    /// Of a body that comes.
    pub(crate) fn of(body: Body) -> Self {
        Self { measure: body.into(), pending: 0 }
    }

    /// Of a head that is there, and of the body that follows it.
    pub(crate) fn with_head(head: usize, body: Body) -> Self {
        Self { measure: body.into(), pending: head }
    }

    /// The rest of what was counted up to here.
    pub(crate) fn rest(measure: Measure) -> Self {
        Self { measure, pending: 0 }
    }

    fn is_over(&self) -> bool {
        self.measure.is_over() && self.pending == 0
    }

    /// Goes on until the body's end, or the source's where it has none of its own.
    pub(crate) async fn run<R, W>(&mut self, source: &mut Source<R>, sink: &mut W) -> Result<(), Halt>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let known = source.bytes().get(self.pending..).unwrap_or_default();
            let counted = self.measure.take(known, |_| ());
            self.pending += counted.unwrap_or_default();
            self.write(source, sink).await?;
            counted?;
            if self.measure.is_over() {
                return Ok(());
            }
            if !source.fill().await.map_err(Halt::Source)? {
                return if self.measure == Measure::Endless { Ok(()) } else { Err(Halt::Cut) };
            }
        }
    }

    async fn write<R, W>(&mut self, source: &mut Source<R>, sink: &mut W) -> Result<(), Halt>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.pending == 0 {
            return Ok(());
        }
        while self.pending > 0 {
            let written = sink.write(&source.bytes()[..self.pending]).await.map_err(Halt::Sink)?;
            if written == 0 {
                return Err(Halt::Sink(io::ErrorKind::WriteZero.into()));
            }
            source.consume(written);
            self.pending -= written;
        }
        sink.flush().await.map_err(Halt::Sink)
    }
}

/// Waits for a whole head, which stays at the front of the source; its length.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(source: &mut Source<R>) -> Result<usize, Halt> {
    let mut end = HeadEnd::default();
    loop {
        if let Some(length) = end.find(source.bytes())? {
            return Ok(length);
        }
        if source.bytes().len() >= HEAD_MAX_BYTES {
            return Err(Halt::HeadTooLong);
        }
        if !source.fill().await.map_err(Halt::Source)? {
            return Err(if source.bytes().is_empty() { Halt::Nothing } else { Halt::Cut });
        }
    }
}

/// Passes on a request, whose head of this length is at the front of the client, and its answer.
pub(crate) async fn exchange<CR, CW, ER, EW>(
    client: &mut Side<CR, CW>,
    engine: &mut Side<ER, EW>,
    mut upload: Transfer,
    to_head: bool,
) -> Result<After, Halt>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    ER: AsyncRead + Unpin,
    EW: AsyncWrite + Unpin,
{
    let after = {
        let mut up = pin!(send(&mut upload, &mut client.source, &mut engine.sink));
        let mut down = pin!(answer(&mut engine.source, &mut client.sink, to_head));
        tokio::select! {
            after = &mut down => after?,
            sent = &mut up => {
                sent?;
                down.await?
            }
        }
    };
    if after == After::Stream || upload.is_over() {
        return Ok(after);
    }
    if upload.measure.is_broken() {
        return Ok(After::Close);
    }
    // Answered, and not read to its end. The engine either goes on reading, or closes.
    tokio::select! {
        sent = upload.run(&mut client.source, &mut engine.sink) => sent.map(|()| After::Next),
        _ = engine.source.fill() => Ok(After::Close),
    }
}

/// The request; and then the news that the client has ended, which makes the engine give up following logs or events.
async fn send<R, W>(upload: &mut Transfer, client: &mut Source<R>, engine: &mut W) -> Result<(), Halt>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match upload.run(client, engine).await {
        Ok(()) => {}
        // It may have answered already, and then what it said counts.
        Err(Halt::Sink(_)) => return Ok(()),
        // Half a body, or one that cannot be counted: the engine has the words for that.
        Err(Halt::Cut | Halt::Chunk(_)) => return end(engine).await,
        Err(halt) => return Err(halt),
    }
    while client.bytes().len() < AHEAD_MAX_BYTES && client.fill().await.map_err(Halt::Source)? {}
    // What came early is a request of its own, or input: it goes before the end.
    if client.has_ended() && client.bytes().is_empty() { end(engine).await } else { Ok(()) }
}

async fn end<W: AsyncWrite + Unpin>(engine: &mut W) -> Result<(), Halt> {
    // One that is gone shows in what it answers.
    let _ = engine.shutdown().await;
    Ok(())
}

/// The answer to one request, with those that come before it.
async fn answer<R, W>(engine: &mut Source<R>, client: &mut W, to_head: bool) -> Result<After, Halt>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (head, answer) = last_head(engine, client, to_head).await?;
    if answer.body == Body::UntilClose {
        Transfer::with_head(head, Body::Length(0)).run(engine, client).await?;
        return Ok(After::Stream);
    }
    Transfer::with_head(head, answer.body).run(engine, client).await?;
    Ok(After::Next)
}

/// The head that answers a request, left at the front of the engine, and its length; those that come before it go to the
/// client.
pub(crate) async fn last_head<R, W>(
    engine: &mut Source<R>,
    client: &mut W,
    to_head: bool,
) -> Result<(usize, Answer), Halt>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let length = read_head(engine).await?;
        let answer = Answer::parse(&engine.bytes()[..length], to_head)?;
        if !answer.is_interim() {
            return Ok((length, answer));
        }
        Transfer::with_head(length, answer.body).run(engine, client).await?;
    }
}

/// Octets both ways, until both sides have ended; a client that does not, after the engine has, gets that long.
pub(crate) async fn stream<CR, CW, ER, EW>(
    client: &mut Side<CR, CW>,
    engine: &mut Side<ER, EW>,
    patience: Duration,
) -> Result<(), Halt>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    ER: AsyncRead + Unpin,
    EW: AsyncWrite + Unpin,
{
    let mut up = pin!(one_way(&mut client.source, &mut engine.sink));
    let mut down = pin!(one_way(&mut engine.source, &mut client.sink));
    tokio::select! {
        ended = &mut down => match ended {
            // An engine that closed on unread input counts as one that has said everything.
            Ok(()) | Err(Halt::Source(_)) => timeout(patience, up).await.unwrap_or(Ok(())),
            Err(halt) => Err(halt),
        },
        ended = &mut up => match ended {
            // An engine that takes no more input may still have output.
            Ok(()) | Err(Halt::Sink(_)) => down.await,
            Err(halt) => Err(halt),
        },
    }
}

async fn one_way<R, W>(source: &mut Source<R>, sink: &mut W) -> Result<(), Halt>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let passed = Transfer::of(Body::UntilClose).run(source, sink).await;
    if !matches!(passed, Err(Halt::Sink(_))) {
        let _ = sink.shutdown().await;
    }
    passed
}
