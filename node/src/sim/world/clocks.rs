//! Clocks in the world: each node has one of its own, which somebody may set; and what ends by them. A checker holds every mark to the
//! deadlines of the values that were written, and to what its author could know of the time.

use std::collections::BTreeMap;

use keepwell_protocol::catalog::change::Write;
use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::id::{BlobId, ValueId};
use keepwell_protocol::limits::{CLOCK_HEARD_FOR_MS, MARK_TURN_MS, MAX_CLOCK_SKEW_MS};
use keepwell_protocol::log::entry::Entry;
use keepwell_protocol::log::exchange::Message;
use keepwell_protocol::log::op::Op;
use keepwell_protocol::wire;
use keepwell_store::error::StoreError;
use keepwell_store::store::Snapshot;

use super::{EPOCH_MS, Violation, World};
use crate::engine::closure;

/// How long all machines had run when simulated time began, in milliseconds.
const RAN_MS: u64 = 1_000_000_000;
const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1_000;
/// The most that a clock is off which is set a little wrong, in milliseconds: less than what is doubted.
const A_LITTLE_MS: u64 = 9 * 60 * 1_000;
/// How far a clock may seem to be off of which only an old message is known, in milliseconds.
const SEEMS_MS: u64 = 60_000;
/// How long after its time a value is gone everywhere when nothing goes wrong, in milliseconds.
const GONE_WITHIN_MS: u64 = MARK_TURN_MS;

/// What the world knows of clocks and of what ends by them.
#[derive(Default)]
pub(super) struct Clocks {
    /// By how much the clock of each node is ahead of true time, in milliseconds.
    ahead_ms: BTreeMap<usize, i64>,
    /// What each running process was told of another's clock: when, and by how much that was ahead.
    heard: BTreeMap<(usize, usize), (u64, i64)>,
    /// The deadlines of all values of refs, as far as their entries were gossiped.
    deadlines: BTreeMap<ValueId, Option<u64>>,
    /// Marks that were written.
    pub(super) marks: u64,
    /// Those of them whose value had time left, by less than what is doubted.
    pub(super) early_marks: u64,
}

impl World {
    /// What the clock of a node shows now.
    pub(super) fn clock_of(&self, node: usize) -> u64 {
        self.now_ms.saturating_add_signed(self.clocks.ahead_ms.get(&node).copied().unwrap_or_default())
    }

    /// How long a node's machine has run.
    pub(super) fn ran_ms(&self) -> u64 {
        RAN_MS + (self.now_ms - EPOCH_MS)
    }

    /// Somebody sets a clock: by years, a little wrong, or right. That of the first node is never far off.
    pub(super) fn set_clock(&mut self, node: usize) {
        let years = YEAR_MS * i64::try_from(1 + self.draw(3)).unwrap_or(1);
        let little = i64::try_from(self.draw(2 * A_LITTLE_MS)).unwrap_or(0) - A_LITTLE_MS as i64;
        let ahead_ms = match self.draw(5) {
            0 if node > 0 => years,
            1 if node > 0 => -years,
            2 | 3 => little,
            _ => 0,
        };
        self.trace.note(self.now_ms - EPOCH_MS, format!("the clock of node {node} is {ahead_ms} ms ahead"), &[]);
        self.clocks.ahead_ms.insert(node, ahead_ms);
    }

    /// All clocks are right.
    pub(super) fn set_clocks_right(&mut self) {
        self.clocks.ahead_ms.clear();
    }

    /// A new process has heard nothing yet.
    pub(super) fn forget_heard_clocks(&mut self, node: usize) {
        self.clocks.heard.retain(|(hearer, _), _| *hearer != node);
    }

    /// Notes what a message that arrives at `to` says of its sender's clock.
    pub(super) fn note_clock(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if let Ok(Message::Clock { now_ms }) = Message::decode(bytes)
            && self.nodes[to].is_running()
        {
            let ahead_ms = i64::try_from(i128::from(now_ms) - i128::from(self.now_ms)).unwrap_or(i64::MAX);
            self.clocks.heard.insert((to, from), (self.now_ms, ahead_ms));
        }
    }

    /// Looks at an entry that a node has just written, by itself or because somebody asked for a write.
    pub(super) fn look_at_written(&mut self, node: usize, bytes: &[u8], by_itself: bool) -> Result<(), Violation> {
        let entry =
            Entry::reopen(bytes).map_err(|error| self.violation(format!("node {node} wrote what nobody reads: {error}")))?;
        let mut id = ValueId { boot: entry.chain.boot, seq: entry.head.seq, index: 0 };
        for op in &entry.ops {
            if let Op::Change(change) = op {
                for (write, index) in change.writes.iter().zip(id.index..) {
                    self.look_at_write(node, ValueId { index, ..id }, write, by_itself)?;
                }
            }
            id.index += op.ids();
        }
        Ok(())
    }

