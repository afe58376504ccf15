//! Answers in XML, walked leaf by leaf: nothing is built but the path to where one is.
//!
//! ```text
//!   <A><b><item><id>i-1</id></item></b></A>      Opened A/b/item    Closed A/b/item/id "i-1"    Closed A/b/item ""
//! ```
//!
//! Invariants: a document is whole or an error; no DTD, no entities but the five of XML, no deeper than [`DEPTH_MAX`].
//! How much memory it takes is bounded by the octets that were read: text and path are slices or copies of them.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// Elements within one another. EC2's deepest answers have about ten.
const DEPTH_MAX: usize = 32;

/// Why an answer cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable answer: {0}")]
pub(crate) struct Unreadable(pub(crate) String);

/// What a walk meets.
pub(crate) enum Step<'a> {
    Opened,
    /// With the text after its last child, without the space around it: of a leaf, all of it.
    Closed(&'a str),
}

/// Walks all of a document; paths begin with its root and have slashes between names. Attributes are not looked at.
///
/// # Errors
/// When it is not whole, or has what no answer has.
pub(crate) fn walk(bytes: &[u8], mut visit: impl FnMut(&str, Step<'_>)) -> Result<(), Unreadable> {
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().expand_empty_elements = true;
    let mut place = Place::default();
    loop {
        let event = reader.read_event().map_err(|error| Unreadable(error.to_string()))?;
        match event {
            Event::Start(start) => {
                place.enter(text(start.local_name().as_ref())?)?;
                visit(&place.path, Step::Opened);
            }
            Event::End(_) => {
                visit(&place.path, Step::Closed(place.text.trim()));
                place.leave();
            }
            Event::Text(octets) => place.add(text(&octets)?)?,
            Event::CData(octets) => place.add(text(&octets)?)?,
            Event::GeneralRef(name) => place.add(resolve(&name)?.encode_utf8(&mut [0; 4]))?,
            Event::DocType(_) => return Err(Unreadable("it has a document type".to_owned())),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Empty(_) => return Err(Unreadable("an empty element was not expanded".to_owned())),
            Event::Eof => return place.end(),
        }
    }
}

fn text(octets: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(octets).map_err(|_| Unreadable("it is not UTF-8".to_owned()))
}

fn resolve(name: &BytesRef<'_>) -> Result<char, Unreadable> {
    if let Some(character) = name.resolve_char_ref().map_err(|error| Unreadable(error.to_string()))? {
        return Ok(character);
    }
    match text(name)? {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err(Unreadable("it has an entity of its own".to_owned())),
    }
}

/// Where a walk is.
#[derive(Default)]
struct Place {
    path: String,
    /// How long the path was at each element that is open.
    lengths: Vec<usize>,
    text: String,
    /// How many roots there were.
    roots: usize,
}

impl Place {
    fn enter(&mut self, name: &str) -> Result<(), Unreadable> {
        self.roots += usize::from(self.lengths.is_empty());
        if self.lengths.len() >= DEPTH_MAX || self.roots > 1 {
            return Err(Unreadable("too deep, or more than one document".to_owned()));
        }
        self.lengths.push(self.path.len());
        if !self.path.is_empty() {
            self.path.push('/');
        }
        self.path.push_str(name);
        self.text.clear();
        Ok(())
    }

    fn leave(&mut self) {
        self.path.truncate(self.lengths.pop().unwrap_or_default());
        self.text.clear();
    }

    fn add(&mut self, more: &str) -> Result<(), Unreadable> {
        if self.lengths.is_empty() && !more.trim_start_matches('\u{feff}').trim().is_empty() {
            return Err(Unreadable("text outside the document".to_owned()));
        }
        self.text.push_str(more);
        Ok(())
    }

    fn end(&self) -> Result<(), Unreadable> {
        let is_whole = self.roots == 1 && self.lengths.is_empty();
        if is_whole { Ok(()) } else { Err(Unreadable("it is cut short".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(document: &str) -> Result<Vec<(String, String)>, Unreadable> {
        let mut found = Vec::new();
        walk(document.as_bytes(), |path, step| match step {
            Step::Closed(text) if !text.is_empty() => found.push((path.to_owned(), text.to_owned())),
            Step::Closed(_) | Step::Opened => {}
        })?;
        Ok(found)
    }

    #[test]
    fn leaves_have_paths_and_texts() {
        let found =
            leaves("<?xml version=\"1.0\"?>\n<A xmlns='x'>\n <b>1 &amp; &#50;</b><c/><d><n:b> 3</n:b></d>\n</A>\n");
        let pair = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        assert_eq!(found, Ok(vec![pair("A/b", "1 & 2"), pair("A/d/b", "3")]));
    }

    #[test]
    fn documents_that_no_answer_is_are_refused() {
        let deep = "<a>".repeat(40) + &"</a>".repeat(40);
        let bomb = "<!DOCTYPE a [<!ENTITY b \"x\">]><a>&b;</a>";
        for bad in ["", "   ", "text", "<a>", "<a></b>", "<a/><b/>", "<a>&b;</a>", "<a/>text", bomb, &deep] {
            assert!(leaves(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_walked(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            walk(&bytes, |_, _| {}).ok();
        }

        #[test]
        fn what_is_cut_is_an_error(cut in 0_usize..46) {
            let whole = "<A><b><item><id>i-1</id></item></b><c>d</c></A>";
            prop_assert!(leaves(whole).is_ok());
            prop_assert!(leaves(&whole[..cut]).is_err());
        }
    }
}
