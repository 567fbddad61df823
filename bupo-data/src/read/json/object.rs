//! JSON objects whose values are parsed only when they are used.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::read::lines::reason;

/// The fields of an object, in order, with unparsed values.
pub(super) struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| reason(&error))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// The value at a dotted path. Names may contain dots; of fields with the same name the last is used.
    pub(super) fn find(&self, path: &str) -> Option<String> {
        let direct = self.0.iter().rev().find(|(name, _)| name == path);
        if let Some((_, value)) = direct {
            return Some(value.get().to_owned());
        }
        self.0.iter().rev().find_map(|(name, value)| {
            let rest = path.strip_prefix(name.as_str())?.strip_prefix('.')?;
            Object::parse(value.get()).ok()?.find(rest)
        })
    }
}

/// Calls `element` with each element of a list, until it returns false.
pub(super) fn each_in_list(text: &str, element: impl FnMut(&str) -> bool) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(Elements(element))?;
    deserializer.end()
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Object(fields))
    }
}

struct Elements<F>(F);

impl<'de, F: FnMut(&str) -> bool> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element::<&RawValue>()? {
            if !(self.0)(element.get()) {
                return Err(A::Error::custom("an element is invalid"));
            }
        }
        Ok(())
    }
}
