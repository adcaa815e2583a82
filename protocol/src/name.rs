//! The names people give: refs, nodes, networks, lots, owners, labels and file names.
//!
//! A value that exists is legal, wherever it came from: reading one from text or from the wire both go through the same parser.
//! Case and Unicode are kept byte for byte; two names are the same only if their bytes are.

use std::fmt;
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::limits::{
    MAX_LABEL_BYTES, MAX_LOT_NAME_BYTES, MAX_NAME_BYTES, MAX_NODE_NAME_BYTES, MAX_OWNER_NAME_BYTES, MAX_SEGMENT_BYTES,
};

/// Why a text is not a name of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {what}: {why}", quoted(.text))]
pub struct NameError {
    /// The kind of name, with its article: `a ref name`.
    pub what: &'static str,
    /// The beginning of the refused text.
    pub text: String,
    /// What is wrong with it.
    pub why: NameFault,
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing between the quotes.
    #[error("it is empty")]
    Empty,
    /// Longer than its limit.
    #[error("it has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes of the text.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A ref needs a group and a key.
    #[error("expected `group/key`")]
    NoGroup,
    /// `//`, or a `/` at an end.
    #[error("it has an empty part; expected `group/key` with text on both sides of each `/`")]
    EmptySegment,
    /// `.` or `..` mean other things to people and to file systems.
    #[error("`.` and `..` cannot be names")]
    DotSegment,
    /// A character that would break lines, terminals or file systems.
    #[error("it contains the character {0:?}, which is not allowed here")]
    Character(char),
    /// White space around a name cannot be seen.
    #[error("it begins or ends with white space")]
    Padded,
    /// A leading `-` would be taken for an option.
    #[error("it must begin with a letter or a digit")]
    Beginning,
}

/// The text as it is shown in an error: escaped, so that a hostile name cannot speak to the terminal.
fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

/// Defines a name around a `String`, with a parser as the only way in, on the wire too.
macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes the text as it is, if it is legal; errors say what is wrong.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text).map_err(|why| NameError { what: $what, text: text.chars().take(100).collect(), why })?;
                Ok(Self(text.to_owned()))
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }

        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.0.encode(encoder)
            }
        }

        impl<Context> Decode<Context> for $name {
            fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Self::parse(&String::decode(decoder)?).map_err(|error| DecodeError::OtherString(error.to_string()))
            }
        }

        bincode::impl_borrow_decode!($name);
    };
}

text_name!(
    /// The name of a ref, `group/key`: the key is what follows the last `/`, the group the segments before it.
    ///
    /// Ordered by its bytes, so all refs of a group and its sub-groups are neighbours.
    RefName, "a ref name", check_ref
);
text_name!(
    /// What people call a node. It appears in lines that are split at spaces, so it has none.
    NodeName, "a node name", check_node
);
text_name!(
    /// What people call a network; the same words as a node's name.
    NetworkName, "a network name", check_node
);
text_name!(
    /// The name of a lot. LotMan allows nearly any text, `/` included, and so do we.
    LotName, "a lot name", check_lot
);
text_name!(
    /// Whose something is, such as `ann@gpu-01`: one word. It is what somebody says of themselves, and proves nothing.
    OwnerName, "an owner's name", check_owner
);
text_name!(
    /// What a blob was called when it was stored. It is decoration: it identifies nothing, and may hold a whole path.
    ///
    /// Never use it as a path; [`Label::file_name`] gives the part that is safe to create in a folder.
    Label, "a label", check_label
);
text_name!(
    /// One component of a path: safe to create in a folder, whoever chose it.
    FileName, "a file name", check_file
);

impl RefName {
    /// Joins a group and a key; errors if either is illegal or the key holds a `/`.
    pub fn new(group: &str, key: &str) -> Result<Self, NameError> {
        let name = Self::parse(&format!("{group}/{key}"))?;
        if name.group() == group {
            Ok(name)
        } else {
            Err(NameError { what: "a ref key", text: key.chars().take(100).collect(), why: NameFault::Character('/') })
        }
    }

    /// The segments before the key, with the `/` between them.
    pub fn group(&self) -> &str {
        self.split().0
    }

    /// The last segment.
    pub fn key(&self) -> &str {
        self.split().1
    }

