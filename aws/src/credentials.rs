//! Keys with which calls are signed, and the secret that one call fetches. Neither shows itself in `Debug`.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::time;

/// So long before the end of their time, credentials are renewed. IMDS has the next ones by then.
pub(crate) const RENEWAL_SECONDS: i64 = 300;

/// A secret, such as the password of the mesh; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// What it is. Never to be logged.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// An access key, as a role or the environment has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    id: String,
    secret: Secret,
    token: Option<Secret>,
    /// Seconds since 1970; none where they have no end.
    expiry: Option<i64>,
}

/// As IMDS has them under `iam/security-credentials/ROLE`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfRole {
    code: String,
    access_key_id: String,
    secret_access_key: Secret,
    token: Secret,
    expiration: String,
}

impl Credentials {
    pub(crate) fn new(id: &str, secret: &str, token: Option<&str>, expiry: Option<i64>) -> Self {
        let secret_of = |text: &str| Secret::new(text.to_owned());
        Self { id: id.to_owned(), secret: secret_of(secret), token: token.map(secret_of), expiry }
    }

    /// Reads those of a role; where it cannot, the reason says nothing of what was there.
    pub(crate) fn of_role(json: &[u8]) -> Result<Self, String> {
        let role: OfRole = serde_json::from_slice(json).map_err(|_| "unreadable credentials".to_owned())?;
        if role.code != "Success" {
            return Err(format!("no credentials: {}", role.code));
        }
        let expiry = time::parse_iso(&role.expiration).ok_or("credentials without an end")?;
        let OfRole { access_key_id: id, secret_access_key: secret, token, .. } = role;
        let as_headers = [id.as_str(), token.reveal()];
        if as_headers.into_iter().any(|text| text.bytes().any(|octet| !octet.is_ascii_graphic())) {
            return Err("unreadable credentials".to_owned());
        }
        Ok(Self { id, secret, token: Some(token), expiry: Some(expiry) })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn secret(&self) -> &str {
        self.secret.reveal()
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::reveal)
    }

    /// Whether so little of their time is left that others should be fetched.
    pub(crate) fn are_old(&self, now: i64) -> bool {
        self.expiry.is_some_and(|expiry| expiry.saturating_sub(now) <= RENEWAL_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLE: &str = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"hush",
        "Token":"mum","Expiration":"2015-08-30T12:36:00Z"}"#;

    #[test]
    fn credentials_of_a_role_are_read_and_end() {
        let read = Credentials::of_role(ROLE.as_bytes()).unwrap();

        assert_eq!(read, Credentials::new("ASIAEXAMPLE", "hush", Some("mum"), Some(1_440_938_160)));
        assert!(read.are_old(1_440_938_160 - 300) && !read.are_old(1_440_938_160 - 301));
        assert!(!Credentials::new("A", "b", None, None).are_old(i64::MAX));
    }

    #[test]
    fn a_role_that_has_none_says_why() {
        let failed = ROLE.replace("Success", "AssumeRoleUnauthorizedAccess");
        assert_eq!(
            Credentials::of_role(failed.as_bytes()),
            Err("no credentials: AssumeRoleUnauthorizedAccess".to_owned())
        );
        assert!(Credentials::of_role(ROLE.replace("mum", "m\\nm").as_bytes()).is_err(), "it would be a header");
    }

    #[test]
    fn secrets_do_not_show_themselves() {
        let shown = format!("{:?}", Credentials::of_role(ROLE.as_bytes()).unwrap());
        assert!(shown.contains("ASIAEXAMPLE") && !shown.contains("hush") && !shown.contains("mum"), "{shown}");
    }

    proptest! {
        #[test]
        fn anything_may_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..ROLE.len()) {
            prop_assert!(Credentials::of_role(&bytes).is_err());
            prop_assert!(Credentials::of_role(&ROLE.as_bytes()[..cut]).is_err());
        }
    }
}
