//! Where things lie in a home: the only place that spells the names of its folders.

use keepwell_protocol::id::BlobId;

use crate::fs::HomePath;
use crate::ingest::IngestId;

/// The folder of files that are still being written: `ingest`.
pub fn ingest_folder() -> HomePath {
    named(&["ingest"])
}

/// A file that is being written: `ingest/<32 hex>`.
pub fn ingest_file(id: &IngestId) -> HomePath {
    named(&["ingest", &id.to_string()])
}

/// The folder that holds every blob file: `blobs`.
pub fn blobs_folder() -> HomePath {
    named(&["blobs"])
}

/// The folder of one blob's file: `blobs/ab/cd`. Two levels keep folders small with tens of millions of blobs.
pub fn blob_folder(id: &BlobId) -> HomePath {
    let hex = id.to_string();
    named(&["blobs", &hex[..2], &hex[2..4]])
}

/// A blob's file: `blobs/ab/cd/<40 hex>`.
pub fn blob_file(id: &BlobId) -> HomePath {
    let hex = id.to_string();
    named(&["blobs", &hex[..2], &hex[2..4], &hex])
}

/// The folder of deleted blobs' files: `trash`.
pub fn trash_folder() -> HomePath {
    named(&["trash"])
}

/// A deleted blob's file: `trash/<40 hex>`.
pub fn trash_file(id: &BlobId) -> HomePath {
    named(&["trash", &id.to_string()])
}

/// The folder of what `fsck` has taken out of the way: `quarantine`. Nothing is deleted from it.
pub fn quarantine_folder() -> HomePath {
    named(&["quarantine"])
}

fn named(parts: &[&str]) -> HomePath {
    HomePath::parse(&parts.join("/")).expect("invariant: names made of words and hexadecimal digits are legal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_lies_in_two_levels_of_folders() {
        let id: BlobId = "d9e989f651cdd269d7f9bb8a215d024d8d283688".parse().unwrap();
        assert_eq!(blob_file(&id).as_str(), "blobs/d9/e9/d9e989f651cdd269d7f9bb8a215d024d8d283688");
        assert_eq!(blob_file(&id).parent(), Some(blob_folder(&id)));
        assert!(blob_folder(&id).as_str().starts_with(blobs_folder().as_str()));
    }

    #[test]
    fn an_ingest_lies_in_its_folder() {
        assert_eq!(ingest_file(&IngestId([7; 16])).parent(), Some(ingest_folder()));
    }
}
