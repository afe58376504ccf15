//! Which machine this is, so that a copied state directory is noticed.

use std::fs;

use serde::{Deserialize, Serialize};
use weave_mesh::card::INSTANCE_ID_MAX_BYTES;
use weave_mesh::identity::{Hash, digest};

/// What tells this machine from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The EC2 instance id, empty elsewhere.
    pub instance_id: String,
    /// Hash of the machine id; zero where there is none.
    pub machine: Hash,
}

impl Machine {
    /// Reads what the firmware and the operating system say. `instance_id` is what the metadata service says, where there
    /// is one; EC2's firmware, except on the oldest machines, shows the same without being asked.
    pub fn detect(instance_id: Option<String>) -> Self {
        let asset_tag = || read_line("/sys/devices/virtual/dmi/id/board_asset_tag");
        let instance_id = instance_id.or_else(asset_tag).filter(|id| is_instance_id(id)).unwrap_or_default();
        let machine_id = read_line("/etc/machine-id").filter(|id| !id.is_empty());
        let machine = machine_id.map(|id| digest("weave-rs machine", &[id.as_bytes()])).unwrap_or_default();
        Self { instance_id, machine }
    }

    /// Whether the firmware says that this is a machine of EC2.
    pub fn is_of_ec2() -> bool {
        let begins =
            |path, with| read_line(path).is_some_and(|line: String| line.to_ascii_lowercase().starts_with(with));
        begins("/sys/devices/virtual/dmi/id/sys_vendor", "amazon ec2") || begins("/sys/hypervisor/uuid", "ec2")
    }

    /// Whether state written on `other` belongs here: the instance id decides where both have one, since an image
    /// may carry its machine id to every instance started from it.
    pub fn is_same(&self, other: &Self) -> bool {
        if self.instance_id.is_empty() || other.instance_id.is_empty() {
            self.machine == other.machine && self.instance_id == other.instance_id
        } else {
            self.instance_id == other.instance_id
        }
    }
}

/// Tells this run of the machine from those before and after it; the same for all daemons in between.
pub(super) fn boot() -> Hash {
    let boot_id = read_line("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    digest("weave-rs boot", &[boot_id.as_bytes()])
}

fn is_instance_id(text: &str) -> bool {
    text.len() <= INSTANCE_ID_MAX_BYTES
        && text.strip_prefix("i-").is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(instance_id: &str, machine: u8) -> Machine {
        Machine { instance_id: instance_id.to_owned(), machine: [machine; 32] }
    }

    #[test]
    fn instances_of_one_image_are_different_machines() {
        assert!(!machine("i-1", 7).is_same(&machine("i-2", 7)));
        assert!(machine("i-1", 7).is_same(&machine("i-1", 8)));
    }

    #[test]
    fn elsewhere_the_machine_id_decides() {
        assert!(machine("", 7).is_same(&machine("", 7)));
        assert!(!machine("", 7).is_same(&machine("", 8)));
        assert!(!machine("", 7).is_same(&machine("i-1", 7)));
    }
}
