//! The links in a JSON value: which blobs it names, and where.
//!
//! Only a string that is a URI as a whole is a link; a URI inside a sentence is prose. A string that begins as one but is not legal
//! is no link either, and is reported apart, so that nobody believes a mistyped name to be protected.

use std::collections::BTreeSet;

use super::{Json, escape_token};
use crate::limits::MAX_DIRECT_LINKS;
use crate::uri::{BlobUri, DirUri, UriError};

/// Why a ref cannot have this obj.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A string that begins as a link and is not one.
    #[error("the link at `{}` is not legal", .pointer.escape_debug())]
    Malformed {
        /// Where it stands.
        pointer: String,
        /// What is wrong with it.
        source: UriError,
    },
    /// More distinct blobs than [`MAX_DIRECT_LINKS`].
    #[error(
        "the object names {count} blobs, at most {MAX_DIRECT_LINKS} are allowed; store a directory or a JSON blob that links to them"
    )]
    TooMany {
        /// Distinct blobs named.
        count: usize,
    },
}

/// Every `sha1://` and `sha1dir://` URI among the strings of a value, with its pointer, in document order.
///
/// A directory stands for its directory object. A `manifest=` is a dependency of its own, listed right after its blob under the
/// same pointer: kachery names manifests nowhere else, so a collector that overlooked it would delete them.
pub fn links(json: &Json) -> Vec<(String, BlobUri)> {
    let mut found = Vec::new();
    visit_links(json, &mut |pointer, outcome| {
        let Ok(uri) = outcome else { return };
        let manifest = uri.manifest.map(|manifest| (pointer.to_owned(), BlobUri::from(manifest)));
        found.push((pointer.to_owned(), uri));
        found.extend(manifest);
    });
    found
}

/// The strings that begin as a link and are not one, with their pointers, in document order.
pub fn malformed_links(json: &Json) -> Vec<(String, UriError)> {
    let mut found = Vec::new();
    visit_links(json, &mut |pointer, outcome| {
        if let Err(error) = outcome {
            found.push((pointer.to_owned(), error));
        }
    });
    found
}

/// The links of a ref's obj: as [`links`], but a malformed one is an error, and so are more than [`MAX_DIRECT_LINKS`] blobs.
pub fn direct_links(obj: &Json) -> Result<Vec<(String, BlobUri)>, LinkError> {
    if let Some((pointer, source)) = malformed_links(obj).into_iter().next() {
        return Err(LinkError::Malformed { pointer, source });
    }
    let links = links(obj);
    let count = links.iter().map(|(_, uri)| uri.sha1).collect::<BTreeSet<_>>().len();
    if count > MAX_DIRECT_LINKS { Err(LinkError::TooMany { count }) } else { Ok(links) }
}

/// The blob that a string names as a whole; none if it does not begin as a link.
fn parse_link(text: &str) -> Option<Result<BlobUri, UriError>> {
    if text.starts_with(BlobUri::SCHEME) {
        Some(text.parse())
    } else if text.starts_with(DirUri::SCHEME) {
        Some(text.parse::<DirUri>().map(|dir| dir.blob))
    } else {
        None
    }
}

fn visit_links(json: &Json, report: &mut impl FnMut(&str, Result<BlobUri, UriError>)) {
    descend(json, &mut String::new(), report);
}

/// The pointer grows and shrinks with the descent, so nothing is copied for values that are no links.
fn descend(json: &Json, pointer: &mut String, report: &mut impl FnMut(&str, Result<BlobUri, UriError>)) {
    match json {
        Json::String(text) => {
            if let Some(outcome) = parse_link(text) {
                report(pointer, outcome);
            }
        }
        Json::Array(items) => items.iter().enumerate().for_each(|(index, item)| step(item, &index.to_string(), pointer, report)),
        Json::Object(members) => members.iter().for_each(|(key, value)| step(value, &escape_token(key), pointer, report)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn step(json: &Json, token: &str, pointer: &mut String, report: &mut impl FnMut(&str, Result<BlobUri, UriError>)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(token);
    descend(json, pointer, report);
    pointer.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{parse_document, parse_object};

    const A: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";
    const B: &str = "d0d9555e376ff13a08c6d56072808e27ca32d54a";

    fn found(text: &str) -> Vec<(String, String)> {
        links(&parse_document(text.as_bytes()).unwrap()).into_iter().map(|(at, uri)| (at, uri.to_string())).collect()
    }

    fn link(at: &str, uri: String) -> (String, String) {
        (at.to_owned(), uri)
    }

    #[test]
    fn links_are_found_in_document_order() {
        let text = format!(r#"{{"z":"sha1://{A}?label=x","list":[1,{{"a/b":"sha1dir://{B}/sub/file"}}],"again":"sha1://{A}"}}"#);
        let expected = vec![
            link("/z", format!("sha1://{A}?label=x")),
            link("/list/1/a~1b", format!("sha1://{B}")),
            link("/again", format!("sha1://{A}")),
        ];
        assert_eq!(found(&text), expected);
        assert_eq!(found(&format!("\"sha1://{A}\"")), [link("", format!("sha1://{A}"))]);
    }

    #[test]
    fn a_manifest_is_a_dependency_of_its_own() {
        let text = format!(r#"{{"data":"sha1://{A}/raw.dat?manifest={B}"}}"#);
        assert_eq!(found(&text), [link("/data", format!("sha1://{A}?label=raw.dat")), link("/data", format!("sha1://{B}"))]);
        let dir = format!(r#"["sha1dir://{A}.name?manifest={B}"]"#);
        assert_eq!(found(&dir), [link("/0", format!("sha1://{A}?label=name")), link("/0", format!("sha1://{B}"))]);
    }

    #[test]
    fn keys_prose_and_other_schemes_are_no_links() {
        let text =
            format!(r#"{{"sha1://{A}":1,"prose":"see sha1://{A}","other":"md5://{A}","ref":"keepwell://g/k","hex":"{A}"}}"#);
        assert_eq!(found(&text), []);
        assert_eq!(malformed_links(&parse_object(&text).unwrap()), []);
    }

    #[test]
    fn a_malformed_link_is_reported_and_refused() {
        let json = parse_object(&format!(r#"{{"good":"sha1://{A}","bad":"sha1://1234"}}"#)).unwrap();
        assert_eq!(links(&json).len(), 1);
        assert_eq!(malformed_links(&json)[0].0, "/bad");
        let error = direct_links(&json).expect_err("malformed");
        assert_eq!(error.to_string(), "the link at `/bad` is not legal");
    }

    #[test]
    fn direct_links_end_at_their_limit() {
        let object = |count: usize| {
            // Every link stands twice and counts once.
            let uris = (0..2 * count).map(|n| Json::String(format!("sha1://{:040x}", n / 2))).collect();
            Json::Object(vec![("links".to_owned(), Json::Array(uris))])
        };
        assert_eq!(direct_links(&object(MAX_DIRECT_LINKS)).map(|links| links.len()), Ok(2 * MAX_DIRECT_LINKS));
        let count = MAX_DIRECT_LINKS + 1;
        assert_eq!(direct_links(&object(count)), Err(LinkError::TooMany { count }));
    }
}
