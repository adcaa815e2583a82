//! Two blobs of one SHA-1: what is stored here, and what refs mean by it.

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobFact, BlobId};
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use crate::failure::{Code, Failure};

/// What the refs that name a blob say that it is, each answer once.
pub fn named(snapshot: &Snapshot, id: &BlobId) -> Result<Vec<BlobFact>, StoreError> {
    let mut facts = Vec::new();
    for name in snapshot.refs_naming(id)? {
        for value in snapshot.item(&Item::reference(&name))?.values() {
            let links = RefBody::of(value).map(|body| body.links).unwrap_or_default();
            for fact in links.iter().filter(|link| link.sha1 == *id).filter_map(|link| link.fact()) {
                if !facts.contains(&fact) {
                    facts.push(fact);
                }
            }
        }
    }
    Ok(facts)
}

/// The blob that refs mean by this one's SHA-1, if it is not stored here and none of them means this one.
pub fn taken(snapshot: &Snapshot, fact: &BlobFact) -> Result<Option<BlobFact>, StoreError> {
    if snapshot.blob(&fact.sha1)?.is_some() {
        return Ok(None);
    }
    let named = named(snapshot, &fact.sha1)?;
    Ok(if named.contains(fact) { None } else { named.first().copied() })
}

/// Somebody made two files with one SHA-1. The first one's name is taken.
pub fn collision(refused: &BlobFact, kept: &BlobFact) -> Failure {
    let message = format!("another blob has the SHA-1 {}: this one was made to collide with it", kept.sha1);
    Failure::new(Code::Collision, message)
        .hint("find out where this file comes from; it cannot be stored as it is, only inside an archive, say")
        .about("sha1", kept.sha1.to_string())
        .about("kept_b3", kept.b3.to_string())
        .about("refused_b3", refused.b3.to_string())
}
