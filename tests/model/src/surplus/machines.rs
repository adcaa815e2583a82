//! The border between the world and the machines of `keepwell_protocol`: what each is told, and where a rule is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use keepwell_protocol::gc::Need;
use keepwell_protocol::gc::attempt::{Attempts, DropFacts};
use keepwell_protocol::gc::permit::Ground;
use keepwell_protocol::gc::question::{Answer, Purpose, Question, Why, Word};
use keepwell_protocol::gc::start::Start;
use keepwell_protocol::gc::witness::{self, Standing};
use keepwell_protocol::id::{B3, BlobFact, BlobId, BootId, EntryHash, NetworkId, NodeId, Nonce, Seq, StorageId};
use keepwell_protocol::log::admit::Applied;
use keepwell_protocol::log::branch::Branches;
use keepwell_protocol::log::compare::contains;
use keepwell_protocol::log::vector::{Chain, Head, Vector};
use keepwell_protocol::place::rank::before;

use super::world::{Copy, Message, Node, World};
use super::{Rule, Surplus, Yields};

const NETWORK: NetworkId = NetworkId([9; 32]);
const BLOB: BlobFact = BlobFact { sha1: BlobId([1; 20]), b3: B3([1; 32]), size_bytes: 1 };

impl Surplus {
    /// What the first `writes` ask for together.
    pub(super) fn need(&self, writes: usize) -> Need {
        let copies = self.copies[..writes].iter().copied().max().unwrap_or(1);
        let liars = u32::from(self.liar.is_some() && self.is_in_force(Rule::LiarMargin));
        Need { copies, liars }
    }

    /// How many permits it takes until no surplus is left. Liars vouch too, so they do not stop the honest from coming so far.
    pub(super) fn surplus(&self) -> usize {
        self.honest().count() - self.need(self.copies.len()).copies as usize
    }

    /// How many disks have vouched to `node`: none twice, and its own not at all.
    pub(super) fn proven_to(&self, node: usize, by: &BTreeSet<usize>) -> u32 {
        let disks: BTreeSet<StorageId> =
            by.iter().map(|by| self.storage(*by)).filter(|disk| *disk != self.storage(node)).collect();
        count(disks.len())
    }

    pub(super) fn flag(&self, attempts: &mut Attempts, node: usize, attempt: u8) {
        attempts.flag(self.nonce(node, attempt), boot_id(node), [(BLOB, 0)]);
    }

    /// Puts the question of an attempt to a node. Whether it says yes.
    pub(super) fn answers_question(&self, world: &mut World, to: usize, from: usize, attempt: u8, seen: u8) -> bool {
        let nonce = self.nonce(from, attempt);
        let asked = question(world, from, nonce, Purpose::Drop, seen);
        self.answers(world, to, from, &asked)
    }

    /// Asks a node to confirm a write to its author. Whether it says yes.
    pub(super) fn confirms(&self, world: &mut World, by: usize, write: usize) -> bool {
        let author = world.written[write].author;
        let asked = question(world, author, Nonce([0; 16]), Purpose::Confirm, byte(write) + 1);
        self.answers(world, by, author, &asked)
    }

    fn answers(&self, world: &mut World, to: usize, from: usize, question: &Question) -> bool {
        let node = &world.nodes[to];
        let persisted = if self.is_in_force(Rule::PersistFirst) { node.known } else { node.applied };
        let Ok(includes) = contains(&Log { world, known: persisted }, &question.seen);
        let inclusion = match question.purpose {
            Purpose::Drop => Rule::AskerIncluded,
            Purpose::Confirm => Rule::WriteIncluded,
        };
        let includes_asker = includes || !self.is_in_force(inclusion);
        let standing = Standing { asker_is_member: true, refuses: self.refuses(node, to), includes_asker };
        let counts = match node.copy {
            Copy::None => false,
            Copy::Unsynced => !self.is_in_force(Rule::DurableOnly),
            Copy::Durable => true,
        };
        let copy = witness::Copy {
            recorded: counts.then_some(BLOB),
            is_whole: true,
            is_live: persisted > 0 || !self.is_in_force(Rule::LiveThere),
            keeps_rather: match self.yields {
                Yields::ByRank => before(&self.storage(to), &self.storage(from), &BLOB.sha1),
                Yields::Always => true,
                Yields::Never => false,
            },
        };
        let attempts = &mut world.nodes[to].attempts;
        let (mut unaware, mut unmoved) = (Attempts::default(), attempts.clone());
        let consulted = match () {
            () if !self.is_in_force(Rule::Flag) => &mut unaware,
            () if !self.is_in_force(Rule::YieldEnds) => &mut unmoved,
            () => attempts,
        };
        let words = question.blobs.iter().map(|asked| witness::answer(asked, question.purpose, &standing, &copy, consulted));
        words.eq([Word::Yes])
    }

    /// A yes arrives.
    pub(super) fn hear(&self, node: &mut Node, to: usize, from: usize, attempt: u8) {
        let under_way = node.attempts.of(&BLOB.sha1).map(|attempt| attempt.nonce);
        let bound_to = under_way.filter(|_| !self.is_in_force(Rule::BoundAnswers));
        node.attempts.hear(&Answer {
            network: NETWORK,
            asker: node_id(to),
            boot: boot_id(to),
            nonce: bound_to.unwrap_or(self.nonce(to, attempt)),
            node: node_id(from),
            storage: self.storage(from),
            words: vec![(BLOB.sha1, Word::Yes)],
        });
    }

