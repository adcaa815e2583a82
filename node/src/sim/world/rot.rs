//! Bits that flip in the files of blobs, and scrubs that find them. What was lost by a flip itself is no broken promise: the checkers must
//! know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use keepwell_protocol::gc::question::Word;
use keepwell_protocol::id::{BlobFact, BlobId, LeaseId, NodeId};
use keepwell_protocol::log::exchange::Message;
use keepwell_store::audit::Note;
use keepwell_store::blobs::BlobRecord;
use keepwell_store::fsck::Depth;
use keepwell_store::ingest::IngestId;
use keepwell_store::leases::Lease;
use keepwell_store::store::{Snapshot, Store};
use keepwell_store::trash::Retrieved;

use super::node::SimNode;
use super::workload::LARGE_BYTES;
use super::{Happening, Violation, World};
use crate::engine::{
    Collect, Collected, Confirmed, Dropped, Effect, Input, LeaseOp, LeaseUse, PutBlob, PutOutcome, RefOp, RefOutcome, Reply,
    RequestId, Settings,
};
use crate::failure::{Code, Failure};
use crate::limits::DROP_TIMEOUT_MS;
use crate::service::{Node, scrub};

/// The longest between two scrubs of a node, in milliseconds.
const SCRUB_EVERY_MS: u64 = 15_000;
/// How soon others are to give up what has rotten somewhere, in milliseconds.
const SOON_MS: u64 = 4_000;
/// How long somebody may go by what a node said of a copy before it rotted, in milliseconds: a round of questions, and their way.
const BELIEVED_MS: u64 = DROP_TIMEOUT_MS + 5_000;

/// The copies in which a bit has flipped since they were put, and when; some have been put anew since.
pub(super) type Flipped = BTreeMap<(usize, BlobId), u64>;

impl World {
    /// A bit flips in the file of some blob that a node holds.
    pub(super) fn flip_a_bit(&mut self, node: usize) {
        let in_files = self.oracle.held.iter().filter(|(holder, fact)| *holder == node && fact.size_bytes >= LARGE_BYTES as u64);
        let in_files: Vec<BlobId> = in_files.map(|(_, fact)| fact.sha1).collect();
        let (which, offset) = (self.draw(in_files.len() as u64), self.draw(LARGE_BYTES as u64));
        let Some(id) = usize::try_from(which).ok().and_then(|at| in_files.get(at)).copied() else { return };
        // Of a node that is down it is not known whether it holds what it may.
        if self.nodes[node].is_running() && self.nodes[node].flip_bit(&id, offset) {
            self.note(format!("a bit of blob {id} flips on node {node}"));
            self.summary.flips += 1;
            self.oracle.flipped.insert((node, id), self.now_ms);
            self.note_loss_by_flips(&id);
            // Whoever else has a copy is asked for it soon: before a scrub finds what has rotten.
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                let soon_ms = 1 + self.draw(SOON_MS);
                self.after(soon_ms, Happening::Give(other, Input::Drop { request: RequestId(7), blobs: vec![id] }));
            }
        }
    }

    /// When the last good copy of what has rotten elsewhere is gone, it was lost by the flip, and nobody is to blame.
    pub(super) fn note_loss_by_flips(&mut self, id: &BlobId) {
        let has_flipped = self.oracle.flipped.keys().any(|(_, flipped)| flipped == id);
        if has_flipped && !self.is_kept_by_some(id) {
            self.oracle.lost.insert(*id);
        }
    }

    /// Whether any node has a good copy. One that is down has what it has acknowledged.
    pub(super) fn is_kept_by_some(&self, id: &BlobId) -> bool {
        let is_held = |(at, node): (usize, &SimNode)| match node.engine() {
            Some(_) => self.node_holds_good(at, id),
            None => self.oracle.held.iter().any(|(holder, fact)| *holder == at && fact.sha1 == *id),
        };
        self.keepers().any(is_held)
    }

    /// How many nodes have a good copy, other than `but` and by what it knows. Of one that is down, or cannot be asked, it is believed that it holds what it may.
    pub(super) fn good_copies(&self, id: &BlobId, but: usize) -> u32 {
        let others = self.keepers_as_known_to(but).filter(|(at, _)| *at != but && self.node_holds_good(*at, id));
        // Two of one key are one disk to everybody.
        let distinct: BTreeSet<NodeId> = others.map(|(_, node)| node.id()).collect();
        u32::try_from(distinct.len()).unwrap_or(u32::MAX)
    }

    fn holds_good(&self, node: usize, snapshot: &Snapshot, id: &BlobId) -> bool {
        let Ok(Some(record)) = snapshot.blob(id) else { return false };
        !self.oracle.flipped.contains_key(&(node, *id)) || self.is_good(node, snapshot, id, &record)
    }

    fn is_good(&self, node: usize, snapshot: &Snapshot, id: &BlobId, record: &BlobRecord) -> bool {
        let store = self.nodes[node].engine().map(|engine| engine.store());
        store.is_some_and(|store| matches!(store.check_blob(snapshot, id, record, Depth::Full), Ok(None)))
    }

    /// How many copies have rotten so lately that somebody may still go by what was said of them before.
    pub(super) fn rotten_lately(&self, id: &BlobId, but: usize) -> u32 {
        let lately = self.oracle.flipped.iter().filter(|((node, flipped), at_ms)| {
            *node != but && flipped == id && self.now_ms - **at_ms <= BELIEVED_MS && !self.node_holds_good(*node, id)
        });
        u32::try_from(lately.count()).unwrap_or(u32::MAX)
    }

    fn node_holds_good(&self, node: usize, id: &BlobId) -> bool {
        match self.nodes[node].engine().map(|engine| engine.store().snapshot()) {
            Some(Ok(snapshot)) => self.holds_good(node, &snapshot, id),
            _ => true,
        }
    }

    /// S26: a copy that has rotten is not vouched for: whoever answers has looked at it just now.
    pub(super) fn check_answer(&self, node: usize, message: &[u8]) -> Result<(), String> {
        if self.oracle.flipped.is_empty() {
            return Ok(());
        }
        let Ok(Message::Answer(answer)) = Message::decode(message) else { return Ok(()) };
        for (id, word) in &answer.claimed().words {
            if *word == Word::Yes && !self.node_holds_good(node, id) {
                return Err(format!("S26: blob {id} has rotten, and is vouched for"));
            }
        }
        Ok(())
    }

    /// A node reads all that it holds, as its daemon does now and then.
    pub(super) fn scrub(&mut self, node: usize) -> Result<(), Violation> {
        let next_ms = 1 + self.draw(SCRUB_EVERY_MS);
        self.after(next_ms, Happening::Scrub(node));
        if !self.nodes[node].is_running() || self.paused.contains_key(&node) {
            return Ok(());
        }
        let (now_ms, boot_ms) = (self.clock_of(node), self.ran_ms());
        let connected: Vec<NodeId> = self.network.peers_of(node).map(|peer| self.nodes[peer].id()).collect();
        let Some(store) = self.nodes[node].engine().map(|engine| Arc::clone(engine.store())) else { return Ok(()) };
        let hands = Mutex::new(Hands { node: &mut self.nodes[node], effects: Vec::new(), forgotten: Vec::new() });
        let scrubbed = Scrubbed { store, now_ms, boot_ms, connected, hands };
        let done = scrub::portion(&scrubbed, &mut |_| Ok(()));
        let Hands { effects, forgotten, .. } = scrubbed.hands.into_inner().unwrap_or_else(PoisonError::into_inner);
        for fact in forgotten {
            self.summary.rot_found += 1;
            self.oracle.held.remove(&(node, fact));
            if !self.oracle.flipped.contains_key(&(node, fact.sha1)) {
                return Err(self.violation(format!("S26: node {node} gives up blob {}, which has not rotten", fact.sha1)));
            }
        }
        self.carry_out(node, effects)?;
        match done {
            Ok(_) => Ok(()),
            Err(failure) => self.step_failed(node, &failure.to_string().into()),
        }
    }
}

