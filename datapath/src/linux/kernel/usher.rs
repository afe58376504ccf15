//! The usher: lets new stations in at once, while the keeper waits for `nft` or for its pace.
//!
//! ```text
//!   plan N ─► plan N + 1 ─┬─► usher:  stations that N does not name ─► VXLAN entry ─► bridge entry
//!                         └─► keeper: everything, with neighbours last
//! ```
//!
//! Unknown unicast is not flooded, and until the keeper has set the neighbour a query is answered by the far container
//! itself: its answer may be here before the keeper's turn comes, and the frame that follows must find its way.
//!
//! Invariants:
//! - it only adds, and only what is not there: what an entry displaces is the keeper's to judge;
//! - what it adds is in the latest plan, and the keeper removes nothing that is.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::Generation;
use crate::linux::netlink::{Netlink, NetlinkError};
use crate::plan::{Newcomer, OverlayPort, Plan, newcomers};

/// Starts the usher in the network namespace of the calling thread. It ends with the sender of `plans`.
///
/// # Errors
/// When there is no descriptor or thread left.
pub(super) fn spawn(mut plans: watch::Receiver<Option<(Generation, Arc<Plan>)>>) -> io::Result<JoinHandle<()>> {
    let mut netlink = Netlink::open()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let work = async move {
        let mut before: Option<Arc<Plan>> = None;
        while plans.changed().await.is_ok() {
            let latest = plans.borrow_and_update().as_ref().map(|(_, plan)| Arc::clone(plan));
            if let (Some(before), Some(after)) = (&before, &latest) {
                usher(&mut netlink, before, after);
            }
            before = latest;
        }
    };
    std::thread::Builder::new().name("usher".to_owned()).spawn(move || runtime.block_on(work))
}

fn usher(netlink: &mut Netlink, before: &Plan, after: &Plan) {
    let mut doors = None;
    for newcomer in newcomers(before, after) {
        let doors = doors.get_or_insert_with(|| Doors::of(netlink, after));
        if let Err(error) = doors.let_in(netlink, &newcomer) {
            // The keeper tries again, and says what is wrong.
            tracing::debug!(%error, mac = %newcomer.mac, "a new station has to wait");
        }
    }
}

/// The overlay ports that exist.
struct Doors {
    vxlan: Option<u32>,
    tap: Option<u32>,
}

impl Doors {
    fn of(netlink: &mut Netlink, plan: &Plan) -> Self {
        let mut index = |port| netlink.link_index(plan.overlay_link(port).as_str()).ok().flatten();
        Self { vxlan: index(OverlayPort::Vxlan), tap: index(OverlayPort::Tap) }
    }

    fn let_in(&self, netlink: &mut Netlink, newcomer: &Newcomer) -> Result<(), NetlinkError> {
        if let (Some(remote), Some(vxlan)) = (newcomer.remote, self.vxlan) {
            netlink.add_vxlan_fdb(vxlan, newcomer.mac, remote)?;
        }
        let door = match newcomer.port {
            OverlayPort::Vxlan => self.vxlan,
            OverlayPort::Tap => self.tap,
        };
        door.map_or(Ok(()), |port| netlink.add_bridge_fdb(port, newcomer.mac))
    }
}
