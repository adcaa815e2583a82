//! What can happen, and what comes of it, apart from deletions: writing, pulling, acknowledging, fetching, crashes and rollbacks.

use super::Catalog;
use super::leaving::Word;
use super::rules::Broken;
use super::world::{CHILD, Entry, NODES, Node, PER_NODE, ROOT, Slots, World, author, byte, others};

/// One step. Nodes and blobs are meant by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// A node writes a value beside those that there are.
    Add(usize),
    /// A node writes a value that replaces those that it knows.
    Touch(usize),
    /// A node deletes the values that it knows.
    Delete(usize),
    /// A node writes the link fact.
    Fact(usize),
    /// A node removes the link facts that it knows.
    RemoveFacts(usize),
    /// What a node has applied gets to its disk. Only where R8 is broken.
    Sync(usize),
    /// The first pulls all that the second has.
    Pull(usize, usize),
    /// One entry, the last, of the second reaches the first, which has all that it builds on.
    PullOne(usize, usize, usize),
    /// The first sends the second its acknowledgement.
    Acknowledge(usize, usize),
    /// The first hears the acknowledgement of the second: its present one, or the one that is under way.
    Hear(usize, usize),
    /// A node purges a blob.
    Purge(usize, usize),
    /// A node flags a blob in order to drop it.
    Flag(usize, usize),
    /// The first asks the second about a blob, and is answered.
    Ask(usize, usize, usize),
    /// A node drops a blob.
    Drop(usize, usize),
    /// The first fetches a blob, the last, from the second.
    Fetch(usize, usize, usize),
    /// A node promises the first one to keep what that one lacks. Only with co-pins.
    Promise(usize),
    /// A node says something of a member.
    Say(usize, Word),
    /// The first takes the second for absent.
    FallSilent(usize, usize),
    /// A node crashes and starts.
    Crash(usize),
    /// A node starts from its disk of long ago.
    Rollback(usize),
}

impl Catalog {
    /// All that `node` might do, possible or not.
    pub(super) fn moves_of(&self, world: &World, node: usize, moves: &mut Vec<Move>) {
        let is_first = self.writers & ((1 << node) - 1) == 0;
        match self.writers & 1 << node != 0 {
            true if !self.shares => moves.extend([Move::Add(node), Move::Touch(node), Move::Delete(node)]),
            true => moves.push(if is_first { Move::Add(node) } else { Move::Delete(node) }),
            false => {}
        }
        if self.linkers & 1 << node != 0 {
            moves.extend([Move::Fact(node), Move::RemoveFacts(node)]);
        }
        moves.extend([Move::Sync(node), Move::Crash(node), Move::Rollback(node)]);
        moves.extend(self.words_of(node).map(|word| Move::Say(node, word)));
        for other in others(node) {
            moves.extend([Move::Pull(node, other), Move::Hear(node, other), Move::FallSilent(node, other)]);
            if self.by_entry {
                let news = world.nodes[other].applied() & !world.nodes[node].applied();
                moves.extend(world.entries_in(news).map(|(slot, _)| Move::PullOne(node, other, slot)));
            }
            if self.by_message {
                moves.push(Move::Acknowledge(node, other));
            }
        }
        if self.co_pins && node != 0 {
            moves.push(Move::Promise(node));
        }
        for blob in [ROOT, CHILD] {
            if world.nodes[node].has() & 1 << blob != 0 {
                moves.push(Move::Purge(node, blob));
                if self.droppers & 1 << node != 0 {
                    moves.extend([Move::Flag(node, blob), Move::Drop(node, blob)]);
                    moves.extend(others(node).map(|other| Move::Ask(node, other, blob)));
                }
            } else {
                moves.extend(others(node).map(|other| Move::Fetch(node, other, blob)));
            }
        }
    }

    /// What `step` changes; none if it cannot happen now.
    pub(super) fn step(&self, world: &mut World, step: Move) -> Option<()> {
        match step {
            Move::Add(node)
            | Move::Touch(node)
            | Move::Delete(node)
            | Move::Fact(node)
            | Move::RemoveFacts(node)
            | Move::Say(node, _) => {
                let entry = self.draft(world, node, step)?;
                self.write(world, node, entry)
            }
            Move::Sync(node) => sync(&mut world.nodes[node]),
            Move::Pull(node, from) => self.pull(world, node, from),
            Move::PullOne(node, _, slot) => self.pull_one(world, node, slot),
            Move::Acknowledge(node, to) => {
                world.flight[node][to] = Some(world.nodes[node].applied());
                Some(())
            }
            Move::Hear(node, of) => self.hear(world, node, of),
            Move::Fetch(node, from, blob) => self.fetch(world, node, from, blob),
            Move::FallSilent(node, of) => self.fall_silent(world, node, of),
            Move::Promise(node) => promise(world, node),
            Move::Crash(node) => self.crash(world, node),
            Move::Rollback(node) => self.roll_back(world, node),
            Move::Purge(node, blob) => self.purge(world, node, blob),
            Move::Flag(node, blob) => self.flag(world, node, blob),
            Move::Ask(node, of, blob) => self.ask(world, node, of, blob),
            Move::Drop(node, blob) => self.drop_copy(world, node, blob),
        }
    }

