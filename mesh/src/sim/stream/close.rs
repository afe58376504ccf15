//! How a stream ends, and who is told.

use std::time::Duration;

use super::{Payload, Side, Stage, Stream, StreamId};
use crate::connection;
use crate::connector::{ConnectionId, DialError};
use crate::node::CloseReason;
use crate::sim::{HostId, Input, World};

impl World {
    /// The daemon of `host` closes a connection.
    pub(in crate::sim) fn close(&mut self, host: HostId, connection: ConnectionId) {
        let Some((id, side)) = self.connection(host, connection) else { return };
        self.shut(id, side);
    }

    fn shut(&mut self, id: StreamId, side: Side) {
        self.flush(id, side);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        end.stage = Stage::Closed;
        let (host, connection) = (end.host, end.connection);
        if let Some(daemon) = &mut self.hosts[host.0].daemon {
            daemon.connections.remove(&connection);
        }
        self.transmit(id, side.other(), Payload::End("closed by the other end"), 0, Duration::ZERO);
        self.forget_stream_if_over(id);
    }

    /// A machine failed: its last bytes go out, the stream is closed and the node told.
    pub(super) fn fail(&mut self, id: StreamId, side: Side, error: connection::Error) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        let (stage, host, connection, dial) = (end.stage, end.host, end.connection, end.dial);
        self.shut(id, side);
        match (stage, dial) {
            (Stage::Connected, _) => {
                self.feed(host, Input::Closed(connection, CloseReason::Transport(error.to_string())));
            }
            (Stage::Handshake, Some(dial)) => self.feed(host, Input::DialFailed(dial, error.into())),
            (Stage::Handshake, None) => self.trace.note(self.now, host, host, format!("refused a stream: {error}")),
            (Stage::Closed, _) => {}
        }
    }

    /// The other end is gone.
    pub(super) fn close_end(&mut self, id: StreamId, side: Side, why: &'static str) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        let (stage, host, boot, connection, dial) = (end.stage, end.host, end.boot, end.connection, end.dial);
        end.stage = Stage::Closed;
        self.forget_stream_if_over(id);
        let simulated = &mut self.hosts[host.0];
        if simulated.boot != boot {
            return;
        }
        let Some(daemon) = &mut simulated.daemon else { return };
        daemon.connections.remove(&connection);
        match (stage, dial) {
            (Stage::Connected, _) => self.feed(host, Input::Closed(connection, CloseReason::Transport(why.into()))),
            (Stage::Handshake, Some(dial)) => self.feed(host, Input::DialFailed(dial, DialError::Connect(why.into()))),
            (Stage::Handshake, None) | (Stage::Closed, _) => {}
        }
    }

    fn forget_stream_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }

    /// The daemon of `host` is gone: its host resets the streams, unless it lost its power.
    pub(in crate::sim) fn drop_streams(&mut self, host: HostId) {
        let ids: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                let (a, b) = stream.hosts();
                a == host || b == host
            })
            .map(|(id, _)| *id)
            .collect();
        let is_powered = self.host(host).is_powered;
        for id in ids {
            for side in [Side::Dialler, Side::Listener] {
                let Some(stream) = self.streams.get_mut(&id) else { continue };
                let end = stream.end(side);
                if end.host == host && end.stage != Stage::Closed {
                    end.stage = Stage::Closed;
                    if is_powered {
                        self.transmit(id, side.other(), Payload::End("connection reset"), 0, Duration::ZERO);
                    }
                }
            }
            self.forget_stream_if_over(id);
        }
    }
}
