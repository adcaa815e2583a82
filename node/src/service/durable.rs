//! How durable a ref is: on how many disks all that it reaches is right now, as their nodes prove.

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::{BlobId, NodeId};
use keepwell_protocol::limits::MAX_QUESTION_BLOBS;
use keepwell_protocol::name::RefName;

use super::types::RefLine;
use super::{Node, refs};
use crate::engine::{RefRefusal, closure};
use crate::failure::{Code, Failure};

/// The ref, with the copies that are proven now in place of those that are known, and who was asked in vain.
pub fn confirm(node: &dyn Node, name: &RefName) -> Result<(RefLine, Vec<NodeId>), Failure> {
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
    if blobs.is_empty() {
        line.durable = line.copies;
        return Ok((line, Vec::new()));
    }
    let (mut fewest, mut unproven) = (u32::MAX, Vec::new());
    for portion in blobs.chunks(MAX_QUESTION_BLOBS) {
        let confirmed = node.confirm(portion.to_vec())?;
        fewest = fewest.min(confirmed.copies);
        unproven = confirmed.unproven;
        // What is short of copies here makes all of it so.
        if fewest < line.copies {
            break;
        }
    }
    line.durable = fewest;
    Ok((line, unproven))
}

/// Asks until as many copies are proven as the ref asks for, or until `deadline_ms`; between two questions `pause` waits for news.
pub fn confirm_until(node: &dyn Node, name: &RefName, deadline_ms: u64, pause: &mut dyn FnMut()) -> Result<RefLine, Failure> {
    loop {
        let (line, _) = confirm(node, name)?;
        if line.durable >= line.copies || node.now_ms() >= deadline_ms {
            return Ok(line);
        }
        pause();
    }
}

/// Why a ref that was waited for is not as durable as it shall be.
pub fn too_few(line: &RefLine) -> Failure {
    let name = format!("{}/{}", line.group, line.key);
    Failure::new(Code::Timeout, format!("ref `{name}` is set, and {} of {} copies are proven so far", line.durable, line.copies))
        .hint(format!(
            "bring it to another machine with `keepwell fetch {name}` there; `keepwell ref get {name} --confirm` asks again"
        ))
}
