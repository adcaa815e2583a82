//! Strict JSON: what a ref's obj and meta may be, and what is read for links.
//!
//! Stricter than serde_json alone: bounded in bytes and depth, no key twice in an object (readers disagree on which one counts, and
//! one of them is the collector), and no number changed: digits are kept however many, only the exponent is written anew (`1E5` as
//! `1e+5`). Objects keep the order of their keys as it was read, so links are found in document order.

mod filter;
mod links;
mod number;
mod read;
mod write;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

pub use filter::{Filter, FilterError};
pub use links::{LinkError, direct_links, links, malformed_links};

use crate::limits::{MAX_JSON_DEPTH, MAX_OBJ_META_BYTES, MAX_SCAN_BYTES};

/// A JSON value as it was written. Values read by this module hold no object with a key twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number with all its digits.
    Number(serde_json::Number),
    /// A string, unescaped.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, in document order.
    Object(Vec<(String, Json)>),
}

/// Why a text is not JSON that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than the limit for its use.
    #[error("the JSON has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes of the text.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nested deeper than the limit for its use.
    #[error("the JSON is nested deeper than {limit} arrays and objects")]
    TooDeep {
        /// Depth allowed.
        limit: usize,
    },
    /// One object holds the key twice.
    #[error("the key {key:?} stands twice in one object")]
    DuplicateKey {
        /// The key, as it reads without escapes.
        key: String,
    },
    /// A value where an object is needed.
    #[error("expected a JSON object such as {{\"key\":\"value\"}}, found {found}")]
    NotAnObject {
        /// What was found, with its article.
        found: &'static str,
    },
    /// Not JSON at all.
    #[error("the text is not JSON: {0}")]
    Syntax(String),
}

/// Reads a ref's obj or meta: an object of at most [`MAX_OBJ_META_BYTES`] and [`MAX_JSON_DEPTH`]. Both together have the same limit
/// in bytes, see [`parse_obj_meta`].
pub fn parse_object(text: &str) -> Result<Json, JsonError> {
    let json = read::parse(text.as_bytes(), MAX_OBJ_META_BYTES, MAX_JSON_DEPTH)?;
    match json {
        Json::Object(_) => Ok(json),
        other => Err(JsonError::NotAnObject { found: other.kind() }),
    }
}

/// Reads a ref's obj and meta, which together have at most [`MAX_OBJ_META_BYTES`]; no meta is an empty one.
pub fn parse_obj_meta(obj: &str, meta: Option<&str>) -> Result<(Json, Json), JsonError> {
    let bytes = obj.len().saturating_add(meta.map_or(0, str::len));
    if bytes > MAX_OBJ_META_BYTES {
        return Err(JsonError::TooLong { bytes, limit: MAX_OBJ_META_BYTES });
    }
    Ok((parse_object(obj)?, meta.map_or(Ok(Json::Object(Vec::new())), parse_object)?))
}

/// Reads a JSON blob of any kind for its links: UTF-8 of at most [`MAX_SCAN_BYTES`] and [`MAX_JSON_DEPTH`].
pub fn parse_document(bytes: &[u8]) -> Result<Json, JsonError> {
    read::parse(bytes, MAX_SCAN_BYTES, MAX_JSON_DEPTH)
}

pub(crate) use read::parse as parse_limited;
pub(crate) use write::write_string;

impl Json {
    /// The member of an object; none for other values.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.as_object()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The members of an object in document order.
    pub fn as_object(&self) -> Option<&[(String, Json)]> {
        if let Json::Object(members) = self { Some(members) } else { None }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Json::String(text) = self { Some(text) } else { None }
    }

    /// A whole number of 64 bits without sign.
    pub fn as_u64(&self) -> Option<u64> {
        if let Json::Number(number) = self { number.as_u64() } else { None }
    }

    /// What an RFC 6901 pointer leads to: `""` is the value itself, `/a/0` the first item of its member `a`; `~1` stands for `/` in
    /// a key and `~0` for `~`. None if there is nothing, or if the text is no pointer.
    pub fn pointer(&self, pointer: &str) -> Option<&Json> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self, |value, token| value.step(token))
    }

    fn step(&self, token: &str) -> Option<&Json> {
        match self {
            Json::Object(_) => self.get(&unescape_token(token)?),
            Json::Array(items) => items.get(array_index(token)?),
            _ => None,
        }
    }

    /// The kind of value with its article, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a truth value",
            Json::Number(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }

    /// No spaces, keys in document order: what kachery-p2p stored.
    pub fn to_compact(&self) -> String {
        write::to_text(self, false)
    }

    /// No spaces, keys sorted by their UTF-8 bytes: the one text of this value, which is what is stored and hashed.
    pub fn to_compact_sorted(&self) -> String {
        write::to_text(self, true)
    }
}

