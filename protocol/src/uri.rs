//! The URIs of keepwell and of every kachery before it: blobs, directories, refs, and what a command line takes for them.
//!
//! What identifies something is read strictly; what only decorates it (labels, locations, unknown query keys) never makes a URI
//! illegal, because URIs outlive the programs that wrote them.

mod blob;
mod dir;
mod query;
mod reference;

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

pub use blob::{BlobUri, ChunkOf};
pub use dir::DirUri;
pub use reference::RefUri;

use crate::id::{BlobId, ParseIdError};
use crate::limits::MAX_URI_BYTES;
use crate::name::{NameError, RefName};

/// What every message about a wrong scheme expects.
const EXPECTED: &str = "`sha1://HASH`, `sha1dir://HASH/path`, `keepwell://group/key` or a ref `group/key`";

/// Why a text is not a URI, or not the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than [`MAX_URI_BYTES`], as read or as it would be printed.
    #[error("the URI has {bytes} bytes, at most {MAX_URI_BYTES} are allowed")]
    TooLong {
        /// Bytes of the URI.
        bytes: usize,
    },
    /// Another scheme than the one asked for.
    #[error("`{}` does not begin with `{expected}`", .text.escape_debug())]
    WrongScheme {
        /// The beginning of the text.
        text: String,
        /// The scheme asked for.
        expected: &'static str,
    },
    /// A scheme that nobody here serves.
    #[error("`{}` is of an unknown kind; expected {EXPECTED}", .text.escape_debug())]
    UnknownScheme {
        /// The beginning of the text.
        text: String,
    },
    /// No SHA-1 after the scheme.
    #[error(transparent)]
    Hash(#[from] ParseIdError),
    /// Something else than a suffix, a name or a query after the SHA-1.
    #[error("`{}` follows the hash; expected `.suffix`, `/name`, `?query` or the end", .text.escape_debug())]
    AfterHash {
        /// The beginning of what follows.
        text: String,
    },
    /// A query key that means something has a value that does not.
    #[error("`{key}={}` in the query is not legal; expected {expected}", .value.escape_debug())]
    Query {
        /// The key.
        key: &'static str,
        /// The beginning of its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A query key that means something stands twice.
    #[error("`{key}=` stands twice in the query")]
    RepeatedQuery {
        /// The key.
        key: &'static str,
    },
    /// An illegal ref name, or an illegal name in a directory path.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A part of the path that is empty or is not UTF-8 behind its percent signs, or hides a `/`.
    #[error("the part `{}` of the path is not legal; expected text between the `/` (in a key, write `~1` for `/`)", .text.escape_debug())]
    Segment {
        /// The beginning of the part.
        text: String,
    },
}

/// What a command line takes where it says `URI|REF`.
///
/// A text with a scheme is a URI; a bare SHA-1 is a blob; all else is a ref, `group/key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One blob.
    Blob(BlobUri),
    /// A directory object, or something in it.
    Dir(DirUri),
    /// A ref, or something in its obj.
    Ref(RefUri),
}

impl FromStr for Target {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.starts_with(BlobUri::SCHEME) || text.parse::<BlobId>().is_ok() {
            BlobUri::parse_lenient(text).map(Target::Blob)
        } else if text.starts_with(DirUri::SCHEME) {
            text.parse().map(Target::Dir)
        } else if text.starts_with(RefUri::SCHEME) {
            text.parse().map(Target::Ref)
        } else if text.contains("://") {
            Err(UriError::UnknownScheme { text: beginning(text) })
        } else {
            Ok(Target::Ref(RefUri::from(RefName::parse(text)?)))
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Blob(uri) => uri.fmt(f),
            Target::Dir(uri) => uri.fmt(f),
            Target::Ref(uri) => uri.fmt(f),
        }
    }
}

/// Characters that stand for themselves in what we print; Python's `quote` leaves the same ones, `/` apart.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encode(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

/// A `%` without two digits stands for itself, as in Python; none if the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}

fn beginning(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The rest after a scheme. Kachery's older documentation prints `sha1:////HASH`, so more slashes are skipped.
fn strip_scheme<'a>(text: &'a str, scheme: &'static str) -> Result<&'a str, UriError> {
    check_length(text.len())?;
    let rest = text.strip_prefix(scheme);
    rest.ok_or_else(|| UriError::WrongScheme { text: beginning(text), expected: scheme })
}

fn check_length(bytes: usize) -> Result<(), UriError> {
    if bytes > MAX_URI_BYTES { Err(UriError::TooLong { bytes }) } else { Ok(()) }
}

/// The SHA-1 that a text begins with, and what follows it.
fn split_hash(text: &str) -> Result<(BlobId, &str), UriError> {
    let (hash, rest) = text.split_at_checked(2 * BlobId::LEN).unwrap_or((text, ""));
    Ok((hash.parse()?, rest))
}

/// The path and the query, which may be empty.
fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_command_line_takes_uris_hashes_and_refs() {
        assert!(matches!(target(HEX), Target::Blob(uri) if uri.to_string() == format!("sha1://{HEX}")));
        assert!(matches!(target(&HEX.to_uppercase()), Target::Blob(_)));
        assert!(matches!(target(&format!("sha1://{HEX}/a.txt")), Target::Blob(_)));
        assert!(matches!(target(&format!("sha1dir://{HEX}.d/a.txt")), Target::Dir(_)));
        assert!(matches!(target("keepwell://g/k/field"), Target::Ref(_)));
        assert!(matches!(target("lab/run 7/100%"), Target::Ref(uri) if uri.segments() == ["lab", "run 7", "100%"]));
        for text in ["keepwell://g/k", &format!("sha1://{HEX}?label=a"), &format!("sha1dir://{HEX}/a?label=d")] {
            assert_eq!(target(text).to_string(), text);
        }
    }

    #[test]
    fn anything_else_says_what_is_expected() {
        let error = |text: &str| text.parse::<Target>().expect_err("refused").to_string();
        assert!(error("md5://1234").contains("expected `sha1://HASH`"), "{}", error("md5://1234"));
        assert!(error("sha1://1234").contains("expected 40 hexadecimal digits"));
        assert!(error("1234").contains("expected `group/key`"));
        assert!(error("").contains("it is empty"));
    }

    #[test]
    fn the_length_ends_at_its_limit() {
        let uri = |bytes: usize| format!("sha1://{HEX}?other={}", "x".repeat(bytes - 54));
        assert_eq!(uri(MAX_URI_BYTES).len(), MAX_URI_BYTES);
        assert!(uri(MAX_URI_BYTES).parse::<BlobUri>().is_ok());
        let bytes = MAX_URI_BYTES + 1;
        assert_eq!(uri(bytes).parse::<BlobUri>(), Err(UriError::TooLong { bytes }));
    }
}