    /// The entry that `step` would write, if `node` may write it (R7 and the rules of link facts).
    fn draft(&self, world: &World, node: usize, step: Move) -> Option<Entry> {
        let me = &world.nodes[node];
        let view = self.view(world, me.applied());
        let mut entry =
            Entry { boot: 0, seq: 0, prev: None, value: false, fact: false, ends: 0, removes: 0, says: None, past: me.applied() };
        if world.is_removed(me.applied(), node) {
            return None;
        }
        let anew = view.values == 0 && view.facts != 0 && self.broken != Broken::FactsAnew;
        let may_add = |is_touch| {
            let copies = match self.broken {
                Broken::OwnCopy => world.held(),
                Broken::TouchNeedsCopy if is_touch => world.held(),
                _ => me.has() | me.promised,
            };
            (view.closure() & !copies == 0).then_some(())
        };
        let ever = world.entries_in(me.applied()).filter(|(_, known)| known.value).fold(0, |all, (slot, _)| all | 1 << slot);
        match step {
            Move::Touch(_) if self.broken == Broken::TouchNeedsCopy => {
                may_add(true)?;
                (entry.value, entry.ends, entry.fact) = (true, ever, anew);
            }
            Move::Add(_) => {
                may_add(false)?;
                (entry.value, entry.fact) = (true, anew);
                entry.removes = if anew { view.facts } else { 0 };
            }
            Move::Touch(_) if view.values != 0 => {
                may_add(true)?;
                (entry.value, entry.ends) = (true, view.values);
            }
            Move::Delete(_) if view.values != 0 => entry.ends = view.values,
            Move::Fact(_) if view.facts == 0 => {
                let needs = if self.broken == Broken::FactNeedsClosure { 1 << ROOT } else { 1 << ROOT | 1 << CHILD };
                (needs & !me.has() == 0).then_some(())?;
                entry.fact = true;
            }
            Move::RemoveFacts(_) if view.facts != 0 => {
                self.unlinks(world, node)?;
                entry.removes = view.facts;
            }
            Move::Say(_, word) if Self::is_news(world, me.applied(), word) => entry.says = Some(word),
            _ => return None,
        }
        Some(entry)
    }

    fn write(&self, world: &mut World, node: usize, mut entry: Entry) -> Option<()> {
        if world.entries.iter().flatten().count() >= self.entries {
            return None;
        }
        let me = &world.nodes[node];
        let slot = (node * PER_NODE..(node + 1) * PER_NODE).find(|slot| world.entries[*slot].is_none())?;
        let own = world.entries_in(me.applied()).filter(|(slot, other)| author(*slot) == node && other.boot == me.boot);
        let last = own.max_by_key(|(_, other)| other.seq);
        entry.boot = me.boot;
        entry.seq = last.map_or(1, |(_, last)| last.seq + 1);
        entry.prev = last.map(|(slot, _)| byte(slot));
        world.entries[slot] = Some(entry);
        self.learn(world, node, 1 << slot)
    }

    /// `node` applies `news`. A value, and a link fact, is a new root: it ends attempts. What is reached again is no longer swept.
    fn learn(&self, world: &mut World, node: usize, news: Slots) -> Option<()> {
        let (before, void) = (world.nodes[node].applied(), world.void(world.nodes[node].applied()));
        let knew = self.view(world, before).facts;
        let has_roots = world.entries_in(news).any(|(_, entry)| entry.value || entry.fact);
        let me = &mut world.nodes[node];
        if self.broken == Broken::EntryPersists {
            me.fresh |= news;
        } else {
            me.log |= news;
        }
        if has_roots && !matches!(self.broken, Broken::AddCancels | Broken::AddCancelsAlone) {
            me.flags = [None; 2];
        }
        if world.entries_in(news).any(|(slot, entry)| author(slot) == 0 && entry.value) {
            world.nodes[node].pins = 0;
        }
        if world.void(world.nodes[node].applied()) & before != void {
            // The log is replayed and may amount to something else: what rests on what it amounted to is begun again.
            world.nodes[node].flags = [None; 2];
            if self.broken == Broken::SweepOutlivesRemoval {
                return Some(());
            }
            world.nodes[node].sweeps = [None; 2];
        }
        let me = world.nodes[node];
        let have_ended = knew != 0 && self.view(world, me.applied()).facts == 0;
        if have_ended && me.has() & 1 << ROOT != 0 && !self.broken.silences_holders() {
            let past = me.applied();
            self.write(
                world,
                node,
                Entry { fact: true, value: false, boot: 0, seq: 0, prev: None, ends: 0, removes: 0, says: None, past },
            )?;
        }
        self.sweep(world, node);
        Some(())
    }

