//! What commands fetch before they go on: the blobs that a target stands for, with all that those need.

use keepwell_protocol::id::BlobId;
use keepwell_protocol::json;
use keepwell_protocol::uri::Target;

use super::backend::{Backend, Fetched};
use super::resolve::look_up;
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

/// Brings blobs here with all they need, as [`Backend::fetch`] does; whoever has a terminal shows how far it is.
pub type Fetch<'a> = dyn FnMut(&[BlobId]) -> Result<Option<Vec<Fetched>>, Failure> + 'a;

/// Does what needs blobs here; if some are missing, they are brought and it is done again.
pub fn with_blobs<T>(
    fetch: &mut Fetch<'_>,
    blobs: impl FnOnce() -> Result<Vec<BlobId>, Failure>,
    mut work: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    match work() {
        Err(failure) if failure.code == Code::NoProvider => {
            let blobs = blobs()?;
            bring(fetch, &blobs, failure)?;
            work()
        }
        outcome => outcome,
    }
}

/// Brings blobs, of which some are missing, as `failure` says. The first that nobody has is the failure.
fn bring(fetch: &mut Fetch<'_>, blobs: &[BlobId], failure: Failure) -> Result<(), Failure> {
    let Some(outcomes) = fetch(blobs)? else { return Err(failure) };
    for outcome in outcomes {
        match outcome {
            Ok(_) => {}
            // Where nobody could be asked, what failed first says more.
            Err(nobody) if nobody.code == Code::NoProvider && nobody.details.get("tried").is_none() => return Err(failure),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}
