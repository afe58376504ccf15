//! Containers that are not there any more, or do not run: their addresses can be had at once by whoever names one, and
//! they can be detached.
//!
//! ```text
//!   attach ADDRESS c3 ─► held by c2? ─► its engine says that it does not run, its port is gone ─► vacated ─► as usual
//!   detach c2 ─► no namespace ─► what it holds, vacated
//! ```
//!
//! An engine that does not answer says nothing: the address stays held.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use weave_docker::{Docker, DockerError};
use weave_mesh::card::Subnet;
use weave_mesh::ipam::Cidr;

use super::attach::subnet;
use super::{Context, Refusal, ip};
use crate::attach::{AttachError, Container, Subject};
use crate::request::{Holder, Request};

/// How long the kernel may take to remove the device of a container that has ended, and how often it is looked for.
const PORT_TIMEOUT: Duration = Duration::from_secs(3);
const PORT_INTERVAL: Duration = Duration::from_millis(20);

/// The container that `target` means, also one that does not run or that nobody else knows any more.
pub(super) async fn find(context: &Context, target: &str) -> Result<Container, Refusal> {
    let error = match target.parse::<Subject>()?.resolve(&context.docker).await {
        Ok(container) => return Ok(container),
        Err(error) => error,
    };
    let AttachError::Docker(cause) = &error else { return Err(error.into()) };
    let id = match cause {
        DockerError::NotRunning(_) => context.docker.id_of(target).await.ok(),
        _ => None,
    };
    let text = target.to_owned();
    let recalled = context.requester.ask(|reply| Request::Recall { target: text, id, reply }).await?;
    recalled.ok_or_else(|| error.into())
}

/// Whether there is a namespace to take something from.
pub(super) fn is_gone(container: &Container) -> bool {
    container.netns.as_os_str().is_empty() || !container.netns.exists()
}

/// Takes these addresses, or all, from a container that is gone; the answer is what was taken.
pub(super) async fn detach(context: &Context, label: &str, addresses: &[Subnet]) -> Result<Vec<Subnet>, Refusal> {
    let is_meant = |held: &Cidr| addresses.is_empty() || addresses.contains(&subnet(*held));
    let held = ip::held(context, label, None).await?;
    let mut taken = Vec::new();
    for address in held.into_iter().filter(is_meant).map(subnet) {
        let mine = holder(context, address.address).await?.filter(|holder| holder.container == label);
        if vacate(context, mine, address.address).await? {
            taken.push(address);
        }
    }
    Ok(taken)
}

/// Makes an address free for `container` if whoever holds it is dead.
pub(super) async fn make_room(context: &Context, container: &str, address: IpAddr) -> Result<(), Refusal> {
    let other = holder(context, address).await?.filter(|holder| holder.container != container);
    if let Some(other) = other
        && is_dead(&context.docker, &other.container).await
    {
        vacate(context, Some(other), address).await?;
    }
    Ok(())
}

async fn holder(context: &Context, address: IpAddr) -> Result<Option<Holder>, Refusal> {
    Ok(context.requester.ask(|reply| Request::Holder { address, reply }).await?)
}

async fn vacate(context: &Context, holder: Option<Holder>, address: IpAddr) -> Result<bool, Refusal> {
    let Some(holder) = holder else { return Ok(false) };
    if !loses_port(holder.port.as_deref()).await {
        return Ok(false);
    }
    context.requester.ask(|reply| Request::Vacate { holder, address, reply }).await?;
    Ok(true)
}

/// Ids that others made up, and the host itself, live until they are freed.
async fn is_dead(docker: &Docker, container: &str) -> bool {
    match container.split_once(':') {
        Some(("netns", path)) => !Path::new(path).exists(),
        Some(("pid", process)) => !Path::new("/proc").join(process).exists(),
        None if weave_docker::is_id(container) => {
            let found = docker.inspect(container).await;
            matches!(found, Err(DockerError::NoSuchContainer(_) | DockerError::NotRunning(_)))
        }
        _ => false,
    }
}

/// Waits until the kernel has removed a device; another container may keep the namespace alive, and then it stays.
async fn loses_port(port: Option<&str>) -> bool {
    let Some(port) = port else { return true };
    let lost = async {
        while exists(port) {
            tokio::time::sleep(PORT_INTERVAL).await;
        }
    };
    tokio::time::timeout(PORT_TIMEOUT, lost).await.is_ok()
}

fn exists(device: &str) -> bool {
    let Ok(socket) = socket(AddressFamily::INET, SocketType::DGRAM, None) else { return true };
    netdevice::name_to_index(socket, device) != Err(rustix::io::Errno::NODEV)
}
