//! A story: what users and workers ask of one node, drawn from a seed before anything happens, so that no crash can change it.

use keepwell_protocol::id::BlobFact;
use keepwell_store::hash::hash_bytes;
use keepwell_store::limits::{GROUP_BYTES, INLINE_MAX_BYTES};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Sizes of the blobs that are put one by one: at and around the edges between index, file and range values.
const SIZES: [usize; 12] = [
    0,
    1,
    700,
    5_000,
    INLINE_MAX_BYTES - 1,
    INLINE_MAX_BYTES,
    INLINE_MAX_BYTES + 1,
    20_000,
    30_000,
    40_000,
    GROUP_BYTES,
    GROUP_BYTES + 1,
];
/// Files of the folder-like parent.
const LEAVES: usize = 24;
const LEAF_BYTES: usize = 40;
const PARENT_BYTES: usize = 1_500;
/// What a blob repeats (bytes): random, so that blobs differ, and short, so that drawing them costs little.
const BLOCK_BYTES: usize = 32;
/// Refs that the story is about.
const NAMES: usize = 5;
/// A value this large rolls its shard's epoch after a few writes (bytes).
const FAT_BYTES: usize = 60_000;
const DAY_MS: u64 = 86_400_000;

/// The number of a blob in [`Story::blobs`].
pub type BlobNo = usize;

/// What a story consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Operations beside the set scenes.
    pub ops: usize,
    /// Of a hundred values of refs, so many are large.
    pub fat_percent: u64,
}

impl Scale {
    /// Short enough that every call of the disk can be a crash.
    pub const SHORT: Scale = Scale { ops: 16, fat_percent: 2 };
    /// Long enough that epochs roll.
    pub const LONG: Scale = Scale { ops: 250, fat_percent: 60 };
}

/// A blob of the story.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What they are.
    pub fact: BlobFact,
}

/// Everything that will be asked, in order.
#[derive(Debug, Clone)]
pub struct Story {
    /// The blobs that it is about.
    pub blobs: Vec<Content>,
    /// What is asked.
    pub ops: Vec<Op>,
}

/// One thing that is asked.
#[derive(Debug, Clone)]
pub enum Op {
    /// Take blobs in, place them, and record them with links to those of the named children that are held.
    Put(Vec<PutStep>),
    /// Write refs, all or none.
    Refs(Vec<RefStep>),
    /// Delete a blob, by permit, and move its bytes away now or later.
    Delete {
        /// Which.
        blob: BlobNo,
        /// Whether the worker comes at once.
        unlink_now: bool,
    },
    /// Let the worker do all that it has been told to.
    Unlink,
    /// Take back a record, as `fsck` does.
    Forget(BlobNo),
    /// Stop and start.
    Restart,
    /// Copy the home: the original writes on, and the story goes on with the copy.
    Copy,
}

/// One blob of a put.
#[derive(Debug, Clone)]
pub struct PutStep {
    /// Which.
    pub blob: BlobNo,
    /// What it refers to.
    pub children: Vec<BlobNo>,
}

/// One write to a ref.
#[derive(Debug, Clone)]
pub enum RefStep {
    /// A value.
    Set {
        /// Which ref.
        name: String,
        /// The blobs that it names.
        links: Vec<BlobNo>,
        /// Bytes of its object, about.
        obj_bytes: usize,
        /// What is asked of its rev.
        rev: RevCheck,
        /// How long it lives after its last use, in milliseconds.
        ttl_access_ms: Option<u64>,
        /// Accept it although something is not held.
        allow_missing: bool,
    },
    /// Its deletion.
    Delete {
        /// Which ref.
        name: String,
        /// What is asked of its rev.
        rev: RevCheck,
    },
    /// Its use.
    Touch {
        /// Which ref.
        name: String,
    },
}

/// What a write asks of the rev that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevCheck {
    /// Nothing.
    Any,
    /// That it is the last one acknowledged.
    Known,
    /// That it is one that never was.
    Wrong,
    /// That there is no such ref.
    Absent,
}

impl Story {
    /// The story of `seed`.
    pub fn draw(seed: u64, scale: Scale) -> Story {
        let mut teller = Teller { dice: Dice::new(seed), fat_percent: scale.fat_percent };
        let blobs = teller.contents();
        let mut ops = vec![teller.put()];
        let mut scenes = teller.scenes();
        let every = scale.ops / scenes.len() + 1;
        for at in 0..scale.ops {
            ops.push(teller.op());
            if at % every == every - 1 {
                ops.extend(scenes.pop().unwrap_or_default());
            }
        }
        ops.extend(scenes.into_iter().flatten());
        Story { blobs, ops }
    }
}

/// What decides: a generator of this seed and nothing else.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `many`, which is not 0.
    pub(super) fn below(&mut self, many: usize) -> usize {
        usize::try_from(self.0.next_u64() % many as u64).unwrap_or(0)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.0.next_u64() % 100 < percent
    }

    /// The generator itself, for those who draw their own.
    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }
}

struct Teller {
    dice: Dice,
    fat_percent: u64,
}

impl Teller {
    fn contents(&mut self) -> Vec<Content> {
        let leaves = [LEAF_BYTES; LEAVES];
        let sizes = SIZES.into_iter().chain(leaves).chain([PARENT_BYTES]);
        sizes.map(|size| self.content(size)).collect()
    }

