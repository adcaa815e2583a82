//! What the home may hold: more than that is refused before it is taken in, or at the latest before it is recorded.

use keepwell_protocol::units::SizeBytes;
use keepwell_store::counts::Count;
use serde_json::json;

use super::Node;
use crate::failure::{Code, Failure};

/// Fails when so many more bytes of blobs are more than this home may hold.
///
/// What lies in the trash does not count: it goes when its room is needed. Two who put at once may each find the same room, so the limit
/// can be exceeded by what is being put.
pub fn leave_room(node: &dyn Node, more_bytes: u64) -> Result<(), Failure> {
    let Some(max_size_bytes) = node.settings().max_size_bytes else { return Ok(()) };
    let held_bytes = node.store().snapshot()?.count(Count::BlobBytes)?;
    if more_bytes == 0 || held_bytes.saturating_add(more_bytes) <= max_size_bytes {
        return Ok(());
    }
    let human = |bytes: u64| SizeBytes(bytes).human();
    let message = format!(
        "this home may hold {}, and holds {}: {} more do not fit",
        human(max_size_bytes),
        human(held_bytes),
        human(more_bytes)
    );
    Err(Failure::new(Code::NoSpace, message)
        .hint("see what can go with `keepwell gc`, or raise `max_size` in config.toml")
        .details(json!({ "max_size_bytes": max_size_bytes, "size_bytes": held_bytes, "more_bytes": more_bytes })))
}