    /// A sweep begins as soon as something is unreached, and ends when it is reached.
    pub(super) fn sweep(&self, world: &mut World, node: usize) {
        let applied = world.nodes[node].applied();
        let live = self.view(world, applied).live();
        let me = &mut world.nodes[node];
        for blob in [ROOT, CHILD] {
            let is_of_use = live & 1 << blob == 0 && (self.links || me.has() & 1 << blob != 0);
            me.sweeps[blob] = if is_of_use { me.sweeps[blob].or(Some(applied)) } else { None };
        }
    }

    fn pull(&self, world: &mut World, node: usize, from: usize) -> Option<()> {
        let me = world.nodes[node];
        let mut news = world.nodes[from].applied() & !me.applied();
        if self.broken == Broken::Hashes {
            let is_there = |slot: usize, entry: &Entry| {
                let mut mine = world.entries_in(me.applied());
                mine.any(|(own, known)| author(own) == author(slot) && (known.boot, known.seq) == (entry.boot, entry.seq))
            };
            news =
                world.entries_in(news).filter(|(slot, entry)| !is_there(*slot, entry)).fold(0, |all, (slot, _)| all | 1 << slot);
        }
        let was_rolled_back = world.entries_in(news).any(|(slot, _)| author(slot) == node);
        if news == 0 && me.exchanged & 1 << from != 0 && me.absent & 1 << from == 0 {
            return None;
        }
        if was_rolled_back {
            let me = &mut world.nodes[node];
            me.boot += 1;
            self.forget(me);
        }
        self.learn(world, node, news)?;
        world.nodes[node].exchanged |= 1 << from;
        world.nodes[node].absent &= !(1 << from);
        Some(())
    }

    /// Gossip, or the part of a pull that has come so far: no whole exchange, and an own entry is left to one.
    fn pull_one(&self, world: &mut World, node: usize, slot: usize) -> Option<()> {
        let past = world.entries[slot]?.past;
        (author(slot) != node && past & !world.nodes[node].applied() == 0).then_some(())?;
        self.learn(world, node, 1 << slot)
    }

    /// What shows that another knows of no end of a value can never help a sweep: it is not even heard.
    fn hear(&self, world: &mut World, node: usize, of: usize) -> Option<()> {
        let ack = if self.by_message { world.flight[of][node]? } else { world.nodes[of].applied() };
        let is_of_use = world.entries_in(ack).any(|(_, entry)| entry.ends != 0) || self.broken == Broken::Hashes;
        let me = &mut world.nodes[node];
        (is_of_use && me.acks[of] != Some(ack) && (me.has() != 0 || self.links)).then_some(())?;
        me.acks[of] = Some(ack);
        me.absent &= !(1 << of);
        Some(())
    }

    /// Fetching is for what is live here: other copies do not matter to what the model asks.
    fn fetch(&self, world: &mut World, node: usize, from: usize, blob: usize) -> Option<()> {
        let live = self.view(world, world.nodes[node].applied()).live();
        (live & 1 << blob != 0 && world.nodes[from].has() & 1 << blob != 0).then_some(())?;
        let me = &mut world.nodes[node];
        if self.broken == Broken::CopyPersists {
            me.unsynced |= 1 << blob;
        } else {
            me.holds |= 1 << blob;
        }
        Some(())
    }

    fn crash(&self, world: &mut World, node: usize) -> Option<()> {
        (world.crashes < self.crashes).then_some(())?;
        world.crashes += 1;
        let me = &mut world.nodes[node];
        (me.fresh, me.unsynced) = (0, 0);
        self.forget(me);
        self.sweep(world, node);
        Some(())
    }

    /// The disk of the beginning is back, with its log and its copies. If it took a copy away that would be the loss of a disk, which no
    /// rule can mend while one copy is wanted; so that is left out.
    fn roll_back(&self, world: &mut World, node: usize) -> Option<()> {
        let then = self.beginning().nodes[node];
        let Node { acks, .. } = world.nodes[node];
        (world.rollbacks == 0 && self.rollers & 1 << node != 0 && world.nodes[node].has() & !then.holds == 0).then_some(())?;
        world.rollbacks += 1;
        world.nodes[node] = then;
        let me = &mut world.nodes[node];
        me.acks = acks;
        self.forget(me);
        self.sweep(world, node);
        Some(())
    }

    /// What a start forgets (R11, R3).
    fn forget(&self, me: &mut Node) {
        if self.broken != Broken::AcksOfThisBoot {
            me.acks = [None; NODES];
        }
        me.sweeps = [None; 2];
        me.flags = [None; 2];
        me.exchanged = 0;
        me.promised = 0;
        if self.broken != Broken::AbsenceOutlivesStart {
            me.absent = 0;
        }
    }
}

fn promise(world: &mut World, node: usize) -> Option<()> {
    let kept = world.nodes[node].holds & !world.nodes[0].has();
    (kept != 0).then_some(())?;
    world.nodes[node].pins |= kept;
    world.nodes[0].promised |= kept;
    Some(())
}

fn sync(me: &mut Node) -> Option<()> {
    (me.fresh != 0 || me.unsynced != 0).then_some(())?;
    me.log |= me.fresh;
    me.holds |= me.unsynced;
    (me.fresh, me.unsynced) = (0, 0);
    Some(())
}
