//! A JSON object whose members stay as they were written, but for those that are set.
//!
//! A tree of values would not do: numbers would be read and written anew, and of a name given twice one would be lost.
//! Docker's own decoder takes `hostconfig` for `HostConfig`, so names are compared as it does. Where it would merge a
//! name given twice, there is no one value to go by: that is an error.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Why a member cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("`{0}` is given twice")]
    Twice(String),
    #[error(transparent)]
    Unreadable(#[from] serde_json::Error),
}

/// Members in the order they came in.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl<'a> Object<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        Ok(serde_json::from_slice(text)?)
    }

    fn parse_raw(raw: Cow<'a, RawValue>) -> Result<Self, JsonError> {
        match raw {
            Cow::Borrowed(raw) => Ok(serde_json::from_str::<Option<Self>>(raw.get())?.unwrap_or_default()),
            Cow::Owned(raw) => {
                let members: Option<Object<'_>> = serde_json::from_str(raw.get())?;
                let owned = |(name, value): (String, Cow<'_, RawValue>)| (name, Cow::Owned(value.into_owned()));
                Ok(Self(members.unwrap_or_default().0.into_iter().map(owned).collect()))
            }
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether there is such a member.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().any(|given| is_same_field(given, name))
    }

    /// The object under this name; an empty one when there is none.
    pub(crate) fn object(&self, name: &str) -> Result<Self, JsonError> {
        let Some(index) = self.position(name, is_same_field)? else { return Ok(Self::default()) };
        Self::parse_raw(self.0[index].1.clone())
    }

    /// The value under this name; the type's default when there is none.
    pub(crate) fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, JsonError> {
        let Some(index) = self.position(name, is_same_field)? else { return Ok(T::default()) };
        Ok(serde_json::from_str::<Option<T>>(self.0[index].1.get())?.unwrap_or_default())
    }

    /// Sets a field, in its place when it is there.
    pub(crate) fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), JsonError> {
        self.put(name, value, is_same_field)
    }

    /// Sets a key of a map, whose case counts.
    pub(crate) fn set_key<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), JsonError> {
        self.put(name, value, |given, name| given == name)
    }

    /// Adds to a list of texts, unless it has one that will do.
    pub(crate) fn extend(
        &mut self,
        name: &str,
        text: String,
        will_do: impl Fn(&String) -> bool,
    ) -> Result<(), JsonError> {
        let mut list: Vec<String> = self.read(name)?;
        if list.iter().any(will_do) {
            return Ok(());
        }
        list.push(text);
        self.set(name, &list)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    fn put<T: Serialize + ?Sized>(
        &mut self,
        name: &str,
        value: &T,
        is_same: fn(&str, &str) -> bool,
    ) -> Result<(), JsonError> {
        let value = Cow::Owned(serde_json::value::to_raw_value(value)?);
        match self.position(name, is_same)? {
            Some(index) => self.0[index].1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    fn position(&self, name: &str, is_same: fn(&str, &str) -> bool) -> Result<Option<usize>, JsonError> {
        let mut found = self.0.iter().enumerate().filter(|(_, (given, _))| is_same(given, name));
        let first = found.next().map(|(index, _)| index);
        if found.next().is_some() {
            return Err(JsonError::Twice(name.to_owned()));
        }
        Ok(first)
    }
}

/// Whether Docker takes one name of a field for the other: case does not count, nor do the two letters outside ASCII that
/// fold into it.
fn is_same_field(given: &str, name: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    given.chars().map(fold).eq(name.chars().map(fold))
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            members.push((name, Cow::Borrowed(value)));
        }
        Ok(Object(members))
    }
}
