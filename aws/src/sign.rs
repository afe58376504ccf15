//! Signature Version 4: who asks, proved without sending the secret.
//!
//! ```text
//!   request ─→ canonical request ─→ SHA-256 ─┐
//!   secret ─→ day ─→ region ─→ service ─→ key ┴→ HMAC-SHA256 ─→ Authorization
//! ```
//!
//! Source: AWS, "Create a signed AWS API request". Every call of ours goes to `/` and has no query, so neither is
//! normalised here; tested against AWS's published vectors of that kind.

use ring::{digest, hmac};

use crate::credentials::Credentials;
use crate::time;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Where a signature is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

/// A request for `/`, as far as it is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    /// In lower case, each once; among them `host`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// The headers to send beside those that were there: `x-amz-date`, the token if there is one, `authorization`.
/// `at` is in seconds since 1970.
pub(crate) fn sign(request: Unsigned<'_>, scope: Scope<'_>, by: &Credentials, at: i64) -> Vec<(&'static str, String)> {
    let moment = time::compact(at);
    let mut added = vec![("x-amz-date", moment.clone())];
    added.extend(by.token().map(|token| ("x-amz-security-token", token.to_owned())));
    let mut headers = request.headers.to_vec();
    headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let (day, _) = moment.split_at(8);
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let digest = hex(digest::digest(&digest::SHA256, canonical(request, &headers, &names).as_bytes()).as_ref());
    let signature = hex(mac(&key(by, day, scope), &format!("{ALGORITHM}\n{moment}\n{place}\n{digest}")).as_ref());
    let id = by.id();
    added.push((
        "authorization",
        format!("{ALGORITHM} Credential={id}/{place}, SignedHeaders={names}, Signature={signature}"),
    ));
    added
}

fn canonical(request: Unsigned<'_>, headers: &[(&str, &str)], names: &str) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let body = hex(digest::digest(&digest::SHA256, request.body).as_ref());
    format!("{}\n/\n\n{lines}\n{names}\n{body}", request.method)
}

fn key(by: &Credentials, day: &str, scope: Scope<'_>) -> hmac::Tag {
    let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{}", by.secret()).as_bytes());
    let of_day = hmac::sign(&first, day.as_bytes());
    [scope.region, scope.service, "aws4_request"].into_iter().fold(of_day, |key, part| mac(&key, part))
}

fn mac(key: &hmac::Tag, text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text.as_bytes())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account, place and moment of AWS's "Signature Version 4 test suite".
    const SUITE: Scope<'_> = Scope { region: "us-east-1", service: "service" };
    const MOMENT: i64 = 1_440_938_160;
    const PREFIX: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ";

    fn authorization(method: &str, more: &[(&str, &str)], body: &str, token: Option<&str>) -> String {
        let by = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token, None);
        let headers = [&[("host", "example.amazonaws.com")], more].concat();
        let request = Unsigned { method, headers: &headers, body: body.as_bytes() };
        let (name, value) = sign(request, SUITE, &by, MOMENT).pop().unwrap();
        assert_eq!(name, "authorization");
        value.strip_prefix(PREFIX).unwrap().to_owned()
    }

    fn assert_signed(found: &str, headers: &str, signature: &str) {
        assert_eq!(found, format!("SignedHeaders={headers}, Signature={signature}"));
    }

    #[test]
    fn get_vanilla_and_post_vanilla() {
        let get = authorization("GET", &[], "", None);
        assert_signed(&get, "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        let post = authorization("POST", &[], "", None);
        assert_signed(&post, "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    }

    #[test]
    fn post_header_key_sort_and_post_header_value_case() {
        let signed = "host;my-header1;x-amz-date";
        let sort = authorization("POST", &[("my-header1", "value1")], "", None);
        assert_signed(&sort, signed, "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c");
        let case = authorization("POST", &[("my-header1", "VALUE1")], "", None);
        assert_signed(&case, signed, "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d");
    }

    #[test]
    fn post_x_www_form_urlencoded_and_its_parameters() {
        let signed = "content-type;host;x-amz-date";
        let form = |kind: &str| authorization("POST", &[("content-type", kind)], "Param1=value1", None);
        let plain = form("application/x-www-form-urlencoded");
        assert_signed(&plain, signed, "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
        let parameters = form("application/x-www-form-urlencoded; charset=utf8");
        assert_signed(&parameters, signed, "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe");
    }

    #[test]
    fn post_sts_header_before() {
        let token = concat!(
            "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/",
            "qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+",
            "scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
        );
        let found = authorization("POST", &[], "", Some(token));
        let signed = "host;x-amz-date;x-amz-security-token";
        assert_signed(&found, signed, "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");
    }
}
