//! Reading: serde_json's parser under a visitor that counts depth and refuses repeated keys.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Json, JsonError};
use crate::limits::MAX_JSON_DEPTH;

/// Reads one JSON value and nothing after it but white space.
pub(crate) fn parse(bytes: &[u8], max_bytes: usize, max_depth: usize) -> Result<Json, JsonError> {
    if bytes.len() > max_bytes {
        return Err(JsonError::TooLong { bytes: bytes.len(), limit: max_bytes });
    }
    // A reader and not a slice: see `Key::Number`.
    let mut deserializer = serde_json::Deserializer::from_reader(bytes);
    let fault = RefCell::new(None);
    let seed = Seed { depth_left: max_depth, max_depth, fault: &fault };
    let outcome = seed.deserialize(&mut deserializer).and_then(|json| deserializer.end().map(|()| json));
    outcome.map_err(|error| fault.take().unwrap_or_else(|| JsonError::Syntax(error.to_string())))
}

/// To be read from a `Read`, not from a slice: see `Key::Number`. The size is the reader's to limit.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let fault = RefCell::new(None);
        Seed { depth_left: MAX_JSON_DEPTH, max_depth: MAX_JSON_DEPTH, fault: &fault }.deserialize(deserializer)
    }
}

/// The state of a descent. serde's errors are text, so a fault of ours is put aside typed.
#[derive(Clone, Copy)]
struct Seed<'a> {
    depth_left: usize,
    max_depth: usize,
    fault: &'a RefCell<Option<JsonError>>,
}

impl Seed<'_> {
    fn refuse<T, E: Error>(self, error: JsonError) -> Result<T, E> {
        let text = E::custom(&error);
        self.fault.replace(Some(error));
        Err(text)
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Seed { depth_left, ..self }),
            None => self.refuse(JsonError::TooDeep { limit: self.max_depth }),
        }
    }

    fn read_object<'de, A: MapAccess<'de>>(self, first: String, mut map: A) -> Result<Json, A::Error> {
        let (mut members, mut seen) = (Vec::new(), BTreeSet::new());
        let mut next = Some(first);
        while let Some(key) = next {
            if !seen.insert(key.clone()) {
                return self.refuse(JsonError::DuplicateKey { key });
            }
            members.push((key, map.next_value_seed(self)?));
            next = match map.next_key_seed(KeySeed)? {
                Some(Key::Text(key)) => Some(key),
                Some(Key::Number) => return Err(A::Error::custom("a number inside an object")),
                None => None,
            };
        }
        Ok(Json::Object(members))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        match map.next_key_seed(KeySeed)? {
            None => self.deeper().map(|_| Json::Object(Vec::new())),
            Some(Key::Text(first)) => self.deeper()?.read_object(first, map),
            Some(Key::Number) => {
                let digits: String = map.next_value()?;
                digits.parse().map(Json::Number).map_err(A::Error::custom)
            }
        }
    }
}

/// The key of an object's member, or the mark of a number.
enum Key {
    Text(String),
    /// With all digits kept, serde_json hands a number that is not of 64 bits over as a map whose only key is a private constant. An object from outside
    /// may spell that key too and would be read as a number. We read through `io::Read`, of which nothing can be borrowed: a
    /// borrowed key is therefore serde_json's own constant, an owned one comes from the text.
    Number,
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, _token: &'de str) -> Result<Key, E> {
        Ok(Key::Number)
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        Ok(Key::Text(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_DIRECTORY_JSON_DEPTH, MAX_JSON_DEPTH};
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Json, JsonError> {
        parse(text.as_bytes(), 1 << 20, MAX_JSON_DEPTH)
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let twice = |key: &str| Err(JsonError::DuplicateKey { key: key.to_owned() });
        assert_eq!(read(r#"{"a":1,"b":2,"a":3}"#), twice("a"));
        assert_eq!(read(r#"[{"x":{"a":1,"\u0061":1}}]"#), twice("a"));
        assert_eq!(read(r#"{"":1,"":1}"#), twice(""));
        assert!(read(r#"{"a":{"a":1},"A":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn depth_ends_at_its_limit() {
        for limit in [1, MAX_JSON_DEPTH, MAX_DIRECTORY_JSON_DEPTH] {
            for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
                let nested = |depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
                assert!(parse(nested(limit).as_bytes(), 1 << 20, limit).is_ok());
                assert_eq!(parse(nested(limit + 1).as_bytes(), 1 << 20, limit), Err(JsonError::TooDeep { limit }));
            }
        }
        assert_eq!(parse(b"[[]]", 9, 1), Err(JsonError::TooDeep { limit: 1 }));
        assert_eq!(parse(b"[{}]", 9, 1), Err(JsonError::TooDeep { limit: 1 }));
        assert!(read(&"[".repeat(1 << 20)).is_err());
    }

    #[test]
    fn bytes_end_at_their_limit() {
        assert!(parse(b"[1] ", 4, 1).is_ok());
        assert_eq!(parse(b"[1] ", 3, 1), Err(JsonError::TooLong { bytes: 4, limit: 3 }));
    }

    #[test]
    fn an_object_that_spells_the_private_key_stays_an_object() {
        let text = r#"{"$serde_json::private::Number":"12"}"#;
        let json = read(text).unwrap();
        assert!(matches!(json, Json::Object(_)));
        assert_eq!(json.to_compact(), text);
        assert_eq!(read(r#"{"\u0024serde_json::private::Number":"12"}"#), Ok(json));
        for number in ["12", "-12", "-0", "1.0", "123456789012345678901234567890"] {
            assert!(matches!(read(number), Ok(Json::Number(_))), "{number}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_a_place() {
        let texts = [
            "",
            "{",
            "{a:1}",
            "[1,]",
            "NaN",
            "Infinity",
            "01",
            "1.",
            ".5",
            "+1",
            "\"\n\"",
            "\"\\ud800\"",
            "{} {}",
            "nul",
            "\u{feff}{}",
        ];
        for text in texts {
            assert!(
                matches!(read(text), Err(JsonError::Syntax(message)) if message.contains("line 1") || text == "\"\n\""),
                "{text}"
            );
        }
        assert!(matches!(parse(b"\"\xff\"", 9, 1), Err(JsonError::Syntax(_))));
    }

    /// Any JSON value, as serde_json holds it.
    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_prints_is_read_and_printed_the_same(value in any_value()) {
            let text = value.to_string();
            let json = read(&text).unwrap();
            prop_assert_eq!(json.to_compact_sorted(), text.clone());
            prop_assert_eq!(read(&serde_json::to_string_pretty(&value).unwrap()), Ok(json.clone()));
            prop_assert_eq!(read(&json.to_compact()), Ok(json));
        }

        #[test]
        fn what_serde_json_refuses_is_refused(text in "[\\[\\]{}\",:0-9eE.+\\-truefalsn \\\\u]{0,12}") {
            if serde_json::from_str::<serde_json::Value>(&text).is_err() {
                prop_assert!(read(&text).is_err());
            }
        }
    }
}
