//! Whole bodies in memory, for the few calls that are looked into.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::framing::{Body, Measure};
use super::head::Answer;
use super::relay::{Halt, Side, Transfer, last_head};
use super::source::Source;

/// Why a request's body was not had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {0} octets")]
    TooLong(usize),
    #[error("the body {0}")]
    Halt(#[from] Halt),
}

/// The content of a body, which the source no longer has then.
pub(crate) async fn read_body<R>(source: &mut Source<R>, body: Body, limit: usize) -> Result<Vec<u8>, BodyError>
where
    R: AsyncRead + Unpin,
{
    if let Body::Length(length) = body
        && !usize::try_from(length).is_ok_and(|length| length <= limit)
    {
        return Err(BodyError::TooLong(limit));
    }
    let mut measure = Measure::from(body);
    let mut content = Vec::new();
    while !measure.is_over() {
        if source.bytes().is_empty() && !source.fill().await.map_err(Halt::Source)? {
            return Err(Halt::Cut.into());
        }
        let taken = measure.take(source.bytes(), |data| content.extend_from_slice(data)).map_err(Halt::from)?;
        source.consume(taken);
        if content.len() > limit {
            return Err(BodyError::TooLong(limit));
        }
    }
    Ok(content)
}

/// An answer, or as much of it as may be kept.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) answer: Answer,
    pub(crate) head: Vec<u8>,
    /// The body without what frames it.
    pub(crate) content: Vec<u8>,
    raw: Vec<u8>,
    rest: Measure,
    has_ended: bool,
}

impl Captured {
    /// The answer to one request; those before it go to the client.
    pub(crate) async fn read<R, W>(engine: &mut Source<R>, client: &mut W, limit: usize) -> Result<Self, Halt>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (length, answer) = last_head(engine, client, false).await?;
        let head = engine.bytes()[..length].to_vec();
        engine.consume(length);
        let (rest, has_ended) = (answer.body.into(), false);
        let mut captured = Self { answer, head, content: Vec::new(), raw: Vec::new(), rest, has_ended };
        captured.read_content(engine, limit).await?;
        Ok(captured)
    }

    async fn read_content<R: AsyncRead + Unpin>(&mut self, engine: &mut Source<R>, limit: usize) -> Result<(), Halt> {
        while !self.is_whole() && self.raw.len() < limit {
            if engine.bytes().is_empty() && !engine.fill().await.map_err(Halt::Source)? {
                if self.rest != Measure::Endless {
                    return Err(Halt::Cut);
                }
                self.has_ended = true;
                return Ok(());
            }
            let taken = self.rest.take(engine.bytes(), |data| self.content.extend_from_slice(data))?;
            self.raw.extend_from_slice(&engine.bytes()[..taken]);
            engine.consume(taken);
        }
        Ok(())
    }

    /// Nothing of it is still to come.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_ended || self.rest.is_over()
    }

    /// Passes it on as it came, and what is still to come of it.
    pub(crate) async fn pass_on<CR, CW, ER, EW>(
        self,
        client: &mut Side<CR, CW>,
        engine: &mut Side<ER, EW>,
    ) -> Result<(), Halt>
    where
        CR: AsyncRead + Unpin,
        CW: AsyncWrite + Unpin,
        ER: AsyncRead + Unpin,
        EW: AsyncWrite + Unpin,
    {
        let known = [self.head, self.raw].concat();
        client.sink.write_all(&known).await.map_err(Halt::Sink)?;
        client.sink.flush().await.map_err(Halt::Sink)?;
        if !self.has_ended {
            Transfer::rest(self.rest).run(&mut engine.source, &mut client.sink).await?;
        }
        Ok(())
    }
}
