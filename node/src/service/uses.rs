//! Uses of refs: touching one, and reading what it names.

use keepwell_protocol::json;
use keepwell_protocol::name::RefName;
use keepwell_protocol::uri::Target;

use super::backend::Backend;
use super::bring::{Fetch, with_blobs};
use super::resolve::look_up;
use super::types::RefLine;
use crate::failure::Failure;

/// Uses a ref, which puts off its end. Own copy first: what it names and is not here is fetched, and then it is touched.
pub fn touch(backend: &dyn Backend, name: &RefName, fetch: &mut Fetch<'_>) -> Result<RefLine, Failure> {
    let named = || {
        let links = json::direct_links(&backend.get_ref(name)?.obj)?;
        Ok(links.into_iter().map(|(_, uri)| uri.sha1).collect())
    };
    with_blobs(fetch, named, || backend.touch_ref(name))
}

/// What `target` names has been read. If it is a ref that ends some time after its last use, this was one.
///
/// What was read has been read: when nothing can be written, or not all that the ref names is here, that is no failure of the reader. A ref
/// with conflicts is left alone, because a touch would settle them.
pub fn was_read(backend: &dyn Backend, target: &Target) {
    let Target::Ref(uri) = target else { return };
    let Ok(line) = look_up(backend, uri).and_then(|(name, _)| Ok((backend.get_ref(&name)?, name))) else { return };
    let (RefLine { expires_ms, conflicts, .. }, name) = line;
    if expires_ms.is_some() && conflicts.is_some_and(|others| others.is_empty()) {
        backend.touch_ref(&name).ok();
    }
}
