//! One member that lies: it vouches for what it does not hold, tells different members different things at one position of its log, or
//! floods everybody. It has the last node's key and a process that replicates as any other, so that all else looks honest. Its own state
//! is not checked; that of the others is.

use keepwell_protocol::catalog::change::{Change, Write};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::gc::question::{Answer, Question, Word};
use keepwell_protocol::id::{BootId, EntryHash, Seq, StorageId};
use keepwell_protocol::limits::{MAX_MESSAGE_BYTES, MAX_WAITING_ENTRIES};
use keepwell_protocol::log::entry::Draft;
use keepwell_protocol::log::exchange::{Message, Want};
use keepwell_protocol::log::op::{Boot, Op};
use keepwell_protocol::log::vector::{Chain, Head, Vector};
use rand_chacha::rand_core::Rng;

use super::node::SimNode;
use super::{Happening, Violation, World};

/// Milliseconds between two evil deeds, at most. A fork costs everybody a replay of the log.
const EVIL_WITHIN_MS: u64 = 3_000;
const FORK_WITHIN_MS: u64 = 15_000;
/// After how long most members know what an entry builds on, in milliseconds: one that must wait for that is overtaken by the other.
const KNOWN_AFTER_MS: u64 = 6_000;
/// How long a member that broke the protocol is left alone, in milliseconds.
const CUT_OFF_MS: u64 = 1_000;
/// Messages of one flood.
const FLOOD: usize = 120;
/// Entries in one message of a flood: in two, more than anybody keeps waiting.
const ORPHANS: usize = 600;

/// What the last node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hostile {
    /// It says of all copies that it keeps them, and gives none of them to anybody.
    Liar,
    /// It signs two entries for one position, and shows them to different members.
    Equivocator,
    /// It sends many entries whose past never comes, garbage, and questions without end.
    Flooder,
}

impl World {
    /// The number of the hostile node, if there is one.
    pub(super) fn hostile(&self) -> Option<usize> {
        self.plan.hostile.map(|_| self.plan.nodes - 1)
    }

    pub(super) fn is_hostile(&self, node: usize) -> bool {
        self.hostile() == Some(node)
    }

    /// All nodes that are checked in the end, with their numbers.
    pub(super) fn honest(&self) -> impl Iterator<Item = (usize, &SimNode)> {
        self.nodes.iter().enumerate().filter(|(at, _)| !self.is_hostile(*at) && !self.is_removed(*at) && !self.is_stopped(*at))
    }

    /// All nodes whose copies count, with their numbers: those of a liar do not, nor of who was removed.
    pub(super) fn keepers(&self) -> impl Iterator<Item = (usize, &SimNode)> {
        self.nodes.iter().enumerate().filter(|(at, _)| self.counts_as_keeper(*at))
    }

    pub(super) fn counts_as_keeper(&self, node: usize) -> bool {
        let lies = self.has_liar() && self.is_hostile(node);
        !lies && !self.is_removed(node) && !self.is_stopped(node)
    }

    pub(super) fn has_liar(&self) -> bool {
        self.plan.hostile == Some(Hostile::Liar)
    }

    /// By how many fewer copies than asked for a drop may leave: that of a liar is none, unless the others leave a margin for it.
    pub(super) fn lied_copies(&self) -> u32 {
        u32::from(self.has_liar()).saturating_sub(self.plan.liars)
    }

    /// The last node does something evil, and will again until peace is made.
    pub(super) fn do_evil(&mut self) -> Result<(), Violation> {
        let within_ms = if self.plan.hostile == Some(Hostile::Equivocator) { FORK_WITHIN_MS } else { EVIL_WITHIN_MS };
        let next_ms = 1 + self.draw(within_ms);
        self.after(next_ms, Happening::Evil);
        let Some(node) = self.hostile().filter(|node| self.nodes[*node].is_running()) else { return Ok(()) };
        match self.plan.hostile {
            Some(Hostile::Equivocator) => self.equivocate(node),
            Some(Hostile::Flooder) => self.flood(node),
            Some(Hostile::Liar) | None => {}
        }
        self.check_bounds()
    }

    /// Whether a message is dealt with by the liar itself: it says yes to every question, under its own storage and under others.
    pub(super) fn is_lied_about(&mut self, from: usize, to: usize, bytes: &[u8]) -> bool {
        if !self.has_liar() || !self.is_hostile(to) {
            return false;
        }
        let Ok(Message::Question(question)) = Message::decode(bytes) else { return false };
        let own = self.nodes[to].engine().map(|engine| engine.home().storage);
        let made_up = StorageId(self.draw_bytes());
        for storage in own.into_iter().chain([made_up]).chain(own) {
            let answer = self.lie(to, from, &question, storage);
            self.send_bytes(to, from, answer);
        }
        self.summary.lies += 1;
        true
    }

    fn lie(&self, liar: usize, asker: usize, question: &Question, storage: StorageId) -> Vec<u8> {
        let (liar, asker) = (&self.nodes[liar], &self.nodes[asker]);
        let answer = Answer {
            network: self.network_id(),
            asker: asker.id(),
            boot: question.boot,
            nonce: question.nonce,
            node: liar.id(),
            storage,
            words: question.blobs.iter().map(|fact| (fact.sha1, Word::Yes)).collect(),
        };
        Message::Answer(answer.sign(liar.key())).encode()
    }

