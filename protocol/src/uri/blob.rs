//! `sha1://`: the URI of one blob.

use std::fmt;
use std::str::FromStr;

use super::query::Query;
use super::{UriError, beginning, decode, encode, split_hash, split_query, strip_scheme};
use crate::id::{B3, BlobFact, BlobId};
use crate::name::{FileName, Label};

/// The name of a blob, and what its writer said about it.
///
/// Read from every form that a kachery has printed: `sha1://HASH`, `.suffix` or `/name` behind the hash, and a query. Displayed as
/// `sha1://HASH?label=NAME`, or bare without a label; [`BlobUri::to_full_string`] prints all there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobUri {
    /// The blob. All else is decoration or advice.
    pub sha1: BlobId,
    /// What it was called: `label=`, or the last part of an older `/name`.
    pub label: Option<Label>,
    /// The `.suffix` of a classic URI, without the dot.
    pub suffix: Option<FileName>,
    /// The blob that lists this one's chunks. It is a dependency of whoever names this URI.
    pub manifest: Option<BlobId>,
    /// The hash that authenticates ranges, if the writer knew it.
    pub b3: Option<B3>,
    /// The whole of which this blob is a chunk.
    pub chunk_of: Option<ChunkOf>,
    /// Where the writer's machine had the file. Advice that its writer chose: never to be opened unasked.
    pub location: Option<String>,
}

/// The place of a chunk in a file of kachery's: bytes `start..end` of the blob `whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkOf {
    /// The whole file.
    pub whole: BlobId,
    /// Offset of the chunk's first byte.
    pub start: u64,
    /// Offset after its last byte, not before `start`.
    pub end: u64,
}

impl BlobUri {
    /// What the text begins with.
    pub const SCHEME: &str = "sha1://";

    /// A blob and what to call it.
    pub fn labelled(sha1: BlobId, label: Option<Label>) -> Self {
        BlobUri { label, ..Self::from(sha1) }
    }

    /// Reads a URI or a bare SHA-1, as people paste it on a command line.
    pub fn parse_lenient(text: &str) -> Result<Self, UriError> {
        text.parse::<BlobId>().map_or_else(|_| text.parse(), |sha1| Ok(Self::from(sha1)))
    }

    /// The name of the file that `get` makes: the label's, else the hash with its suffix. Never empty, never a path.
    pub fn file_name(&self) -> String {
        let labelled = self.label.as_ref().and_then(Label::file_name);
        match (labelled, &self.suffix) {
            (Some(name), _) => name.to_string(),
            (None, Some(suffix)) if FileName::parse(&format!("{}.{suffix}", self.sha1)).is_ok() => {
                format!("{}.{suffix}", self.sha1)
            }
            _ => self.sha1.to_string(),
        }
    }

    /// The URI with all that was read, in the form of today where there is one.
    pub fn to_full_string(&self) -> String {
        let pairs = [
            self.label.as_ref().map(|label| format!("label={}", encode(label.as_str()))),
            self.manifest.map(|manifest| format!("manifest={manifest}")),
            self.b3.map(|b3| format!("b3={b3}")),
            self.chunk_of.map(|chunk| format!("chunkOf={chunk}")),
            self.location.as_ref().map(|location| format!("location={}", encode(location))),
        ];
        let suffix = self.suffix.as_ref().map(|suffix| format!(".{}", encode(suffix.as_str()))).unwrap_or_default();
        let query = pairs.into_iter().flatten().collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{}{suffix}{mark}{query}", Self::SCHEME, self.sha1)
    }

    /// Reads what follows the scheme. Shared with directories, whose path means something else.
    pub(super) fn from_parts(sha1: BlobId, query: &str) -> Result<Self, UriError> {
        let Query { label, manifest, b3, chunk_of, location } = Query::parse(query)?;
        Ok(BlobUri { sha1, label, suffix: None, manifest, b3, chunk_of, location })
    }
}

impl From<BlobId> for BlobUri {
    fn from(sha1: BlobId) -> Self {
        BlobUri { sha1, label: None, suffix: None, manifest: None, b3: None, chunk_of: None, location: None }
    }
}

impl From<BlobFact> for BlobUri {
    fn from(fact: BlobFact) -> Self {
        BlobUri { b3: Some(fact.b3), ..Self::from(fact.sha1) }
    }
}

