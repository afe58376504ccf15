//! `ps`: what is attached on this host, the host itself first.

use std::collections::BTreeMap;

use serde::Serialize;
use weave_mesh::store::CONTAINER_MAX_BYTES;

use super::{EndpointState, Snapshot};
use crate::expose::HOST_LABEL;
use crate::shown::Shown;

/// As much of a Docker id, or of what was asked for, as is shown.
const ID_SHOWN_BYTES: usize = 12;
/// A Docker id in full.
const ID_BYTES: usize = 64;

/// One container, or the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedContainer {
    pub container: String,
    pub mac: String,
    /// With prefix lengths.
    pub addresses: Vec<String>,
}

/// The containers of this host, or those that are `wanted`: as they are called, and by the label they are known by.
pub fn attached(snapshot: &Snapshot, wanted: &[(String, String)]) -> Vec<AttachedContainer> {
    let known = known(snapshot);
    if wanted.is_empty() {
        let (hosts, containers): (Vec<_>, Vec<_>) =
            known.into_values().partition(|container| container.container == HOST_LABEL);
        return hosts.into_iter().chain(containers).collect();
    }
    let find = |(called, label): &(String, String)| {
        let published = &label[..label.floor_char_boundary(CONTAINER_MAX_BYTES)];
        let found = known.get(published)?.clone();
        let container = called[..called.floor_char_boundary(ID_SHOWN_BYTES)].to_owned();
        Some(AttachedContainer { container, ..found })
    };
    wanted.iter().filter_map(find).collect()
}

/// By the label under which they are published; a host that is not exposed has a MAC and nothing else.
fn known(snapshot: &Snapshot) -> BTreeMap<String, AttachedContainer> {
    let host = AttachedContainer {
        container: HOST_LABEL.to_owned(),
        mac: snapshot.router.name.clone(),
        addresses: Vec::new(),
    };
    let mut known = BTreeMap::from([(HOST_LABEL.to_owned(), host)]);
    let is_here = |state| matches!(state, EndpointState::Local | EndpointState::Conflicting);
    let own = snapshot.endpoints.iter().filter(|endpoint| {
        endpoint.peer.name == snapshot.router.name && is_here(endpoint.state) && !endpoint.container.is_empty()
    });
    for endpoint in own {
        let entry = known.entry(endpoint.container.clone()).or_insert_with(|| AttachedContainer {
            container: shortened(&endpoint.container),
            mac: endpoint.mac.clone(),
            addresses: Vec::new(),
        });
        entry.addresses.extend(endpoint.addresses.iter().cloned());
    }
    known
}

/// Docker's ids are told apart by their beginnings; paths are not.
fn shortened(label: &str) -> String {
    let is_id = label.len() == ID_BYTES && label.bytes().all(|octet| octet.is_ascii_hexdigit());
    if is_id { label[..ID_SHOWN_BYTES].to_owned() } else { label.to_owned() }
}

/// Container, MAC and addresses, one line each.
pub fn text(attached: &[AttachedContainer]) -> String {
    let line = |container: &AttachedContainer| {
        let AttachedContainer { container, mac, addresses } = container;
        Shown(format!("{container} {mac} {}", addresses.join(" ")).trim_end()).to_string() + "\n"
    };
    attached.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::snapshot;
    use super::*;

    #[test]
    fn the_host_comes_first_with_or_without_an_address() {
        let mut snapshot = snapshot();
        snapshot.endpoints[0].container = "0123456789ab".repeat(6)[..64].to_owned();

        assert_eq!(
            text(&attached(&snapshot, &[])),
            "weave:expose 02:00:00:00:00:01\n0123456789ab 8e:00:00:00:00:01 10.32.0.1/12\n"
        );
        snapshot.endpoints[0].container = HOST_LABEL.to_owned();
        assert_eq!(text(&attached(&snapshot, &[])), "weave:expose 02:00:00:00:00:01 10.32.0.1/12\n");
    }

    #[test]
    fn whoever_is_asked_for_is_called_as_asked() {
        let wanted = [("my-long-container-name".to_owned(), "c1".to_owned()), ("other".to_owned(), "c2".to_owned())];

        assert_eq!(text(&attached(&snapshot(), &wanted)), "my-long-cont 8e:00:00:00:00:01 10.32.0.1/12\n");
    }
}
