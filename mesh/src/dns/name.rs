//! Domain names as they are compared: lower case, no dot at the end (RFC 4343, RFC 1035 section 2.3.1 with underscores).

/// The longest name, octets without the dot at the end (RFC 1035 section 2.3.4, less the root's).
const NAME_MAX_BYTES: usize = 253;
/// The longest label, octets (RFC 1035 section 2.3.4).
const LABEL_MAX_BYTES: usize = 63;
/// How many labels a name of a container has at most: each makes the names below it findable.
pub const LABELS_MAX: usize = 16;

/// Text that names no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error(
        "`{0}` is no domain name: between its dots go 1 to {LABEL_MAX_BYTES} letters, digits, hyphens, underscores"
    )]
    BadLabel(String),
    #[error("a name of {0} octets is longer than the {NAME_MAX_BYTES} of DNS; shorten it")]
    TooLong(usize),
    #[error("`{0}` has more than {LABELS_MAX} labels; take some of its dots out")]
    TooManyLabels(String),
}

/// `text` as names are compared.
///
/// # Errors
/// When it is no name that a container can have.
pub fn folded(text: &str) -> Result<String, InvalidName> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > NAME_MAX_BYTES {
        return Err(InvalidName::TooLong(name.len()));
    }
    if !name.split('.').all(is_label) {
        return Err(InvalidName::BadLabel(text.to_owned()));
    }
    if name.split('.').count() > LABELS_MAX {
        return Err(InvalidName::TooManyLabels(text.to_owned()));
    }
    Ok(name.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    (1..=LABEL_MAX_BYTES).contains(&label.len()) && label.bytes().all(is_allowed)
}

/// The names above a folded one, nearest first: `c` and `b.c` of `a.b.c`.
pub(super) fn ancestors(folded: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folded), |name| name.split_once('.').map(|(_, rest)| rest)).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_the_last_dot_do_not_matter() {
        assert_eq!(folded("Web.Weave.LOCAL.").unwrap(), "web.weave.local");
        assert_eq!(folded("web.weave.local").unwrap(), "web.weave.local");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for text in ["", ".", "a..b", ".a", "a b", "a/b", "ä", "a.b..", &long, &"a.".repeat(130)] {
            assert!(folded(text).is_err(), "{text}");
        }
        assert!(matches!(folded(&["a"; LABELS_MAX + 1].join(".")), Err(InvalidName::TooManyLabels(_))));
        assert!(folded(&["a"; LABELS_MAX].join(".")).is_ok());
    }

    #[test]
    fn a_name_lies_below_its_ancestors() {
        assert_eq!(ancestors("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(ancestors("a").count(), 0);
    }
}
