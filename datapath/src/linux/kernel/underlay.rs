//! This host's underlay addresses, followed as they change.
//!
//! ```text
//!   kernel: address, default route, device up or down ─► 20 ms ─► look ─► another list than before? ─► event
//! ```

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::RouteHeader;
use tokio::time::Instant;

use super::watcher::Watcher;
use crate::linux::netlink::Netlink;
use crate::linux::underlay::{View, is_up};

/// Between a notification and the look that it causes: an address that is replaced is not two changes.
const SETTLE_DELAY: Duration = Duration::from_millis(20);
/// The least time between two looks, and in terms of the time that one takes.
const LOOK_GAP: Duration = Duration::from_millis(200);
const LOOK_COST_RATIO: u32 = 20;

/// What is followed, and what was last told of it.
#[derive(Debug)]
pub(super) struct Underlay {
    watcher: Watcher,
    view: View,
    told: Option<Vec<IpAddr>>,
    look_at: Option<Instant>,
    not_before: Instant,
}

impl Underlay {
    pub(super) fn follow() -> io::Result<Self> {
        let (watcher, now) = (Watcher::of_underlay()?, Instant::now());
        Ok(Self { watcher, view: View::default(), told: None, look_at: Some(now), not_before: now })
    }

    /// Waits until there is something to [`hear`](Self::hear).
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.watcher.readable().await
    }

    pub(super) fn hear(&mut self) {
        let links = &self.view.links;
        let changes = |link: &LinkMessage| links.get(&link.header.index).is_some_and(|up| *up != is_up(link));
        if self.watcher.drain(|message| concerns_addresses(message, changes)) {
            self.look_at.get_or_insert_with(|| (Instant::now() + SETTLE_DELAY).max(self.not_before));
        }
    }

    /// When to [`look`](Self::look).
    pub(super) const fn due(&self) -> Option<Instant> {
        self.look_at
    }

    /// The addresses, if they are others than those that were last told.
    pub(super) fn look(&mut self, netlink: &mut Netlink) -> Option<Vec<IpAddr>> {
        let start = Instant::now();
        self.look_at = None;
        match View::of_now(netlink) {
            Ok(view) => self.view = view,
            Err(error) => {
                tracing::warn!(%error, "cannot list this host's addresses");
                self.look_at = Some(start + LOOK_GAP);
            }
        }
        let now = Instant::now();
        self.not_before = now + LOOK_GAP.max((now - start) * LOOK_COST_RATIO);
        let is_news = self.look_at.is_none() && self.told.as_ref() != Some(&self.view.addresses);
        is_news.then(|| self.told.insert(self.view.addresses.clone()).clone())
    }
}

fn concerns_addresses(message: &RouteNetlinkMessage, changes: impl Fn(&LinkMessage) -> bool) -> bool {
    match message {
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => true,
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.destination_prefix_length == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN
        }
        RouteNetlinkMessage::NewLink(link) => changes(link),
        _ => false,
    }
}
