//! Forms, as the query API is asked by them.

/// The fields of a form.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).into_owned();
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (unescaped(name), unescaped(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The values of fields with a common beginning.
    pub(super) fn all(&self, prefix: &str) -> Vec<&str> {
        self.0.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut octets = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        octets.push(u8::from_str_radix(code, 16).unwrap_or(b'?'));
        octets.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&octets).into_owned()
}
