//! In which version of its API an engine is asked. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The newest version whose answers were looked at; engines that want a newer one are asked in their oldest.
const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 44 };

/// Such as 1.41.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// A text that is no version of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of its API")]
pub struct InvalidVersion(String);

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let parsed = text.split_once('.').and_then(|(major, minor)| {
            let is_plain = |number: &str| number.bytes().all(|digit| digit.is_ascii_digit());
            (is_plain(major) && is_plain(minor)).then_some(())?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        });
        parsed.ok_or_else(|| InvalidVersion(text.to_owned()))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What an engine says of itself under `/version`, whichever version that is asked in.
#[derive(Debug, Deserialize)]
pub(super) struct Introduction {
    #[serde(rename = "Version", default)]
    pub(super) release: String,
    #[serde(rename = "ApiVersion")]
    newest: String,
    #[serde(rename = "MinAPIVersion", default)]
    oldest: String,
}

impl Introduction {
    /// The newest version that both know, or the oldest that the engine takes.
    pub(super) fn agreed(&self) -> Result<ApiVersion, InvalidVersion> {
        let newest: ApiVersion = self.newest.parse()?;
        // Engines before 1.25 do not say.
        let oldest = if self.oldest.is_empty() { ApiVersion::default() } else { self.oldest.parse()? };
        Ok(newest.min(NEWEST).max(oldest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agreed(newest: &str, oldest: &str) -> Result<String, InvalidVersion> {
        let introduction =
            Introduction { release: String::new(), newest: newest.to_owned(), oldest: oldest.to_owned() };
        introduction.agreed().map(|version| version.to_string())
    }

    #[test]
    fn both_know_the_version() {
        for (newest, oldest, expected) in [
            ("1.41", "1.12", "1.41"),
            ("1.44", "1.24", "1.44"),
            ("1.57", "1.40", "1.44"),
            ("1.60", "1.50", "1.50"),
            ("1.9", "", "1.9"),
            ("2.0", "1.44", "1.44"),
        ] {
            assert_eq!(agreed(newest, oldest).as_deref(), Ok(expected), "{newest} {oldest}");
        }
        for bad in ["", "1", "1.", "1.+4", "1.4.1", "1.99999", "1/../.5"] {
            assert_eq!(agreed(bad, "1.12"), Err(InvalidVersion(bad.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn a_version_leads_to_no_other_path(text in "\\PC{0,8}") {
            if let Ok(version) = text.parse::<ApiVersion>() {
                prop_assert!(version.to_string().bytes().all(|octet| octet == b'.' || octet.is_ascii_digit()));
            }
        }
    }
}
