//! The query of a blob's or directory's URI.

use std::str::FromStr;

use super::{ChunkOf, UriError, beginning, decode};
use crate::id::{B3, BlobId};
use crate::name::Label;

/// What the known keys of a query say. Unknown keys are skipped: a later version may have added them.
#[derive(Default)]
pub(super) struct Query {
    pub(super) label: Option<Label>,
    pub(super) manifest: Option<BlobId>,
    pub(super) b3: Option<B3>,
    pub(super) chunk_of: Option<ChunkOf>,
    pub(super) location: Option<String>,
}

impl Query {
    /// Reads `key=value&…`. A value that identifies something must be legal; a label or location that is not is left out.
    pub(super) fn parse(text: &str) -> Result<Self, UriError> {
        let mut query = Query::default();
        for (key, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "label" => query.label = query.label.or_else(|| Label::parse(&decode(value)?).ok()),
                "location" => query.location = query.location.or_else(|| decode(value)),
                "manifest" => put(&mut query.manifest, "manifest", value, "40 hexadecimal digits")?,
                "b3" => put(&mut query.b3, "b3", value, "64 hexadecimal digits")?,
                "chunkOf" => put(&mut query.chunk_of, "chunkOf", value, "HASH~START~END")?,
                _ => {}
            }
        }
        Ok(query)
    }
}

fn put<T: FromStr>(slot: &mut Option<T>, key: &'static str, value: &str, expected: &'static str) -> Result<(), UriError> {
    if slot.is_some() {
        return Err(UriError::RepeatedQuery { key });
    }
    let parsed = decode(value).and_then(|text| text.parse().ok());
    *slot = Some(parsed.ok_or_else(|| UriError::Query { key, value: beginning(value), expected })?);
    Ok(())
}