    /// Whether the machine permits `node` to delete its copy: then the attempt is over.
    pub(super) fn permits(&self, world: &mut World, number: usize) -> bool {
        let members = self.members();
        let is_pinned = self.is_author(world, number) && self.is_in_force(Rule::AuthorKeeps);
        let node = &world.nodes[number];
        let known = if self.is_in_force(Rule::NeedNow) { node.applied } else { seen_by(world, number, node.begun) };
        let facts = DropFacts {
            boot: &boot_id(number),
            storage: &self.storage(number),
            refuses: self.refuses_to_drop(node, number),
            is_settled: true,
            is_live: node.applied > 0,
            // Left out, so that the rule of which it is the second line can be.
            reached_by: 0,
            is_placed: false,
            is_pinned,
            understands_all: true,
            need: self.need(usize::from(known)),
            members: &members,
        };
        let decided = world.nodes[number].attempts.decide(&BLOB.sha1, &facts);
        decided.is_ok_and(|(permit, _)| permit.blob() == BLOB.sha1 && permit.ground() == Ground::Drop)
    }

    /// Why a node may neither delete nor vouch, if so.
    pub(super) fn refuses(&self, node: &Node, number: usize) -> Option<Why> {
        let hears = node.hears.as_ref().filter(|_| self.is_in_force(Rule::HearFirst))?;
        self.still_refuses(hears, number)
    }

    /// Why a node may not drop, if so.
    fn refuses_to_drop(&self, node: &Node, number: usize) -> Option<Why> {
        let hears = node.hears.as_ref().filter(|_| self.is_in_force(Rule::HearFirst))?;
        match self.is_in_force(Rule::HearAll) {
            true => hears.refuses_to_drop(&self.others(number)),
            false => self.still_refuses(hears, number),
        }
    }

    fn others(&self, number: usize) -> Vec<NodeId> {
        self.honest().filter(|other| *other != number).map(node_id).collect()
    }

    /// Notes an exchange. When there is none left to wait for, the rollback is over.
    pub(super) fn hear_from(&self, node: &mut Node, number: usize, with: usize) {
        let Some(mut hears) = node.hears.take() else { return };
        hears.exchanged(node_id(with));
        node.hears = hears.refuses_to_drop(&self.others(number)).map(|_| hears);
    }

    fn still_refuses(&self, hears: &Start, number: usize) -> Option<Why> {
        let in_reach = self.honest().filter(|other| *other != number && self.out_of_reach != Some(*other));
        hears.refuses(&in_reach.map(node_id).collect::<Vec<NodeId>>())
    }

    fn members(&self) -> BTreeMap<NodeId, StorageId> {
        (0..self.disks.len()).map(|node| (node_id(node), self.storage(node))).collect()
    }

    fn storage(&self, node: usize) -> StorageId {
        let disk = if self.is_in_force(Rule::DiskOnce) { self.disks[node] } else { byte(node) };
        StorageId([disk; 16])
    }

    fn nonce(&self, node: usize, attempt: u8) -> Nonce {
        let mut nonce = [byte(node) + 1; 16];
        nonce[0] = if self.is_in_force(Rule::FreshNonces) { attempt } else { 0 };
        Nonce(nonce)
    }
}

/// How many writes a node knew when it asked last.
fn seen_by(world: &World, node: usize, begun: u8) -> u8 {
    let of_last = |message: &Message| match *message {
        Message::Question { from, attempt, seen } => (from == node && attempt + 1 == begun).then_some(seen),
        Message::Yes { .. } => None,
    };
    world.network.iter().find_map(of_last).unwrap_or(0)
}

fn question(world: &World, from: usize, nonce: Nonce, purpose: Purpose, seen: u8) -> Question {
    let seen = Vector(positions(world, seen).collect());
    Question { nonce, boot: boot_id(from), purpose, seen, blobs: vec![BLOB] }
}

/// A node's log: the first `known` writes.
struct Log<'w> {
    world: &'w World,
    known: u8,
}

impl Applied for Log<'_> {
    type Error = Infallible;

    fn head_at(&self, chain: &Chain, seq: Seq) -> Result<Option<Head>, Infallible> {
        let mut known = positions(self.world, self.known);
        Ok(known.find(|(of, head)| of == chain && head.seq == seq).map(|(_, head)| head))
    }

    fn branches(&self, _: &NodeId) -> Result<Branches, Infallible> {
        Ok(Branches::default())
    }

    fn forked_after(&self, _: &Chain, _: Seq, _: Option<&EntryHash>) -> Result<bool, Infallible> {
        Ok(false)
    }
}

/// The entries of the first `known` writes, each in its author's chain.
fn positions(world: &World, known: u8) -> impl Iterator<Item = (Chain, Head)> {
    let known = &world.written[..usize::from(known)];
    known.iter().enumerate().map(|(number, write)| {
        let before = known[..number].iter().filter(|earlier| earlier.author == write.author).count();
        let chain = Chain { node: node_id(write.author), boot: boot_id(write.author) };
        (chain, Head { seq: Seq(u64::from(byte(before)) + 1), hash: EntryHash([byte(number) + 1; 32]) })
    })
}

fn node_id(node: usize) -> NodeId {
    NodeId([byte(node) + 1; 32])
}

fn boot_id(node: usize) -> BootId {
    BootId([byte(node) + 1; 16])
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}