    fn look_at_write(&mut self, node: usize, id: ValueId, write: &Write, by_itself: bool) -> Result<(), Violation> {
        if write.item.kind != Kind::REF {
            return Ok(());
        }
        if let Some(body) = &write.body {
            let body: RefBody = wire::decode_own(body).map_err(|error| self.violation(error.to_string()))?;
            // On a disk that was put back an id is given twice: either value may be meant.
            let known = self.clocks.deadlines.entry(id).or_default();
            *known = known.iter().copied().chain(body.expires_ms).min();
            return self.judge(node, |world| world.check_own_copy(node, &body));
        }
        if !by_itself {
            return Ok(());
        }
        self.clocks.marks += 1;
        let told = |broken: &str| format!("S25: node {node} ended {} by {id}: {broken}", write.item.key);
        let [value] = write.replaces.as_slice() else {
            return Err(self.violation(told("a mark names one value")));
        };
        // What stands on a branch has another name there.
        let Some(deadline) = self.clocks.deadlines.get(value) else { return Ok(()) };
        match deadline {
            None => Err(self.violation(told("the value has no deadline"))),
            Some(deadline_ms) if *deadline_ms > self.clock_of(node) => Err(self.violation(told("its time has not come"))),
            Some(deadline_ms) if *deadline_ms > self.now_ms => {
                let early_ms = *deadline_ms - self.now_ms;
                self.clocks.early_marks += 1;
                match early_ms > MAX_CLOCK_SKEW_MS + SEEMS_MS && self.knows_better(node) {
                    true => Err(self.violation(told("its clock is wrong, and most that it hears are right"))),
                    false => Ok(()),
                }
            }
            Some(_) => Ok(()),
        }
    }

    /// S10: who has just written a backed value holds all that it reaches.
    fn check_own_copy(&self, node: usize, body: &RefBody) -> Result<(), String> {
        let Some(engine) = self.nodes[node].engine().filter(|_| !body.unbacked) else { return Ok(()) };
        let text = |error: StoreError| error.to_string();
        let roots: Vec<BlobId> = body.links.iter().map(|link| link.sha1).collect();
        match closure::missing(&*engine.store().snapshot().map_err(text)?, &roots, 1).map_err(text)?.first() {
            Some(id) => Err(format!("S10: a value was written that reaches blob {id}, which is not held")),
            None => Ok(()),
        }
    }

    /// Whether a node whose clock is wrong has lately heard more clocks that are right than there are wrong ones, its own among them.
    fn knows_better(&self, node: usize) -> bool {
        let of_node = self.clocks.heard.iter().filter(|((hearer, _), _)| *hearer == node).map(|(_, heard)| heard);
        let (mut right, mut wrong) = (0, 1);
        for (at_ms, ahead_ms) in of_node {
            let age_ms = self.now_ms - at_ms;
            // On the edge of what counts, what is good for the node is believed.
            if ahead_ms.unsigned_abs() <= SEEMS_MS && age_ms <= CLOCK_HEARD_FOR_MS {
                right += 1;
            } else if ahead_ms.unsigned_abs() > SEEMS_MS && age_ms <= CLOCK_HEARD_FOR_MS + SEEMS_MS {
                wrong += 1;
            }
        }
        right > wrong
    }

    /// S25: in the end, whatever has had its time is gone, and what it left is being collected or has been.
    pub(super) fn check_ended(&self, snapshot: &Snapshot) -> Result<(), String> {
        let mut late = None;
        let visited = snapshot.visit_items::<StoreError>(Kind::REF, "", |name, row| {
            for body in row.values().iter().filter_map(|value| RefBody::of(value).ok()) {
                if body.expires_ms.is_some_and(|expires_ms| expires_ms.saturating_add(GONE_WITHIN_MS) <= self.now_ms) {
                    late = Some(name.to_owned());
                }
            }
            Ok(late.is_none())
        });
        visited.map_err(|error| error.to_string())?;
        let unneeded = snapshot.unneeded_count().map_err(|error| error.to_string())?;
        if unneeded > 0 {
            return Err(format!("{unneeded} blobs that nothing needs have not been collected"));
        }
        late.map_or(Ok(()), |name| Err(format!("S25: the time of a value of {name} is over, and it is there")))
    }
}