impl FromStr for BlobUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let (path, query) = split_query(strip_scheme(text, Self::SCHEME)?);
        let (sha1, decoration) = split_hash(path.trim_start_matches('/'))?;
        if !(decoration.is_empty() || decoration.starts_with(['.', '/'])) {
            return Err(UriError::AfterHash { text: beginning(decoration) });
        }
        let (suffix, name) = decoration.split_once('/').unwrap_or((decoration, ""));
        let mut uri = Self::from_parts(sha1, query)?;
        uri.suffix = suffix.strip_prefix('.').and_then(decode).and_then(|suffix| FileName::parse(&suffix).ok());
        uri.label = uri.label.or_else(|| Label::parse(&decode(last_part(name))?).ok());
        Ok(uri)
    }
}

/// Some kacheries put a whole path behind the hash; its last part is what the file was called.
fn last_part(name: &str) -> &str {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

impl fmt::Display for BlobUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::SCHEME, self.sha1)?;
        self.label.as_ref().map_or(Ok(()), |label| write!(f, "?label={}", encode(label.as_str())))
    }
}

impl FromStr for ChunkOf {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let refused = || UriError::Query { key: "chunkOf", value: beginning(text), expected: "HASH~START~END" };
        let parts: Vec<_> = text.split('~').collect();
        let [whole, start, end] = parts[..] else { return Err(refused()) };
        let number = |text: &str| text.parse::<u64>().map_err(|_| refused());
        let chunk = ChunkOf { whole: whole.parse()?, start: number(start)?, end: number(end)? };
        if chunk.start <= chunk.end { Ok(chunk) } else { Err(refused()) }
    }
}

