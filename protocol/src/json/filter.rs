//! A condition on what stands at one place in a JSON value: that there is something, or how it compares.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::number::compare;
use super::{Json, escape_token};
use crate::limits::MAX_FILTER_BYTES;

/// A condition, written as `KEY`, `KEY=VALUE`, `KEY<VALUE`, `KEY<=VALUE`, `KEY>VALUE` or `KEY>=VALUE`.
///
/// A key that begins with `/` is an RFC 6901 pointer; any other names a member of the object itself. One that holds `=`, `<` or `>`, or begins with `/`
/// or `"`, is written as a JSON string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pointer: String,
    test: Test,
}

/// How what is there must compare.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Compares(Operator, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Each with its text: those of two characters first, so that they are found first.
const OPERATORS: [(&str, Operator); 5] =
    [("<=", Operator::AtMost), (">=", Operator::AtLeast), ("=", Operator::Equal), ("<", Operator::Below), (">", Operator::Above)];

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is not a condition: {why}", .text.chars().take(100).collect::<String>())]
pub struct FilterError {
    text: String,
    why: String,
}

impl Filter {
    /// The condition that the member `key` is this string, or the number or other value that is written so.
    pub fn equals(key: &str, value: &str) -> Filter {
        Filter { pointer: format!("/{}", escape_token(key)), test: Test::Compares(Operator::Equal, value.to_owned()) }
    }

    /// Whether it holds for `json`.
    ///
    /// What is there decides how it compares: a number as one, with all digits, and with no text that is none; a string by its bytes, so that `old` is above
    /// `9`; anything else is equal to its compact text with sorted keys, or not, and neither smaller nor larger.
    pub fn matches(&self, json: &Json) -> bool {
        let Some(found) = json.pointer(&self.pointer) else { return false };
        match &self.test {
            Test::Exists => true,
            Test::Compares(operator, value) => order(found, value).is_some_and(|order| operator.accepts(order)),
        }
    }
}

/// How what was found compares with the value; none if it cannot be compared. What is not ordered is equal or cannot be compared.
fn order(found: &Json, value: &str) -> Option<Ordering> {
    match found {
        Json::String(text) => Some(text.as_str().cmp(value)),
        Json::Number(number) => Some(compare(number, &value.parse().ok()?)),
        other => (other.to_compact_sorted() == value).then_some(Ordering::Equal),
    }
}

impl Operator {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Operator::Equal => order.is_eq(),
            Operator::Below => order.is_lt(),
            Operator::AtMost => order.is_le(),
            Operator::Above => order.is_gt(),
            Operator::AtLeast => order.is_ge(),
        }
    }

    fn text(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator)| *operator == self).map_or("=", |(text, _)| text)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        let refused = |why: String| FilterError { text: text.to_owned(), why };
        if text.len() > MAX_FILTER_BYTES {
            return Err(refused(format!("it has {} bytes, at most {MAX_FILTER_BYTES} are allowed", text.len())));
        }
        let (pointer, rest) = if text.starts_with('"') {
            let end = end_of_string(text).ok_or_else(|| refused("its key begins with \" and does not end".into()))?;
            let key: String =
                serde_json::from_str(&text[..end]).map_err(|error| refused(format!("its key is no JSON string: {error}")))?;
            (format!("/{}", escape_token(&key)), &text[end..])
        } else {
            let end = text.find(['=', '<', '>']).unwrap_or(text.len());
            let key = &text[..end];
            if key.is_empty() {
                return Err(refused("expected KEY, KEY=VALUE, or <, <=, > or >= in place of =".into()));
            }
            let pointer = if key.starts_with('/') { key.to_owned() } else { format!("/{}", escape_token(key)) };
            (pointer, &text[end..])
        };
        if rest.is_empty() {
            return Ok(Filter { pointer, test: Test::Exists });
        }
        let operator = OPERATORS.iter().find_map(|(text, operator)| Some((*operator, rest.strip_prefix(text)?)));
        let (operator, value) = operator.ok_or_else(|| refused("after the key comes =, <, <=, > or >=".into()))?;
        Ok(Filter { pointer, test: Test::Compares(operator, value.to_owned()) })
    }
}

/// Where the JSON string at the beginning of `text` ends, behind its closing quote.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return Some(at + 1),
            byte => is_escaped = byte == b'\\' && !is_escaped,
        }
    }
    None
}

/// As it can be read again. A pointer stands as it is, unless it holds an operator: then it has one step, whose key is written as a JSON string.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.contains(['=', '<', '>']) {
            let key = self.pointer[1..].replace("~1", "/").replace("~0", "~");
            let mut quoted = String::new();
            super::write_string(&mut quoted, &key);
            f.write_str(&quoted)?;
        } else {
            f.write_str(&self.pointer)?;
        }
        match &self.test {
            Test::Exists => Ok(()),
            Test::Compares(operator, value) => write!(f, "{}{value}", operator.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::parse_object;

    const META: &str = r#"{"age":30,"name":"mouse 7","date":"2026-11-01","big":123456789012345678901234567890,"tags":["a","b"],"ok":true,
        "rig":{"laser nm":1040.0,"a=b":1},"a=b":2,"<":3,"/x":4,"~":5,"none":null}"#;

    fn matches(filter: &str) -> bool {
        filter.parse::<Filter>().unwrap().matches(&parse_object(META).unwrap())
    }

    #[test]
    fn a_condition_is_on_what_stands_at_its_place() {
        for (filter, expected) in [
            ("age", true),
            ("aged", false),
            ("none", true),
            ("/rig/laser nm", true),
            ("/rig/none", false),
            ("age=30", true),
            ("age=30.0", true),
            ("age=3e1", true),
            ("age=thirty", false),
            ("age=\"30\"", false),
            ("age<31", true),
            ("age<30", false),
            ("age<=30", true),
            ("age>29.999", true),
            ("age>=31", false),
            ("age>9", true),
            ("big>123456789012345678901234567889", true),
            ("big=123456789012345678901234567890", true),
            ("big<1e30", true),
            ("name=mouse 7", true),
            ("name=mouse", false),
            ("name>mouse 10", true),
            ("date>=2026-11-01", true),
            ("date<2026-11", false),
            ("/rig/laser nm>1000", true),
            ("tags=[\"a\",\"b\"]", true),
            ("tags<[\"z\"]", false),
            ("/tags/1=b", true),
            ("ok=true", true),
            ("ok>false", false),
            ("none=null", true),
            ("\"a=b\"=2", true),
            ("\"<\">2", true),
            ("\"/x\"=4", true),
            ("~=5", true),
            ("name=", false),
            ("age=>5", false),
        ] {
            assert_eq!(matches(filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_no_condition_is_told() {
        for text in ["", "=1", "<1", "\"open", "\"a\"x", "\"\\q\"=1"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
        let long = |bytes: usize| format!("a={}", "x".repeat(bytes - 2)).parse::<Filter>();
        assert!(long(MAX_FILTER_BYTES).is_ok() && long(MAX_FILTER_BYTES + 1).is_err());
    }

    #[test]
    fn a_key_of_any_letters_is_found_by_its_value() {
        for key in ["a", "a=b", "<", "/x", "~", "ü", "a b", "\"", "\\", "", "~1"] {
            let json = Json::Object(vec![(key.to_owned(), Json::String("v".into()))]);
            let filter = Filter::equals(key, "v");
            assert!(filter.matches(&json), "{key:?}");
            assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter, "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_read_is_written_so_that_it_reads_the_same(text in "[\"/a~=<>\\\\ü01]{0,12}") {
            if let Ok(filter) = text.parse::<Filter>() {
                prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
            }
        }
    }
}
