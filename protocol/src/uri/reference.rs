//! `keepwell://`: the URI of a ref, or of a link inside its obj.

use std::fmt;
use std::str::FromStr;

use super::{UriError, beginning, check_length, decode, encode, strip_scheme};
use crate::name::RefName;

/// `keepwell://group/key[/json-pointer]`.
///
/// A group may have several segments and a pointer too, so the text alone does not tell where the key is. The rule: **the longest
/// beginning that is an existing ref is the ref; the rest is the pointer into its obj.** Only a catalog knows which refs exist, so
/// this type keeps the segments, and [`RefUri::candidates`] lists the splits in the order they are to be tried.
///
/// Segments are percent-decoded and never empty, so a pointer cannot name the key `""`; in a pointer `~1` stands for `/` in a key
/// and `~0` for `~`. A plain `group/key`, without scheme, is a whole ref name and is not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUri {
    /// Invariant: the first two are a legal ref name, none is empty or holds `/`, and all together print within the limit.
    segments: Vec<String>,
}

impl RefUri {
    /// What the text begins with.
    pub const SCHEME: &str = "keepwell://";

    /// A ref and a JSON pointer (RFC 6901) into its obj, empty for the obj itself; errors if they are too long together, or if the
    /// pointer does not begin with `/` or has an empty step.
    pub fn new(name: &RefName, pointer: &str) -> Result<Self, UriError> {
        let mut segments: Vec<_> = name.segments().map(str::to_owned).collect();
        if !pointer.is_empty() {
            let steps = pointer.strip_prefix('/').ok_or_else(|| UriError::Segment { text: beginning(pointer) })?;
            segments.extend(steps.split('/').map(str::to_owned));
        }
        Self::from_segments(segments)
    }

    /// Group, key and pointer steps, decoded, without saying which is which.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Every reading of this URI, the longest ref first. The first one whose ref exists is meant; if none does, the first is the ref
    /// to report as missing.
    pub fn candidates(&self) -> impl Iterator<Item = (RefName, String)> + '_ {
        (2..=self.segments.len()).rev().filter_map(|key_end| {
            let (name, steps) = self.segments.split_at(key_end);
            let name = RefName::parse(&name.join("/")).ok()?;
            Some((name, steps.iter().map(|step| format!("/{step}")).collect()))
        })
    }

    fn from_segments(segments: Vec<String>) -> Result<Self, UriError> {
        if let Some(text) = segments.iter().find(|segment| segment.is_empty() || segment.contains('/')) {
            return Err(UriError::Segment { text: beginning(text) });
        }
        RefName::parse(&segments.iter().take(2).map(String::as_str).collect::<Vec<_>>().join("/"))?;
        let uri = RefUri { segments };
        check_length(uri.to_string().len())?;
        Ok(uri)
    }
}

impl From<RefName> for RefUri {
    /// Every legal ref name can be written as a URI, see the relation between their limits.
    fn from(name: RefName) -> Self {
        RefUri { segments: name.segments().map(str::to_owned).collect() }
    }
}

impl FromStr for RefUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let segment = |part: &str| decode(part).ok_or_else(|| UriError::Segment { text: beginning(part) });
        Self::from_segments(strip_scheme(text, Self::SCHEME)?.split('/').map(segment).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for RefUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::SCHEME)?;
        self.segments.iter().enumerate().try_for_each(|(index, segment)| {
            let separator = if index == 0 { "" } else { "/" };
            write!(f, "{separator}{}", encode(segment))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_NAME_BYTES, MAX_URI_BYTES};
    use proptest::prelude::*;

    fn uri(text: &str) -> RefUri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn splits(text: &str) -> Vec<(String, String)> {
        uri(text).candidates().map(|(name, pointer)| (name.to_string(), pointer)).collect()
    }

    fn split(name: &str, pointer: &str) -> (String, String) {
        (name.to_owned(), pointer.to_owned())
    }

    #[test]
    fn the_longest_ref_is_tried_first() {
        assert_eq!(splits("keepwell://g/k"), [split("g/k", "")]);
        let expected = [split("lab/runs/7/out", ""), split("lab/runs/7", "/out"), split("lab/runs", "/7/out")];
        assert_eq!(splits("keepwell://lab/runs/7/out"), expected);
    }

    #[test]
    fn a_split_whose_ref_would_be_illegal_is_left_out() {
        assert_eq!(splits("keepwell://g/k/../x"), [split("g/k", "/../x")]);
        assert_eq!(splits("keepwell://g/k/a%0Ab"), [split("g/k", "/a\nb")]);
        assert_eq!(splits("keepwell://g/k/a~1b"), [split("g/k/a~1b", ""), split("g/k", "/a~1b")]);
    }

    #[test]
    fn segments_are_decoded_and_never_empty() {
        assert_eq!(uri("keepwell://my%20lab/Gr%C3%B6%C3%9Fe/100%").segments(), ["my lab", "Größe", "100%"]);
        for text in ["keepwell://", "keepwell://g", "keepwell://g/", "keepwell://g//k", "keepwell://g/k/", "keepwell://g/a%2Fb"] {
            assert!(text.parse::<RefUri>().is_err(), "{text}");
        }
        for text in ["keepwell://../k", "keepwell://g/%00", "keepwell://g/%ff", "g/k", "sha1://g/k"] {
            assert!(text.parse::<RefUri>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pointer_is_joined_to_its_ref() {
        let name: RefName = "lab/runs".parse().unwrap();
        assert_eq!(RefUri::new(&name, "/a~1b/0").unwrap().to_string(), "keepwell://lab/runs/a~1b/0");
        assert_eq!(RefUri::new(&name, ""), Ok(RefUri::from(name.clone())));
        assert!(RefUri::new(&name, "a").is_err());
        assert!(RefUri::new(&name, "/").is_err());
    }

    #[test]
    fn every_ref_name_can_be_written_as_a_uri_and_too_much_is_refused() {
        let longest = RefName::parse(&format!("ü/{}x", "ü".repeat(MAX_NAME_BYTES / 2 - 2))).unwrap();
        assert_eq!(longest.as_str().len(), MAX_NAME_BYTES);
        let written = RefUri::from(longest.clone());
        assert_eq!(written.to_string().parse(), Ok(written));
        let room = MAX_URI_BYTES - RefUri::from(longest.clone()).to_string().len();
        let pointer = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
        assert!(RefUri::new(&longest, &pointer(room)).is_ok());
        assert_eq!(RefUri::new(&longest, &pointer(room + 1)), Err(UriError::TooLong { bytes: MAX_URI_BYTES + 1 }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(group in "\\PC{1,9}(/\\PC{1,9}){0,2}", key in "\\PC{1,9}", step in "[^/]{1,9}") {
            if let Ok(name) = RefName::new(&group, &key) {
                let uri = RefUri::new(&name, &format!("/{step}")).unwrap();
                prop_assert_eq!(uri.to_string().parse(), Ok(uri.clone()));
                let split = (name, format!("/{step}"));
                prop_assert!(uri.candidates().any(|candidate| candidate == split));
            }
        }
    }
}
