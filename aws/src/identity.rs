//! Which instance this is, and whose.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::Deserialize;

/// The longest id that is taken for one; today's have 19 letters.
const ID_BYTES_MAX: usize = 32;

/// The id of an instance, such as `i-0123456789abcdef0`: EC2 never gives it twice, other than addresses and names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

/// Why a text is no id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instance id is `i-` and letters or digits, such as i-0123456789abcdef0")]
pub struct InvalidInstanceId;

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(text: &str) -> Result<Self, InvalidInstanceId> {
        let rest = text.strip_prefix("i-").ok_or(InvalidInstanceId)?;
        let is_id = !rest.is_empty() && text.len() <= ID_BYTES_MAX && rest.bytes().all(|it| it.is_ascii_alphanumeric());
        if is_id { Ok(Self(text.to_owned())) } else { Err(InvalidInstanceId) }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What the instance's identity document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub instance: InstanceId,
    /// Such as `eu-central-1`.
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// The primary private one.
    pub address: Ipv4Addr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    instance_id: String,
    region: String,
    account_id: String,
    private_ip: Ipv4Addr,
}

impl Identity {
    /// Reads `dynamic/instance-identity/document`.
    pub(crate) fn of_document(json: &[u8]) -> Result<Self, String> {
        let read: Document = serde_json::from_slice(json).map_err(|error| format!("unreadable identity: {error}"))?;
        let instance = read.instance_id.parse().map_err(|error| format!("unreadable identity: {error}"))?;
        // It becomes part of a host name.
        let is_region = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        if read.region.is_empty() || read.region.len() > ID_BYTES_MAX || !read.region.bytes().all(is_region) {
            return Err("unreadable identity: no region".to_owned());
        }
        Ok(Self { instance, region: read.region, account: read.account_id, address: read.private_ip })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCUMENT: &str = r#"{"accountId":"123456789012","architecture":"x86_64","availabilityZone":"eu-central-1a",
        "billingProducts":null,"imageId":"ami-1","instanceId":"i-0123456789abcdef0","instanceType":"t3.micro",
        "pendingTime":"2026-09-22T10:00:00Z","privateIp":"10.0.0.7","region":"eu-central-1","version":"2017-09-30"}"#;

    #[test]
    fn a_document_tells_instance_region_account_and_address() {
        let identity = Identity::of_document(DOCUMENT.as_bytes()).unwrap();

        assert_eq!(identity.instance.to_string(), "i-0123456789abcdef0");
        assert_eq!((identity.region.as_str(), identity.account.as_str()), ("eu-central-1", "123456789012"));
        assert_eq!(identity.address, Ipv4Addr::new(10, 0, 0, 7));
    }

    #[test]
    fn what_would_end_up_elsewhere_is_refused() {
        for (from, to) in [("\"eu-central-1\"", "\"evil.example/\""), ("i-0123456789abcdef0", "i-0/../x")] {
            assert!(Identity::of_document(DOCUMENT.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..DOCUMENT.len()) {
            prop_assert!(Identity::of_document(&bytes).is_err());
            prop_assert!(Identity::of_document(&DOCUMENT.as_bytes()[..cut]).is_err());
        }
    }
}
