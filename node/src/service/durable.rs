//! How durable a ref is: on how many disks all that it reaches is right now, as their nodes prove.

use std::collections::BTreeSet;

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::RefName;

use super::types::RefLine;
use super::{Node, refs};
use crate::engine::{RefRefusal, closure};
use crate::failure::{Code, Failure};
use crate::limits::DROP_PORTION;

/// The ref, with the copies that are proven now in place of those that are known, and who has not proven what it is said to hold.
pub fn confirm(node: &dyn Node, name: &RefName) -> Result<RefLine, Failure> {
    let mut line = refs::get(node, name)?;
    let snapshot = node.store().snapshot()?;
    let row = snapshot.item(&Item::reference(name.as_str()))?;
    let value = row.winner().ok_or_else(|| RefRefusal::NotFound(name.clone()))?;
    let roots: Vec<BlobId> = refs::body_of(value)?.links.iter().map(|link| link.sha1).collect();
    let mut blobs = Vec::new();
    closure::visit(&snapshot, &roots, |id| {
        blobs.push(id);
        Ok(true)
    })?;
    drop(snapshot);
    // What reaches nothing is as durable as it can be.
    let (mut fewest, mut unproven) = (if blobs.is_empty() { line.copies } else { u32::MAX }, BTreeSet::new());
    for portion in blobs.chunks(DROP_PORTION) {
        let confirmed = node.confirm(portion.to_vec())?;
        fewest = fewest.min(confirmed.copies);
        unproven.extend(confirmed.unproven);
        // What is short of copies here makes all of it so.
        if fewest < line.copies {
            break;
        }
    }
    let snapshot = node.store().snapshot()?;
    line.durable = fewest;
    line.unproven = Some(unproven.iter().map(|node| refs::name_of(&snapshot, node)).collect::<Result<_, _>>()?);
    Ok(line)
}

/// Why a ref that was waited for is not as durable as it shall be.
pub fn too_few(line: &RefLine) -> Failure {
    let name = format!("{}/{}", line.group, line.key);
    Failure::new(Code::Timeout, format!("ref `{name}` is set, and {} of {} copies are proven so far", line.durable, line.copies))
        .hint(format!(
            "other machines take a copy when they are in reach, see `keepwell status`; `keepwell ref get {name} --confirm` asks again"
        ))
}
