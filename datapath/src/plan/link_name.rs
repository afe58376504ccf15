//! Names of network devices.

use std::fmt;
use std::str::FromStr;

/// The beginning of the name of the host-side device of every attached container; seven characters follow.
pub const HOST_LINK_PREFIX: &str = "vethwepl";
/// The same of the other end, while it is on the host: before Docker moves it to a container, and after.
pub const FAR_LINK_PREFIX: &str = "vethwepg";
/// The longest name of a network device: `IFNAMSIZ` without the closing zero.
const LINK_NAME_MAX_BYTES: usize = 15;
/// The longest name of a bridge: room is left for the suffixes of the devices named after it.
const BRIDGE_NAME_MAX_BYTES: usize = LINK_NAME_MAX_BYTES - "-tap".len();

/// The name of a network device: 1 to 15 letters, digits, `-`, `_` or `.`, the first of them a letter or digit.
///
/// The kernel accepts more. These need no quoting in an nft script, a path under `/proc/sys` or a log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

/// A name that no device of ours can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLinkName {
    #[error(
        "`{0}` is no device name: use 1 to 15 of letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )]
    Malformed(String),
    #[error("`{0}` is too long for a bridge: its other devices are named after it, so at most 11 characters")]
    TooLongForBridge(String),
}

impl LinkName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The devices that belong to one bridge: itself, its VXLAN device, its TAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeNames {
    pub bridge: LinkName,
    pub vxlan: LinkName,
    pub tap: LinkName,
}

impl BridgeNames {
    /// The bridge `name`, and the devices named after it.
    ///
    /// # Errors
    /// When the name is malformed or leaves no room for `-vx` and `-tap`.
    pub fn of(name: &str) -> Result<Self, InvalidLinkName> {
        let bridge: LinkName = name.parse()?;
        if name.len() > BRIDGE_NAME_MAX_BYTES {
            return Err(InvalidLinkName::TooLongForBridge(name.to_owned()));
        }
        Ok(Self { vxlan: LinkName(format!("{name}-vx")), tap: LinkName(format!("{name}-tap")), bridge })
    }
}

impl FromStr for LinkName {
    type Err = InvalidLinkName;

    fn from_str(text: &str) -> Result<Self, InvalidLinkName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let well_formed = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= LINK_NAME_MAX_BYTES
            && text.chars().all(allowed);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidLinkName::Malformed(text.to_owned())) }
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_needs_quoting_is_refused() {
        for text in ["", "a b", "wea\"ve", "..", "sixteen-letters-", "a/b", "weave\n", "-x"] {
            assert_eq!(text.parse::<LinkName>(), Err(InvalidLinkName::Malformed(text.to_owned())));
        }
    }

    #[test]
    fn a_bridge_names_its_overlay_ports() {
        let names = BridgeNames::of("weave").expect("names");

        assert_eq!((names.vxlan.as_str(), names.tap.as_str()), ("weave-vx", "weave-tap"));
        assert_eq!(BridgeNames::of("twelve-chars"), Err(InvalidLinkName::TooLongForBridge("twelve-chars".to_owned())));
    }
}