    fn content(&mut self, size: usize) -> Content {
        let mut block = [0; BLOCK_BYTES];
        self.dice.rng().fill_bytes(&mut block);
        let mut bytes = block.repeat(size / BLOCK_BYTES + 1);
        bytes.truncate(size);
        Content { fact: hash_bytes(&bytes).fact, bytes }
    }

    fn op(&mut self) -> Op {
        match self.dice.below(100) {
            0..35 => self.put(),
            35..70 => self.refs(),
            70..82 => Op::Delete { blob: self.blob(), unlink_now: self.dice.chance(50) },
            82..90 => Op::Unlink,
            90..93 => Op::Forget(self.blob()),
            93..97 => Op::Restart,
            _ => Op::Copy,
        }
    }

    /// What must stand in every story, in an order of its own.
    fn scenes(&mut self) -> Vec<Vec<Op>> {
        let file = SIZES.len() - 1 - self.dice.below(6);
        let again = || Op::Put(vec![PutStep { blob: file, children: vec![] }]);
        let delete_later = || Op::Delete { blob: file, unlink_now: false };
        let mut scenes = vec![
            self.folder(),
            vec![again(), delete_later(), again(), Op::Unlink],
            vec![again(), delete_later(), Op::Restart, again(), Op::Unlink],
            vec![again(), Op::Delete { blob: file, unlink_now: true }, Op::Unlink, again()],
            vec![self.refs(), Op::Restart, self.refs()],
            vec![self.refs(), Op::Copy, self.refs()],
        ];
        for at in (1..scenes.len()).rev() {
            scenes.swap(at, self.dice.below(at + 1));
        }
        scenes
    }

    /// A parent with many children, named by a ref, replaced and put again.
    fn folder(&mut self) -> Vec<Op> {
        let leaves: Vec<BlobNo> = (SIZES.len()..SIZES.len() + LEAVES).collect();
        let parent = SIZES.len() + LEAVES;
        let bare = |blob: &BlobNo| PutStep { blob: *blob, children: vec![] };
        let whole = || Op::Put(vec![PutStep { blob: parent, children: leaves.clone() }]);
        vec![Op::Put(leaves.iter().map(bare).collect()), whole(), Op::Refs(vec![self.set_to(vec![parent])]), whole()]
    }

    fn blob(&mut self) -> BlobNo {
        self.dice.below(SIZES.len())
    }

    fn some_blobs(&mut self, most: usize) -> Vec<BlobNo> {
        let mut some: Vec<BlobNo> = (0..self.dice.below(most + 1)).map(|_| self.blob()).collect();
        some.sort_unstable();
        some.dedup();
        some
    }

    /// One blob may stand twice in a put, and two equal ones are one.
    fn put(&mut self) -> Op {
        let many = 1 + self.dice.below(3);
        Op::Put((0..many).map(|_| PutStep { blob: self.blob(), children: self.children() }).collect())
    }

    fn children(&mut self) -> Vec<BlobNo> {
        if self.dice.chance(30) { self.some_blobs(3) } else { Vec::new() }
    }

    fn refs(&mut self) -> Op {
        let many = 1 + self.dice.below(3);
        Op::Refs((0..many).map(|_| self.ref_step()).collect())
    }

    fn name(&mut self) -> String {
        format!("lab/{}", ["raw", "sorted", "figures/one", "größe", "z"][self.dice.below(NAMES)])
    }

    fn ref_step(&mut self) -> RefStep {
        match self.dice.below(10) {
            0..7 => {
                let links = self.some_blobs(3);
                self.set_to(links)
            }
            7 | 8 => RefStep::Touch { name: self.name() },
            _ => RefStep::Delete { name: self.name(), rev: self.rev() },
        }
    }

    fn set_to(&mut self, links: Vec<BlobNo>) -> RefStep {
        RefStep::Set {
            name: self.name(),
            links,
            obj_bytes: if self.dice.chance(self.fat_percent) { FAT_BYTES } else { 20 },
            rev: self.rev(),
            ttl_access_ms: self.dice.chance(30).then_some(DAY_MS),
            allow_missing: self.dice.chance(40),
        }
    }

    fn rev(&mut self) -> RevCheck {
        match self.dice.below(20) {
            0 | 1 => RevCheck::Known,
            2 => RevCheck::Wrong,
            3 => RevCheck::Absent,
            _ => RevCheck::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_one_story() {
        let told = |seed| format!("{:?}", Story::draw(seed, Scale::SHORT).ops);
        assert_eq!(told(1), told(1));
        assert_ne!(told(1), told(2));
    }

    #[test]
    fn every_story_copies_restarts_and_puts_again() {
        for seed in 0..10 {
            let story = Story::draw(seed, Scale::SHORT);
            let has = |what: fn(&Op) -> bool| story.ops.iter().any(what);
            assert!(
                has(|op| matches!(op, Op::Copy)) && has(|op| matches!(op, Op::Restart)) && has(|op| matches!(op, Op::Unlink))
            );
            assert!(has(|op| matches!(op, Op::Put(steps) if steps.iter().any(|step| step.children.len() == LEAVES))));
        }
    }
}
