//! What of the API a request is for, as far as the proxy cares.

use super::head::Request;

/// A request that the proxy looks into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `POST /containers/create`, with the name that the container is to have.
    Create { name: Option<String> },
    /// `GET /containers/NAME/json`.
    Inspect,
    /// Everything else.
    Other,
}

impl Call {
    pub(crate) fn of(request: &Request) -> Self {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let path = decoded(without_host(path), false);
        let words: Vec<&str> = without_version(&path).split('/').collect();
        match (request.method.as_str(), words.as_slice()) {
            ("POST", ["containers", "create"]) => {
                Self::Create { name: parameter(query, "name").filter(|name| !name.is_empty()) }
            }
            ("GET", ["containers", _, "json"]) => Self::Inspect,
            _ => Self::Other,
        }
    }
}

/// The path of `http://HOST/PATH`, which some clients send.
fn without_host(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://") else { return target };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// The path behind `/v1.41/`, or behind the first slash.
fn without_version(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    let is_version = |word: &str| {
        word.strip_prefix('v').is_some_and(|number| number.bytes().all(|octet| octet == b'.' || octet.is_ascii_digit()))
    };
    match path.split_once('/') {
        Some((first, rest)) if is_version(first) => rest,
        Some(_) | None => path,
    }
}

/// The first value of this name in a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| decoded(key, true) == name).map(|(_, value)| decoded(value, true)).next()
}

/// With every `%41` read as the octet that it stands for, and in a query `+` as a blank.
fn decoded(text: &str, is_query: bool) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (octet, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high).unwrap_or_default() * 16 + hex(*low).unwrap_or_default(), behind)
            }
            (b'+', behind) if is_query => (b' ', behind),
            (octet, behind) => (*octet, behind),
        };
        octets.push(octet);
        rest = behind;
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::framing::Body;
    use super::*;

    fn call(method: &str, target: &str) -> Call {
        let (method, target) = (method.to_owned(), target.to_owned());
        Call::of(&Request { method, target, body: Body::Length(0), expects_continue: false })
    }

    #[test]
    fn a_create_is_known_however_it_is_spelled() {
        let web = Call::Create { name: Some("web".to_owned()) };
        for target in [
            "/containers/create?name=web",
            "/v1.41/containers/create?platform=&name=web&name=other",
            "/v2/containers/create?n%61me=w%65b",
            "http://docker/v1.24/containers/%63reate?name=web",
        ] {
            assert_eq!(call("POST", target), web, "{target}");
        }
        assert_eq!(call("POST", "/containers/create?name="), Call::Create { name: None });
        assert_eq!(call("POST", "/containers/create?name=a+b%"), Call::Create { name: Some("a b%".to_owned()) });
    }

    #[test]
    fn all_other_calls_are_the_engines() {
        assert_eq!(call("GET", "/v1.41/containers/web/json?size=1"), Call::Inspect);
        for (method, target) in [
            ("GET", "/containers/create"),
            ("POST", "/volumes/create"),
            ("POST", "/containers/create/"),
            ("POST", "/v1.41/containers/web/start"),
            ("GET", "/containers/json"),
            ("POST", "/version/containers/create"),
            ("OPTIONS", "*"),
        ] {
            assert_eq!(call(method, target), Call::Other, "{method} {target}");
        }
    }

    proptest! {
        #[test]
        fn no_target_panics(target in "\\PC*", method in "\\PC{0,5}") {
            let _ = call(&method, &target);
        }
    }
}