    /// Under a boot of its own, some members hear that a ref was set or deleted, and the others hear something else of it.
    fn equivocate(&mut self, node: usize) {
        let item = Item::reference(self.a_name().as_ref());
        let (nonce, other_text) = (self.draw_bytes(), self.draw(100));
        let Some(engine) = self.nodes[node].engine() else { return };
        let Ok(snapshot) = engine.store().snapshot() else { return };
        let (Ok(row), Ok(state), Ok(known)) = (snapshot.item(&item), snapshot.doc(item.shard(), 0), snapshot.vector()) else {
            return;
        };
        let chain = Chain { node: self.nodes[node].id(), boot: BootId::of(&self.nodes[node].id(), &nonce) };
        let storage = engine.home().storage;
        let empty = keepwell_protocol::catalog::reference::RefBody {
            obj: format!("{other_text}"),
            meta: "{}".to_owned(),
            links: Vec::new(),
            expires_ms: None,
            ttl_access_ms: None,
            copies: 1,
            lot: None,
            set_at_ms: self.now_ms,
            unbacked: false,
        };
        let variants = [
            Write { item: item.clone(), replaces: row.ids(), body: None },
            Write { item: item.clone(), replaces: Vec::new(), body: Some(empty.encode()) },
        ];
        let entries = variants.map(|write| {
            let change = Change::next(item.shard(), 0, &chain.boot, &state, None, vec![write]);
            let ops = vec![Op::Boot(Boot { storage, nonce }), Op::Change(change)];
            self.forge(node, chain, Seq::FIRST, None, &known, ops)
        });
        self.summary.equivocations += 1;
        for to in 0..self.nodes.len() - 1 {
            let which = usize::try_from(self.draw(2)).unwrap_or(0);
            let bytes = Message::Entries { entries: vec![entries[which].clone()], more: false }.encode();
            self.after(KNOWN_AFTER_MS, Happening::Deliver { from: node, to, bytes });
        }
    }

    /// What costs its receiver memory or work, or breaks the protocol.
    fn flood(&mut self, node: usize) {
        let to = self.some_node();
        let known =
            self.nodes[node].engine().and_then(|engine| engine.store().snapshot().ok()?.vector().ok()).unwrap_or_default();
        let all_wanted = || known.0.keys().map(|chain| Want { chain: *chain, after: 0 }).collect::<Vec<_>>();
        let messages: Vec<Vec<u8>> = match self.draw(5) {
            0 => vec![vec![7; 100], vec![1; MAX_MESSAGE_BYTES + 1]],
            1 => vec![Message::Pull(all_wanted()).encode(); FLOOD / 10],
            2 => vec![Message::Clock { now_ms: self.rng.next_u64() }.encode(); FLOOD],
            3 => {
                let question = Question {
                    nonce: keepwell_protocol::id::Nonce(self.draw_bytes()),
                    boot: BootId(self.draw_bytes()),
                    purpose: keepwell_protocol::gc::question::Purpose::Drop,
                    seen: known,
                    blobs: self.oracle.held.iter().map(|(_, fact)| *fact).take(50).collect(),
                };
                vec![Message::Question(question).encode(); FLOOD]
            }
            _ => (0..2).map(|_| self.orphans(node)).collect(),
        };
        self.summary.floods += 1;
        messages.into_iter().for_each(|bytes| self.send_bytes(node, to, bytes));
    }

    /// Entries whose predecessors nobody has.
    fn orphans(&mut self, node: usize) -> Vec<u8> {
        let mut entries = Vec::with_capacity(ORPHANS);
        for _ in 0..ORPHANS {
            let nonce = self.draw_bytes();
            let chain = Chain { node: self.nodes[node].id(), boot: BootId::of(&self.nodes[node].id(), &nonce) };
            let (seq, before) = (Seq(2 + u64::from(nonce[1])), EntryHash([nonce[0]; 32]));
            entries.push(self.forge(node, chain, seq, Some(before), &Vector::default(), Vec::new()));
        }
        Message::Entries { entries, more: false }.encode()
    }

    fn forge(&self, node: usize, chain: Chain, seq: Seq, before: Option<EntryHash>, known: &Vector, ops: Vec<Op>) -> Vec<u8> {
        let deps: Vec<(Chain, Head)> = known.0.iter().map(|(chain, head)| (*chain, *head)).collect();
        Draft { network: self.network_id(), chain, seq, prev_hash: before, deps, ops }.seal(self.nodes[node].key())
    }

    /// Whoever floods, what waits for its past stays within its limit.
    fn check_bounds(&self) -> Result<(), Violation> {
        for (node, sim) in self.honest() {
            let waiting = sim.engine().map_or(0, |engine| engine.waiting_entries());
            if waiting > MAX_WAITING_ENTRIES {
                return Err(self.violation(format!("node {node} keeps {waiting} entries that wait for others")));
            }
        }
        Ok(())
    }

    /// The hostile node has broken the protocol: its connection ends, and it comes again.
    pub(super) fn shut_out(&mut self, node: usize, hostile: usize) -> Result<(), Violation> {
        self.summary.refusals += 1;
        self.disconnect(node, hostile)?;
        self.after(CUT_OFF_MS, Happening::Connect(node, hostile));
        Ok(())
    }

    fn draw_bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}
