//! Reading the whole index to find damage in it, and what follows when there is some.

use std::path::Path;

use keepwell_store::index::check::{CheckPace, IndexCheck};

use super::Node;
use crate::failure::Failure;
use crate::home::damage;

/// What to do about it, in few words.
pub const NEXT_STEP: &str = "stop the daemon, mend what can be mended with `keepwell fsck --verify --repair` and check again; if it stays so, make a new home, join and put anew";

/// Reads all of the index at a pace, and has `node` hear what that came to. When it is damaged, `node` deletes nothing from now on, also after a restart.
pub fn check(node: &dyn Node, home: &Path, pace: CheckPace) -> Result<IndexCheck, Failure> {
    let began_ms = node.now_ms();
    let found = node.store().check_index(pace)?;
    match &found {
        IndexCheck::Whole => node.trust_index(began_ms),
        IndexCheck::Damaged(why) => distrust(node, home, why)?,
        IndexCheck::Unfinished(_) => {}
    }
    Ok(found)
}

/// First on the disk, since the step that hears of it works on the index that is damaged. Each is done whatever became of the other.
fn distrust(node: &dyn Node, home: &Path, why: &str) -> Result<(), Failure> {
    let noted = damage::note(home, node.now_ms(), why);
    node.distrust_index(why)?;
    noted
}