/// A node that is being scrubbed: its engine is given what is to be forgotten, and nothing else.
struct Scrubbed<'a> {
    store: Arc<Store>,
    now_ms: u64,
    boot_ms: u64,
    connected: Vec<NodeId>,
    hands: Mutex<Hands<'a>>,
}

struct Hands<'a> {
    node: &'a mut SimNode,
    effects: Vec<Effect>,
    forgotten: Vec<BlobFact>,
}

impl Scrubbed<'_> {
    fn give(&self, input: Input) -> Result<Option<Reply>, Failure> {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let stepped = hands.node.step(self.now_ms, self.boot_ms, self.connected.iter().copied(), input);
        let mut answer = None;
        for effect in stepped.map_err(|error| Failure::new(Code::Internal, error.to_string()))? {
            match effect {
                Effect::Reply(_, reply) => answer = Some(reply),
                other => hands.effects.push(other),
            }
        }
        Ok(answer)
    }
}

fn never<T>() -> Result<T, Failure> {
    Err(Failure::new(Code::Internal, "a scrub does not ask for this"))
}

impl Node for Scrubbed<'_> {
    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }

    fn new_ingest(&self) -> IngestId {
        IngestId([0; 16])
    }

    fn put(&self, _: Vec<PutBlob>, _: Option<LeaseUse>) -> Result<Vec<PutOutcome>, Failure> {
        never()
    }

    fn lease(&self, _: LeaseOp) -> Result<(LeaseId, Lease), Failure> {
        never()
    }

    fn write_refs(&self, _: Vec<RefOp>) -> Result<Vec<RefOutcome>, Failure> {
        never()
    }

    fn collect(&self, _: Collect) -> Result<Collected, Failure> {
        never()
    }

    fn drop_copies(&self, _: Vec<BlobId>, _: Option<NodeId>) -> Result<Dropped, Failure> {
        never()
    }

    fn give_up(&self, _: Vec<BlobId>, _: String) -> Result<Dropped, Failure> {
        never()
    }

    fn confirm(&self, _: Vec<BlobId>) -> Result<Confirmed, Failure> {
        never()
    }

    fn restore(&self, _: Retrieved) -> Result<Option<BlobFact>, Failure> {
        never()
    }

    fn declare(&self, _: NodeId, _: bool) -> Result<(), Failure> {
        never()
    }

    fn remove(&self, _: NodeId) -> Result<(), Failure> {
        never()
    }

    fn forget(&self, blob: BlobId, record: &BlobRecord, why: &str) -> Result<Option<BlobFact>, Failure> {
        match self.give(Input::Forget { request: RequestId(1), blob, record: *record, why: why.to_owned() })? {
            Some(Reply::Gone(gone)) => {
                self.hands.lock().unwrap_or_else(PoisonError::into_inner).forgotten.extend(gone);
                Ok(gone)
            }
            _ => never(),
        }
    }

    fn distrust_index(&self, _: &str) -> Result<(), Failure> {
        never()
    }

    fn is_index_damaged(&self) -> bool {
        false
    }

    fn note(&self, note: Note) -> Result<(), Failure> {
        self.give(Input::Note { request: RequestId(1), note }).map(drop)
    }
}
