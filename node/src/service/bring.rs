//! What commands fetch before they go on: the blobs that a target stands for, with all that those need.

use std::collections::BTreeSet;

use keepwell_protocol::id::BlobId;
use keepwell_protocol::json;
use keepwell_protocol::uri::Target;

use super::backend::{Backend, Extent, Fetched};
use super::resolve::{Resolved, look_up, resolve, within_directory};
use crate::failure::{Code, Failure};

/// The blobs that `target` stands for: itself, the directory, or whatever the ref's object names.
pub fn roots(backend: &dyn Backend, target: &Target) -> Result<Vec<BlobId>, Failure> {
    match target {
        Target::Blob(uri) => Ok(vec![uri.sha1]),
        Target::Dir(uri) => Ok(vec![uri.blob.sha1]),
        Target::Ref(uri) => {
            let (_, obj) = look_up(backend, uri)?;
            let mut roots: Vec<BlobId> = Vec::new();
            for (_, link) in json::direct_links(&obj)? {
                if !roots.contains(&link.sha1) {
                    roots.push(link.sha1);
                }
            }
            Ok(roots)
        }
    }
}

/// Brings blobs here to some extent, as [`Backend::fetch`] does; whoever has a terminal shows how far it is.
pub type Fetch<'a> = dyn FnMut(&[BlobId], Extent) -> Result<Option<Vec<Fetched>>, Failure> + 'a;

/// Does what needs `blobs` and all they need here; if some are missing, they are brought and it is done again.
pub fn with_blobs<T>(
    fetch: &mut Fetch<'_>,
    blobs: impl FnOnce() -> Result<Vec<BlobId>, Failure>,
    mut work: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    match work() {
        Err(failure) if failure.code == Code::NoProvider => {
            require(fetch(&blobs()?, Extent::Closure)?, failure)?;
            work()
        }
        outcome => outcome,
    }
}

/// Brings what of `blobs` and all they need is not here, where somebody can be asked for it. The first that none of those has is the failure; where
/// nobody could be asked, whoever needs it says so.
pub fn bring_closure(blobs: &[BlobId], fetch: &mut Fetch<'_>) -> Result<(), Failure> {
    if blobs.is_empty() {
        return Ok(());
    }
    let outcomes = fetch(blobs, Extent::Closure)?.into_iter().flatten();
    outcomes.filter_map(Result::err).find(|failure| !is_unasked(failure)).map_or(Ok(()), Err)
}

/// Whether nobody could be asked.
fn is_unasked(failure: &Failure) -> bool {
    failure.code == Code::NoProvider && failure.details.get("tried").is_none()
}

/// Does what reads what `target` names; if some of it is missing, it is brought and it is done again.
pub fn with_target<T>(
    backend: &dyn Backend,
    target: &Target,
    fetch: &mut Fetch<'_>,
    mut work: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    match work() {
        Err(failure) if failure.code == Code::NoProvider => {
            require(bring(backend, target, fetch)?, failure)?;
            work()
        }
        outcome => outcome,
    }
}

/// Brings what `target` names, an outcome a blob: of a path in a directory that path alone, of all else the closure. None without
/// a daemon.
pub fn bring(backend: &dyn Backend, target: &Target, fetch: &mut Fetch<'_>) -> Result<Option<Vec<Fetched>>, Failure> {
    let Some(uri) = within_directory(backend, target)? else {
        return fetch(&roots(backend, target)?, Extent::Closure);
    };
    let directory = fetch(&[uri.blob.sha1], Extent::Flat)?;
    if directory.as_ref().is_none_or(|outcomes| outcomes.iter().any(Result::is_err)) {
        return Ok(directory);
    }
    // Folders within it are part of the directory object itself: one blob leads to every path.
    let files = match resolve(backend, &Target::Dir(uri))? {
        Resolved::Blob(uri) => vec![uri.sha1],
        Resolved::Tree(tree) => tree.files.into_iter().map(|(_, uri)| uri.sha1).collect::<BTreeSet<_>>().into_iter().collect(),
    };
    fetch(&files, Extent::Flat)
}

/// Blobs of which some were missing, as `failure` says, are here now. The first that nobody has is the failure.
fn require(outcomes: Option<Vec<Fetched>>, failure: Failure) -> Result<(), Failure> {
    let Some(outcomes) = outcomes else { return Err(failure) };
    for outcome in outcomes {
        match outcome {
            Ok(_) => {}
            // Where nobody could be asked, what failed first says more.
            Err(nobody) if is_unasked(&nobody) => return Err(failure),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}