    /// Group segments, then the key.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Group and key. Invariant: a ref name holds a `/`, so the fallback is never taken.
    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl Label {
    /// The last component, if it can be the name of a file; a blob without one is saved under its hash.
    pub fn file_name(&self) -> Option<FileName> {
        self.0.rsplit('/').next().and_then(|last| FileName::parse(last).ok())
    }
}

impl From<FileName> for Label {
    /// The name of a file as the label of its blob; what cannot stand in a label becomes `_`.
    fn from(name: FileName) -> Self {
        Label(name.0.replace(char::is_control, "_"))
    }
}

impl OwnerName {
    /// The user of a machine. What cannot stand in a name becomes `_`, and what is too long is cut.
    pub fn of_user(user: &str, machine: &str) -> Self {
        let text = format!("{user}@{machine}").replace(is_no_owner_character, "_");
        OwnerName(text[..text.floor_char_boundary(MAX_OWNER_NAME_BYTES)].to_owned())
    }
}

impl LotName {
    /// The lot that owns what nobody gave to another.
    pub fn default_lot() -> Self {
        LotName("default".to_owned())
    }
}

fn check_ref(text: &str) -> Result<(), NameFault> {
    check_length(text, MAX_NAME_BYTES)?;
    check_characters(text, char::is_control)?;
    if !text.contains('/') {
        return Err(NameFault::NoGroup);
    }
    text.split('/').try_for_each(|segment| match segment {
        "" => Err(NameFault::EmptySegment),
        "." | ".." => Err(NameFault::DotSegment),
        _ => Ok(()),
    })
}

fn check_node(text: &str) -> Result<(), NameFault> {
    check_length(text, MAX_NODE_NAME_BYTES)?;
    check_characters(text, |c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')))?;
    if text.starts_with(char::is_alphanumeric) { Ok(()) } else { Err(NameFault::Beginning) }
}

fn check_lot(text: &str) -> Result<(), NameFault> {
    check_length(text, MAX_LOT_NAME_BYTES)?;
    check_characters(text, char::is_control)?;
    if text.trim() == text { Ok(()) } else { Err(NameFault::Padded) }
}

fn check_owner(text: &str) -> Result<(), NameFault> {
    check_length(text, MAX_OWNER_NAME_BYTES)?;
    check_characters(text, is_no_owner_character)
}

/// It stands in lines that are split at spaces.
fn is_no_owner_character(c: char) -> bool {
    c.is_control() || c.is_whitespace()
}

fn check_label(text: &str) -> Result<(), NameFault> {
    check_length(text, MAX_LABEL_BYTES)?;
    check_characters(text, char::is_control)
}

/// File names with line breaks exist and are restored as they were; only what leaves the folder is refused.
fn check_file(text: &str) -> Result<(), NameFault> {
    check_length(text, MAX_SEGMENT_BYTES)?;
    check_characters(text, |c| matches!(c, '/' | '\0'))?;
    if matches!(text, "." | "..") { Err(NameFault::DotSegment) } else { Ok(()) }
}

fn check_length(text: &str, limit: usize) -> Result<(), NameFault> {
    match text.len() {
        0 => Err(NameFault::Empty),
        bytes if bytes > limit => Err(NameFault::TooLong { bytes, limit }),
        _ => Ok(()),
    }
}

fn check_characters(text: &str, refused: impl Fn(char) -> bool) -> Result<(), NameFault> {
    text.chars().find(|c| refused(*c)).map_or(Ok(()), |c| Err(NameFault::Character(c)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why<T: fmt::Debug>(result: Result<T, NameError>) -> NameFault {
        result.expect_err("refused").why
    }

    #[test]
    fn a_ref_is_a_group_and_a_key() {
        let name: RefName = "lab/Frank/Größe 7".parse().unwrap();
        assert_eq!((name.group(), name.key()), ("lab/Frank", "Größe 7"));
        assert_eq!(name.segments().collect::<Vec<_>>(), ["lab", "Frank", "Größe 7"]);
        assert_eq!(RefName::new("lab/Frank", "Größe 7"), Ok(name));
        assert_eq!(why(RefName::new("lab", "a/b")), NameFault::Character('/'));
    }

    #[test]
    fn a_ref_that_is_not_one_says_why() {
        assert_eq!(why(RefName::parse("")), NameFault::Empty);
        assert_eq!(why(RefName::parse("key")), NameFault::NoGroup);
        for text in ["/key", "group/", "a//b", "/"] {
            assert_eq!(why(RefName::parse(text)), NameFault::EmptySegment, "{text}");
        }
        assert_eq!(why(RefName::parse("a/../b")), NameFault::DotSegment);
        assert_eq!(why(RefName::parse("a/./b")), NameFault::DotSegment);
        assert_eq!(why(RefName::parse("a/b\n")), NameFault::Character('\n'));
        let error = RefName::parse("a/\u{1b}[2J").expect_err("escape");
        assert_eq!(
            error.to_string(),
            "`a/\\u{1b}[2J` is not a ref name: it contains the character '\\u{1b}', which is not allowed here"
        );
    }

    #[test]
    fn names_end_at_their_limits() {
        let text = |bytes: usize| "x".repeat(bytes);
        assert!(RefName::parse(&format!("g/{}", text(MAX_NAME_BYTES - 2))).is_ok());
        assert!(matches!(why(RefName::parse(&format!("g/{}", text(MAX_NAME_BYTES - 1)))), NameFault::TooLong { .. }));
        assert!(NodeName::parse(&text(MAX_NODE_NAME_BYTES)).is_ok());
        assert!(NodeName::parse(&text(MAX_NODE_NAME_BYTES + 1)).is_err());
        assert!(NetworkName::parse(&text(MAX_NODE_NAME_BYTES)).is_ok());
        assert!(NetworkName::parse(&text(MAX_NODE_NAME_BYTES + 1)).is_err());
        assert!(LotName::parse(&text(MAX_LOT_NAME_BYTES)).is_ok());
        assert!(LotName::parse(&text(MAX_LOT_NAME_BYTES + 1)).is_err());
        assert!(OwnerName::parse(&text(MAX_OWNER_NAME_BYTES)).is_ok());
        assert!(OwnerName::parse(&text(MAX_OWNER_NAME_BYTES + 1)).is_err());
        assert!(Label::parse(&text(MAX_LABEL_BYTES)).is_ok());
        assert!(Label::parse(&text(MAX_LABEL_BYTES + 1)).is_err());
        assert!(FileName::parse(&text(MAX_SEGMENT_BYTES)).is_ok());
        assert!(FileName::parse(&text(MAX_SEGMENT_BYTES + 1)).is_err());
    }

    #[test]
    fn node_names_are_one_word() {
        assert!(NodeName::parse("gpu-01.lab").is_ok());
        assert!(NodeName::parse("größe").is_ok());
        assert_eq!(why(NodeName::parse("gpu 1")), NameFault::Character(' '));
        assert_eq!(why(NodeName::parse("-rf")), NameFault::Beginning);
        assert_eq!(why(LotName::parse(" lot")), NameFault::Padded);
        assert!(LotName::parse("/store/cms").is_ok());
        assert_eq!(LotName::parse("default"), Ok(LotName::default_lot()));
    }

    #[test]
    fn an_owner_is_one_word_whatever_user_and_machine_are_called() {
        assert_eq!(OwnerName::parse("ann@gpu-01").unwrap(), OwnerName::of_user("ann", "gpu-01"));
        assert_eq!(why(OwnerName::parse("ann b")), NameFault::Character(' '));
        assert_eq!(OwnerName::of_user("a b\n", "").as_str(), "a_b_@");
        for bytes in 1..4 {
            let long = OwnerName::of_user(&"x".repeat(bytes), &"é".repeat(MAX_OWNER_NAME_BYTES));
            assert_eq!(OwnerName::parse(long.as_str()), Ok(long));
        }
    }

    #[test]
    fn a_label_gives_a_safe_file_name_or_none() {
        let file = |label: &str| Label::parse(label).unwrap().file_name().map(|name| name.to_string());
        assert_eq!(file("a.txt"), Some("a.txt".to_owned()));
        assert_eq!(file("../../etc/passwd"), Some("passwd".to_owned()));
        assert_eq!(file(".."), None);
        assert_eq!(file("a/"), None);
        assert_eq!(file(&"x".repeat(MAX_SEGMENT_BYTES + 1)), None);
        assert_eq!(why(Label::parse("a\0")), NameFault::Character('\0'));
    }

    #[test]
    fn the_wire_refuses_what_the_parser_refuses() {
        let config = bincode::config::standard();
        let good = bincode::encode_to_vec("group/key", config).unwrap();
        let (name, _) = bincode::decode_from_slice::<RefName, _>(&good, config).unwrap();
        assert_eq!(name.as_str(), "group/key");
        let bad = bincode::encode_to_vec("group/../key", config).unwrap();
        let error = bincode::decode_from_slice::<RefName, _>(&bad, config).expect_err("refused");
        assert!(matches!(error, DecodeError::OtherString(text) if text.contains("cannot be names")));
    }

    /// Kept byte for byte in text and on the wire, or refused in both.
    fn check_round_trip<T>(text: &str) -> Result<(), TestCaseError>
    where
        T: FromStr<Err = NameError> + fmt::Display + fmt::Debug + PartialEq + Encode + Decode<()>,
    {
        let config = bincode::config::standard();
        let raw = bincode::encode_to_vec(text, config).unwrap();
        let received = bincode::decode_from_slice::<T, _>(&raw, config).map(|(name, _)| name);
        match text.parse::<T>() {
            Ok(name) => {
                prop_assert_eq!(name.to_string(), text);
                prop_assert_eq!(bincode::encode_to_vec(&name, config).unwrap(), raw);
                prop_assert_eq!(received.unwrap(), name);
            }
            Err(_) => prop_assert!(received.is_err()),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_is_kept_byte_for_byte_or_refused(text in any::<String>(), path in "\\PC{0,9}(/\\PC{0,9}){0,3}", word in "\\w{1,20}") {
            for text in [text, path, word] {
                check_round_trip::<RefName>(&text)?;
                check_round_trip::<NodeName>(&text)?;
                check_round_trip::<NetworkName>(&text)?;
                check_round_trip::<LotName>(&text)?;
                check_round_trip::<Label>(&text)?;
                check_round_trip::<FileName>(&text)?;
                if let Ok(name) = RefName::parse(&text) {
                    prop_assert_eq!(RefName::new(name.group(), name.key()), Ok(name.clone()));
                }
                if let Ok(name) = FileName::parse(&text) {
                    prop_assert!(Label::parse(Label::from(name).as_str()).is_ok());
                }
            }
        }
    }
}
