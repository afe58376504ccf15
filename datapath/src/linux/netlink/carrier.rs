//! When a device that was brought up can send.
//!
//! ```text
//!   one end of a pair comes up ─► both have a carrier ─► link watch, in a worker of the kernel ─► both can send
//! ```
//!
//! Until its link watch has come round, the kernel drops what is sent by the device, without an error. Since Linux 6.8 it
//! comes round before the question for one device is answered (`rtnl_getlink`); before that the question is repeated.

use std::thread;
use std::time::Duration;

use netlink_packet_route::link::{LinkAttribute, LinkMessage, State};

use super::{Netlink, NetlinkError};

/// How often an older kernel is asked, and how long it is left alone in between.
const QUESTIONS_MAX: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);

impl Netlink {
    /// Waits until the device `name` and the other end of its pair can send, if they have a carrier. Gives up after
    /// 0.4 s: the link watch needs the kernel's own lock, which somebody else may hold.
    pub(in crate::linux) fn wait_for_carrier(&mut self, name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.wait_while_idle(|netlink| netlink.link(name))? else { return Ok(()) };
        match other_end(&link) {
            Some(peer) => self.wait_while_idle(|netlink| netlink.ask_for_link(name, peer.clone())).map(drop),
            None => Ok(()),
        }
    }

    /// The last answer.
    fn wait_while_idle(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<Option<LinkMessage>, NetlinkError>,
    ) -> Result<Option<LinkMessage>, NetlinkError> {
        let mut link = ask(self)?;
        for _ in 1..QUESTIONS_MAX {
            if !link.as_ref().is_some_and(is_idle) {
                break;
            }
            thread::sleep(PAUSE);
            link = ask(self)?;
        }
        Ok(link)
    }
}

/// The question for the other end of a pair, in whatever namespace it is (Linux 4.15).
fn other_end(link: &LinkMessage) -> Option<LinkMessage> {
    let mut question = LinkMessage::default();
    question.header.index = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })?;
    question.attributes.extend(link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(namespace) => Some(LinkAttribute::IfNetnsId(*namespace)),
        _ => None,
    }));
    Some(question)
}

/// Whether it has a carrier, and the link watch was not there yet. Of a device that never told whether it has one (VXLAN,
/// TAP) the state is unknown.
fn is_idle(link: &LinkMessage) -> bool {
    let has = |wanted: &LinkAttribute| link.attributes.contains(wanted);
    has(&LinkAttribute::Carrier(1)) && ![State::Up, State::Unknown].map(LinkAttribute::OperState).iter().any(has)
}
