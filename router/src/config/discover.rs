//! Where peers are found that nobody gave.

use std::path::PathBuf;
use std::str::FromStr;

use weave_mesh::connector::Target;

/// `--discover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discover {
    Nowhere,
    /// The group of this EC2 instance: its tag `weave:peerGroupName`, else its Auto Scaling group.
    Aws,
    /// A file with a peer a line, read again when it changes.
    File(PathBuf),
    /// The addresses of a name, resolved again and again.
    Dns(Target),
}

/// A text that says of no place to look in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of aws, none, file:PATH (an absolute path) and dns:NAME[:PORT]")]
pub struct InvalidDiscover(String);

impl FromStr for Discover {
    type Err = InvalidDiscover;

    fn from_str(text: &str) -> Result<Self, InvalidDiscover> {
        let invalid = || InvalidDiscover(text.to_owned());
        match text.split_once(':') {
            None if text == "aws" => Ok(Self::Aws),
            None if text == "none" => Ok(Self::Nowhere),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("dns", name)) => Ok(Self::Dns(name.parse().map_err(|_| invalid())?)),
            None | Some(_) => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_look_in_is_read_from_its_text() {
        assert_eq!("aws".parse(), Ok(Discover::Aws));
        assert_eq!("none".parse(), Ok(Discover::Nowhere));
        assert_eq!("file:/etc/weave-rs/peers".parse(), Ok(Discover::File("/etc/weave-rs/peers".into())));
        assert_eq!("dns:peers.example:7000".parse(), Ok(Discover::Dns("peers.example:7000".parse().unwrap())));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "AWS", "aws:", "file:", "file:peers", "dns:", "dns:a b", "gcp"] {
            assert!(text.parse::<Discover>().is_err(), "{text}");
        }
    }
}
