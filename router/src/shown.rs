//! Text of others, as it may be shown: nothing in it moves a terminal's cursor, ends a line, or turns what follows around.
//!
//! A nickname, a container's name or a peer's error can hold anything. JSON goes through [`json`], everything else that
//! a person may read through [`Shown`]; the log too.

use std::fmt::{self, Display, Write};

/// Shows `T` with every dangerous character escaped, as Rust does: `\n`, `\u{1b}`. What is shown twice is not changed by
/// the second time.
#[derive(Clone, Copy, Debug)]
pub struct Shown<T>(pub T);

impl<T: Display> Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, W>(&'a mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = text.split_inclusive(is_dangerous);
        plain.try_for_each(|part| match part.chars().next_back().filter(|last| is_dangerous(*last)) {
            Some(last) => write!(self.0, "{}{}", &part[..part.len() - last.len_utf8()], last.escape_default()),
            None => self.0.write_str(part),
        })
    }
}

/// Controls, what changes the direction of text, and what is or ends a line without being seen.
pub fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(character, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Several lines, each shown.
pub fn lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", Shown(line))).collect()
}

/// A JSON document with its dangerous characters escaped; it says the same. Outside of texts it has none but line ends.
pub fn json(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    for character in document.chars() {
        if character == '\n' || !is_dangerous(character) {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "h2\nfa:ke\u{1b}[31m\u{9b}2J\u{7f}\r\t\u{202e}txt\u{2066}\u{200f}\u{feff}\u{2028}é漢字 👍";

    #[test]
    fn what_is_shown_has_no_control_and_keeps_its_letters() {
        let shown = Shown(EVIL).to_string();

        assert!(!shown.contains(is_dangerous), "{shown:?}");
        assert!(shown.starts_with("h2\\nfa:ke\\u{1b}[31m\\u{9b}2J\\u{7f}\\r\\t\\u{202e}txt"), "{shown:?}");
        assert!(shown.ends_with("é漢字 👍"));
        assert_eq!(Shown(&shown).to_string(), shown);
    }

    #[test]
    fn every_character_is_shown_as_itself_or_escaped() {
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = Shown(character).to_string();
            assert_eq!(shown != character.to_string(), is_dangerous(character), "{character:?}");
        }
        for plain in [' ', '~', '\u{a0}', 'é', '\u{200d}', '中'] {
            assert!(!is_dangerous(plain), "{plain:?}");
        }
    }

    #[test]
    fn json_says_the_same_without_controls() {
        let value = serde_json::json!({ "nickname": EVIL, "tag": "\u{e0041}" });

        let document = json(&serde_json::to_string_pretty(&value).unwrap());

        assert!(!document.contains(|character| character != '\n' && is_dangerous(character)), "{document:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&document).unwrap(), value);
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(lines("a\u{1b}\nb"), "a\\u{1b}\nb\n");
    }
}