impl fmt::Display for ChunkOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}~{}", self.whole, self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_LABEL_BYTES, MAX_SEGMENT_BYTES};
    use proptest::prelude::*;

    const HEX: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";
    const OTHER: &str = "d0d9555e376ff13a08c6d56072808e27ca32d54a";
    const B3_HEX: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn uri(text: &str) -> BlobUri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_of_kachery_is_read_and_printed_as_ours() {
        let forms = [
            (format!("sha1://{HEX}"), format!("sha1://{HEX}")),
            (format!("sha1:////{HEX}"), format!("sha1://{HEX}")),
            (format!("sha1://{}", HEX.to_uppercase()), format!("sha1://{HEX}")),
            (format!("sha1://{HEX}.json"), format!("sha1://{HEX}")),
            (format!("sha1://{HEX}/"), format!("sha1://{HEX}")),
            (format!("sha1://{HEX}/file.txt"), format!("sha1://{HEX}?label=file.txt")),
            (format!("sha1:////{HEX}/my file.txt"), format!("sha1://{HEX}?label=my%20file.txt")),
            (format!("sha1://{HEX}/a/b/c.txt"), format!("sha1://{HEX}?label=c.txt")),
            (format!("sha1://{HEX}.json/file.txt"), format!("sha1://{HEX}?label=file.txt")),
            (format!("sha1://{HEX}/old?label=new"), format!("sha1://{HEX}?label=new")),
            (format!("sha1://{HEX}?label=dir/a%26b%3D.txt"), format!("sha1://{HEX}?label=dir%2Fa%26b%3D.txt")),
            (format!("sha1://{HEX}?label=Größe+1"), format!("sha1://{HEX}?label=Gr%C3%B6%C3%9Fe%2B1")),
            (format!("sha1://{HEX}?label=100%"), format!("sha1://{HEX}?label=100%25")),
            (format!("sha1://{HEX}?zone=lab&flag&label=a&x="), format!("sha1://{HEX}?label=a")),
        ];
        for (text, printed) in forms {
            assert_eq!(uri(&text).to_string(), printed, "{text}");
            assert_eq!(BlobUri::parse_lenient(&text), Ok(uri(&text)));
        }
    }

    #[test]
    fn the_query_is_read() {
        let text = format!(
            "sha1://{HEX}?label=a&manifest={OTHER}&b3={B3_HEX}&chunkOf={OTHER}~20000000~40000000&location=%2Fdata%2Fa%20b"
        );
        let read = uri(&text);
        assert_eq!(read.manifest, Some(OTHER.parse().unwrap()));
        assert_eq!(read.b3, Some(B3_HEX.parse().unwrap()));
        assert_eq!(read.chunk_of, Some(ChunkOf { whole: OTHER.parse().unwrap(), start: 20_000_000, end: 40_000_000 }));
        assert_eq!(read.location.as_deref(), Some("/data/a b"));
        assert_eq!(read.to_full_string(), text);
    }

    #[test]
    fn what_identifies_is_strict() {
        let error = |text: String| text.parse::<BlobUri>().expect_err("refused");
        assert!(matches!(error("sha1://1234".to_owned()), UriError::Hash(_)));
        assert!(matches!(error(format!("sha1://{}ü/x", &HEX[1..])), UriError::Hash(_)));
        assert!(matches!(error(format!("sha1://{HEX}0")), UriError::AfterHash { .. }));
        assert!(matches!(error(format!("sha1://{HEX}#part")), UriError::AfterHash { .. }));
        assert!(matches!(error(HEX.to_owned()), UriError::WrongScheme { .. }));
        assert!(matches!(error(format!("sha1dir://{HEX}")), UriError::WrongScheme { .. }));
        for query in
            ["manifest=", "manifest=12", "b3=12", "chunkOf=12~1~2", &format!("chunkOf={HEX}~2~1"), &format!("chunkOf={HEX}~1")]
        {
            assert!(matches!(error(format!("sha1://{HEX}?{query}")), UriError::Query { .. }), "{query}");
        }
        let twice = error(format!("sha1://{HEX}?manifest={HEX}&manifest={OTHER}"));
        assert_eq!(twice, UriError::RepeatedQuery { key: "manifest" });
        let message = error(format!("sha1://{HEX}?b3=12")).to_string();
        assert_eq!(message, "`b3=12` in the query is not legal; expected 64 hexadecimal digits");
    }

    #[test]
    fn what_decorates_never_makes_a_uri_illegal() {
        let long = "x".repeat(MAX_LABEL_BYTES + 1);
        for label in ["", "%00", "a%0Ab", "%ff", &long] {
            assert_eq!(uri(&format!("sha1://{HEX}?label={label}")), BlobUri::from(HEX.parse::<BlobId>().unwrap()), "{label}");
            assert_eq!(uri(&format!("sha1://{HEX}/{label}")).label, None);
        }
        assert!(uri(&format!("sha1://{HEX}?label={}", &long[1..])).label.is_some());
    }

    #[test]
    fn the_file_name_is_never_a_path() {
        let name = |rest: &str| uri(&format!("sha1://{HEX}{rest}")).file_name();
        assert_eq!(name("?label=a.txt"), "a.txt");
        assert_eq!(name("?label=..%2F..%2Fetc%2Fpasswd"), "passwd");
        assert_eq!(name("?label=.."), HEX);
        assert_eq!(name(".json"), format!("{HEX}.json"));
        assert_eq!(name("."), HEX);
        assert_eq!(name(&format!(".{}", "x".repeat(MAX_SEGMENT_BYTES))), HEX);
        assert_eq!(name(""), HEX);
    }

    prop_compose! {
        fn any_blob_uri()(
            sha1 in any::<[u8; 20]>(),
            label in "\\PC{0,20}",
            suffix in "[^/\0]{0,5}",
            manifest in any::<Option<[u8; 20]>>(),
            b3 in any::<Option<[u8; 32]>>(),
            chunk in any::<Option<([u8; 20], u64, u64)>>(),
            location in any::<Option<String>>(),
        ) -> BlobUri {
            BlobUri {
                sha1: BlobId(sha1),
                label: Label::parse(&label).ok(),
                suffix: FileName::parse(&suffix).ok(),
                manifest: manifest.map(BlobId),
                b3: b3.map(B3),
                chunk_of: chunk.map(|(whole, a, b)| ChunkOf { whole: BlobId(whole), start: a.min(b), end: a.max(b) }),
                location,
            }
        }
    }

    proptest! {
        #[test]
        fn all_that_is_printed_is_read_back(uri in any_blob_uri()) {
            prop_assert_eq!(uri.to_full_string().parse(), Ok(uri.clone()));
            let shown = BlobUri::labelled(uri.sha1, uri.label.clone());
            prop_assert_eq!(uri.to_string().parse(), Ok(shown));
        }

        #[test]
        fn any_text_is_read_or_refused(tail in "\\PC{0,60}") {
            let _outcome = format!("sha1://{tail}").parse::<BlobUri>();
            if let Ok(uri) = format!("sha1://{HEX}{tail}").parse::<BlobUri>() {
                prop_assert_eq!(uri.to_full_string().parse(), Ok(uri));
            }
        }
    }
}