/// One key as a step of a pointer.
pub fn escape_token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The key of a step of a pointer; none for a `~` that escapes nothing.
fn unescape_token(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut key = parts.next()?.to_owned();
    for part in parts {
        let mut letters = part.chars();
        key.push(match letters.next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        key.push_str(letters.as_str());
    }
    Some(key)
}

/// Digits without leading zeros.
fn array_index(token: &str) -> Option<usize> {
    let canonical = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { token.parse().ok() } else { None }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Number(number) => number.serialize(serializer),
            Json::String(text) => serializer.serialize_str(text),
            Json::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Json::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::{Digest, Sha1};

    fn sha1_hex(text: &str) -> String {
        data_encoding::HEXLOWER.encode(&Sha1::digest(text.as_bytes()))
    }

    #[test]
    fn golden_values_hash_as_they_do_for_kachery() {
        let json = parse_object("{ \"example\" : \"dict\" }").unwrap();
        assert_eq!(sha1_hex(&json.to_compact_sorted()), "d0d9555e376ff13a08c6d56072808e27ca32d54a");
        assert_eq!(sha1_hex("example text"), "d9e989f651cdd269d7f9bb8a215d024d8d283688");
        let unsorted = parse_object("{\"b\": 1, \"a\": [1, 2]}").unwrap();
        assert!(sha1_hex(&unsorted.to_compact()).starts_with("c46a7231"), "kachery-p2p keeps the order");
        assert_eq!(unsorted.to_compact_sorted(), "{\"a\":[1,2],\"b\":1}");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let text =
            "{\"n\":[123456789012345678901234567890,0.1000000000000000055511151231257827021181583404541015625,-0,1.50,1e+400]}";
        assert_eq!(parse_object(text).unwrap().to_compact_sorted(), text);
        assert_eq!(parse_object("{\"n\":1E5}").unwrap().to_compact(), "{\"n\":1e+5}");
    }

    #[test]
    fn obj_and_meta_end_at_their_limits() {
        let object = |bytes: usize| format!("{{\"k\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(parse_object(&object(MAX_OBJ_META_BYTES)).is_ok());
        let past = JsonError::TooLong { bytes: MAX_OBJ_META_BYTES + 1, limit: MAX_OBJ_META_BYTES };
        assert_eq!(parse_object(&object(MAX_OBJ_META_BYTES + 1)), Err(past.clone()));
        assert!(parse_obj_meta(&object(MAX_OBJ_META_BYTES), None).is_ok());
        assert!(parse_obj_meta(&object(MAX_OBJ_META_BYTES - 2), Some("{}")).is_ok());
        assert_eq!(parse_obj_meta(&object(MAX_OBJ_META_BYTES - 1), Some("{}")), Err(past));
    }

    #[test]
    fn a_document_ends_at_its_limit() {
        // What is not JSON from its first byte on is refused at once, but only after its length was accepted.
        let mut text = vec![b'x'; MAX_SCAN_BYTES];
        assert!(matches!(parse_document(&text), Err(JsonError::Syntax(_))));
        text.push(b'x');
        assert_eq!(parse_document(&text), Err(JsonError::TooLong { bytes: MAX_SCAN_BYTES + 1, limit: MAX_SCAN_BYTES }));
        assert!(parse_document(b"[1]").is_ok());
    }

    #[test]
    fn only_objects_are_objects() {
        let error = parse_object("[1]").expect_err("an array");
        assert_eq!(error.to_string(), "expected a JSON object such as {\"key\":\"value\"}, found an array");
    }

    #[test]
    fn pointers_lead_where_rfc_6901_says() {
        let json = parse_object(r#"{"a":[{"b/c":1},2],"":3,"m~n":4,"0":5}"#).unwrap();
        let number = |pointer: &str| json.pointer(pointer).and_then(Json::as_u64);
        assert_eq!(json.pointer(""), Some(&json));
        assert_eq!(number("/a/0/b~1c"), Some(1));
        assert_eq!(number("/"), Some(3));
        assert_eq!(number("/m~0n"), Some(4));
        assert_eq!(number("/0"), Some(5));
        for pointer in ["a", "/a/2", "/a/00", "/a/-", "/a/+1", "/a/", "/x", "/m~2n", "/m~", "/a/1/x"] {
            assert_eq!(json.pointer(pointer), None, "{pointer}");
        }
    }

    #[test]
    fn it_serialises_as_what_it_was() {
        let text = r#"{"z":[null,true,1.10,"\n"],"a":{}}"#;
        assert_eq!(serde_json::to_string(&parse_object(text).unwrap()).unwrap(), text);
    }

    proptest! {
        #[test]
        fn a_key_survives_its_token(key in any::<String>()) {
            prop_assert_eq!(unescape_token(&escape_token(&key)), Some(key));
        }
    }
}
