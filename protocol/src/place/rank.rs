//! The order in which storages keep a blob: rendezvous hashing, so that a storage that comes or goes moves only what is its own.
//!
//! Rank orders who starts and who yields, and who fetches what lacks copies. It never says that a copy may go.

use std::cmp::Reverse;

use crate::id::{BlobId, StorageId};

/// What ranks are derived under. Never changes: all nodes must come to the same order.
const RANK_CONTEXT: &str = "keepwell 2026-11-23 placement rank v1";

/// How much `storage` is the place for `blob`: the greatest score keeps it longest. Ties are broken by id, which [`before`] does.
pub fn score(storage: &StorageId, blob: &BlobId) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(RANK_CONTEXT);
    hasher.update(storage.as_bytes());
    hasher.update(blob.as_bytes());
    let mut score = [0; 8];
    hasher.finalize_xof().fill(&mut score);
    u64::from_be_bytes(score)
}

/// Whether `one` keeps `blob` rather than `other`. Of two different storages exactly one does.
pub fn before(one: &StorageId, other: &StorageId, blob: &BlobId) -> bool {
    let place = |storage: &StorageId| (score(storage, blob), Reverse(*storage));
    place(one) > place(other)
}

/// How many of `storages` keep `blob` rather than `storage`: 0 for the first among them.
pub fn rank<'a>(storage: &StorageId, storages: impl IntoIterator<Item = &'a StorageId>, blob: &BlobId) -> usize {
    storages.into_iter().filter(|other| before(other, storage, blob)).count()
}

/// When it is `storage`'s turn to take a copy of `blob`, of which `missing` are to be made: 0 for those that are first in order, and for
/// each of the rest how many turns later. `others` are the storages that could take one too.
pub fn turn<'a>(storage: &StorageId, others: impl IntoIterator<Item = &'a StorageId>, missing: usize, blob: &BlobId) -> usize {
    (rank(storage, others, blob) + 1).saturating_sub(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storages(count: u8) -> Vec<StorageId> {
        (1..=count).map(|n| StorageId([n; 16])).collect()
    }

    fn first(storages: &[StorageId], blob: &BlobId) -> StorageId {
        *storages.iter().find(|storage| rank(storage, storages, blob) == 0).unwrap()
    }

    #[test]
    fn every_storage_has_a_rank_of_its_own() {
        let storages = storages(7);
        for n in 0..100 {
            let mut ranks: Vec<usize> = storages.iter().map(|storage| rank(storage, &storages, &BlobId([n; 20]))).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, (0..7).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_storage_that_comes_takes_its_share_and_moves_nothing_else() {
        let (ten, eleven) = (storages(10), storages(11));
        let mut moved = 0;
        for n in 0..2_000_u32 {
            let mut blob = [0; 20];
            blob[..4].copy_from_slice(&n.to_be_bytes());
            let (before, after) = (first(&ten, &BlobId(blob)), first(&eleven, &BlobId(blob)));
            assert!(before == after || after == eleven[10]);
            moved += u32::from(before != after);
        }
        assert!((100..300).contains(&moved), "{moved} of 2000 moved, about 182 are due");
    }

    #[test]
    fn as_many_as_are_missing_take_their_turn_at_once_and_the_rest_one_after_the_other() {
        let storages = storages(6);
        for n in 0..50 {
            for missing in 1..=7 {
                let mut turns: Vec<usize> =
                    storages.iter().map(|storage| turn(storage, &storages, missing, &BlobId([n; 20]))).collect();
                turns.sort_unstable();
                let at_once = missing.min(6);
                let expected: Vec<usize> = std::iter::repeat_n(0, at_once).chain(1..=6 - at_once).collect();
                assert_eq!(turns, expected);
            }
        }
    }

    #[test]
    fn scores_never_change() {
        // Golden: a change makes nodes of two versions disagree about who yields.
        assert_eq!(score(&StorageId([1; 16]), &BlobId([2; 20])), GOLDEN);
    }

    const GOLDEN: u64 = 17_513_695_344_320_013_453;
}
