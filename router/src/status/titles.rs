//! Identities in sentences, called as people call them: a peer by name and nickname, a container by its name.
//!
//! Errors and problems are made where only keys and ids are known; whoever shows them knows what those are called.

/// How long a peer's key is in a sentence, in hexadecimal digits.
pub const PEER_DIGITS: usize = 16;
/// How long a Docker container's id is; and how much of it people see elsewhere.
pub const CONTAINER_DIGITS: usize = 64;
const CONTAINER_DIGITS_SHOWN: usize = 12;

/// `text` with the `title` of every identity in it that has one. A key that the text calls a key stays.
pub fn titled(text: &str, title: &dyn Fn(&str) -> Option<String>) -> String {
    let is_digit = |character: char| character.is_ascii_hexdigit();
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|character| !is_digit(character)).unwrap_or(from.len()));
        told.push_str(before);
        let is_identity = matches!(word.len(), PEER_DIGITS | CONTAINER_DIGITS) && !told.ends_with("key ");
        let title = if is_identity { title(word) } else { None };
        told.push_str(title.as_deref().unwrap_or(word));
        rest = after;
    }
    told.push_str(rest);
    told
}

/// A container by its name, if it has one, and by its id as Docker shows it.
pub fn container(id: &str, name: Option<&str>) -> String {
    let is_long = id.len() == CONTAINER_DIGITS && id.chars().all(|character| character.is_ascii_hexdigit());
    let short = if is_long { &id[..CONTAINER_DIGITS_SHOWN] } else { id };
    name.map_or_else(|| short.to_owned(), |name| format!("{name} ({short})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const KEY: &str = "fedcba9876543210";

    fn title(digits: &str) -> Option<String> {
        match digits {
            ID => Some(container(ID, Some("web"))),
            KEY => Some("02:00:00:00:00:02(h2)".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn an_identity_is_called_by_its_name_wherever_it_stands() {
        let told = |text: &str| titled(text, &title);

        assert_eq!(
            told(&format!("address 10.32.0.1 is already owned by {ID}")),
            "address 10.32.0.1 is already owned by web (0123456789ab)"
        );
        assert_eq!(told(&format!("{KEY}: {KEY}.")), "02:00:00:00:00:02(h2): 02:00:00:00:00:02(h2).");
        assert_eq!(told("ünknown: 0123456789abcdee"), "ünknown: 0123456789abcdee");
        assert_eq!(told(&format!("x{ID}0")), format!("x{ID}0"), "a part of more is no identity");
    }

    #[test]
    fn a_key_that_is_spoken_of_as_such_stays() {
        assert_eq!(titled(&format!("belongs to key {KEY}"), &title), format!("belongs to key {KEY}"));
    }

    #[test]
    fn only_an_id_of_docker_is_shortened() {
        assert_eq!(container(ID, None), "0123456789ab");
        assert_eq!(container("netns:/run/netns/0123456789abcdef", None), "netns:/run/netns/0123456789abcdef");
    }
}
