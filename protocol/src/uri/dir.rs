//! `sha1dir://`: the URI of a directory object, or of something in it.

use std::fmt;
use std::str::FromStr;

use super::{BlobUri, UriError, beginning, check_length, decode, encode, split_hash, split_query, strip_scheme};
use crate::name::{FileName, Label};

/// A directory object, and a path in it; an empty path is the directory itself.
///
/// Read from `sha1dir://HASH[.label][/path/in/dir][?label=…]`, displayed as `sha1dir://HASH[/path][?label=…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirUri {
    /// The blob of the directory object. Its label is the directory's name; it has no suffix.
    pub blob: BlobUri,
    /// The folders and the file below it.
    pub path: Vec<FileName>,
}

impl DirUri {
    /// What the text begins with.
    pub const SCHEME: &str = "sha1dir://";
}

impl FromStr for DirUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let (place, query) = split_query(strip_scheme(text, Self::SCHEME)?);
        let (sha1, rest) = split_hash(place.trim_start_matches('/'))?;
        if !(rest.is_empty() || rest.starts_with(['.', '/'])) {
            return Err(UriError::AfterHash { text: beginning(rest) });
        }
        let (label, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut blob = BlobUri::from_parts(sha1, query)?;
        blob.label = blob.label.or_else(|| Label::parse(&decode(label.strip_prefix('.')?)?).ok());
        // Doubled and trailing slashes name nothing, as in a file system.
        let path = path.split('/').filter(|part| !part.is_empty()).map(parse_part).collect::<Result<_, _>>()?;
        let uri = DirUri { blob, path };
        // What is printed may be longer than what was read, and must be readable too.
        check_length(uri.to_string().len())?;
        Ok(uri)
    }
}

/// A part of a path leads somewhere: unlike a label it is refused when it is illegal.
fn parse_part(part: &str) -> Result<FileName, UriError> {
    let name = decode(part).ok_or_else(|| UriError::Segment { text: beginning(part) })?;
    Ok(FileName::parse(&name)?)
}

impl fmt::Display for DirUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::SCHEME, self.blob.sha1)?;
        self.path.iter().try_for_each(|part| write!(f, "/{}", encode(part.as_str())))?;
        self.blob.label.as_ref().map_or(Ok(()), |label| write!(f, "?label={}", encode(label.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlobId;
    use crate::limits::MAX_URI_BYTES;
    use proptest::prelude::*;

    const HEX: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";

    fn printed(rest: &str) -> String {
        let uri = format!("sha1dir://{HEX}{rest}").parse::<DirUri>().unwrap_or_else(|error| panic!("{rest}: {error}"));
        uri.to_string().replace(HEX, "H")
    }

    #[test]
    fn every_form_is_read_and_printed_as_ours() {
        assert_eq!(printed(""), "sha1dir://H");
        assert_eq!(printed(".data"), "sha1dir://H?label=data");
        assert_eq!(printed(".my.data/sub/a b.txt"), "sha1dir://H/sub/a%20b.txt?label=my.data");
        assert_eq!(printed("/sub//a.txt/?label=x"), "sha1dir://H/sub/a.txt?label=x");
        assert_eq!(printed(".old?label=new&zone=lab"), "sha1dir://H?label=new");
        assert_eq!(format!("sha1dir:////{HEX}.d/x").parse::<DirUri>().unwrap().path.len(), 1);
    }

    #[test]
    fn a_path_cannot_leave_its_directory() {
        for path in ["/..", "/a/../b", "/.", "/%2E%2E/x", "/a%2Fb", "/%00", "/%ff"] {
            assert!(format!("sha1dir://{HEX}{path}").parse::<DirUri>().is_err(), "{path}");
        }
        assert!(matches!(format!("sha1dir://{HEX}x").parse::<DirUri>(), Err(UriError::AfterHash { .. })));
        assert!(matches!(format!("sha1://{HEX}").parse::<DirUri>(), Err(UriError::WrongScheme { .. })));
    }

    #[test]
    fn what_cannot_be_printed_within_the_limit_is_refused() {
        let parts = MAX_URI_BYTES / 101;
        let path = |letter: &str| format!("sha1dir://{HEX}{}", format!("/{}", letter.repeat(50)).repeat(parts));
        assert!(path("x").parse::<DirUri>().is_ok());
        assert!(matches!(path("ü").parse::<DirUri>(), Err(UriError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            sha1 in any::<[u8; 20]>(), label in "\\PC{0,20}", path in prop::collection::vec("[^/\0]{1,9}", 0..5)
        ) {
            let blob = BlobUri::labelled(BlobId(sha1), Label::parse(&label).ok());
            let uri = DirUri { blob, path: path.iter().filter_map(|part| FileName::parse(part).ok()).collect() };
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }
}
