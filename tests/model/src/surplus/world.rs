//! What can happen in a world of surplus copies.

use std::collections::BTreeSet;

use keepwell_protocol::gc::attempt::Attempts;
use keepwell_protocol::gc::start::Start;
use stateright::{Model, Property};

use super::machines::count;
use super::{Rule, Surplus};

/// Everything there is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub nodes: Vec<Node>,
    /// What was written, in causal order.
    pub written: Vec<Written>,
    /// What was sent, ever.
    pub network: BTreeSet<Message>,
    pub crashes: u8,
    pub fetches: u8,
    pub rollbacks: u8,
    /// How many permits were spent.
    pub drops: u8,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub copy: Copy,
    /// How many of the writes it has persisted: the first so many.
    pub known: u8,
    /// How many it has applied. The same, unless the rule that says so is left out.
    pub applied: u8,
    /// How many attempts it has begun, ever.
    pub begun: u8,
    /// Set if the question has left and the flag is yet to come: only without the rule that forbids that.
    pub owes_flag: bool,
    /// Whom it has heard from since it was rolled back, until it has heard from all.
    pub hears: Option<Start>,
    /// What it is giving up: in memory alone.
    pub attempts: Attempts,
}

/// What a node has of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Copy {
    None,
    /// Whole, but gone after a crash.
    Unsynced,
    Durable,
}

/// One write that reaches the blob.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Written {
    pub author: usize,
    /// Who has confirmed to the author that it holds the blob and knows this.
    pub confirmed_by: BTreeSet<usize>,
}

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// Do you keep it? The asker knew the first `seen` writes when it flagged the blob.
    Question { from: usize, attempt: u8, seen: u8 },
    /// I do.
    Yes { from: usize, to: usize, attempt: u8 },
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A node would give up its copy: it flags it, and asks.
    Begin(usize),
    /// The flag that was owed.
    FlagLate(usize),
    /// A question arrives, and is answered.
    Ask { to: usize, from: usize, attempt: u8, seen: u8 },
    /// A yes arrives.
    Hear { to: usize, from: usize, attempt: u8 },
    /// A node gives up its copy, if that may be.
    Decide(usize),
    /// An attempt takes too long, or there is room again.
    End(usize),
    /// A node loses its memory and starts anew.
    Crash(usize),
    /// The next write arrives, and is persisted.
    Learn(usize),
    /// What was applied is persisted: only where that is not one step.
    Persist(usize),
    /// The next write is made.
    Write(usize),
    /// An author asks another node to confirm a write.
    Confirm { write: usize, by: usize },
    /// A node that knows no ref on the blob deletes it.
    Purge(usize),
    /// A node has the blob from another one.
    Fetch(usize),
    /// What was fetched is made durable.
    Sync(usize),
    /// A node is replaced by a backup of before the last write that it knew.
    RollBack(usize),
    /// A node that was rolled back hears from another one, and applies all that it knew.
    Exchange { of: usize, with: usize },
}

impl Model for Surplus {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.honest().map(|author| self.beginning(author)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for message in &world.network {
            match *message {
                Message::Question { from, attempt, seen } => {
                    let others = (0..self.disks.len()).filter(|to| *to != from);
                    actions.extend(others.map(|to| Action::Ask { to, from, attempt, seen }));
                }
                Message::Yes { from, to, attempt } => actions.push(Action::Hear { to, from, attempt }),
            }
        }
        for node in self.honest() {
            use Action::{Begin, Crash, Decide, End, Fetch, FlagLate, Learn, Persist, Purge, RollBack, Sync, Write};
            let all = [Begin, FlagLate, Decide, End, Crash, Learn, Persist, Write, Purge, Fetch, Sync, RollBack];
            actions.extend(all.map(|action| action(node)));
            actions.extend(self.honest().map(|with| Action::Exchange { of: node, with }));
        }
        for write in 0..world.written.len() {
            actions.extend((0..self.disks.len()).map(|by| Action::Confirm { write, by }));
        }
        actions.retain(|action| self.is_possible(world, *action));
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Begin(node) => self.begin(&mut world, node),
            Action::FlagLate(node) => self.flag_late(&mut world.nodes[node], node),
            Action::Ask { to, from, attempt, seen } => self.ask(&mut world, to, from, attempt, seen),
            Action::Hear { to, from, attempt } => self.hear(&mut world.nodes[to], to, from, attempt),
            Action::Decide(node) => self.decide(&mut world, node),
            Action::End(node) => world.nodes[node].end_attempt(),
            Action::Crash(node) => world.crash(node),
            Action::Learn(node) => self.learn(&mut world.nodes[node]),
            Action::Persist(node) => world.nodes[node].known = world.nodes[node].applied,
            Action::Write(node) => self.write(&mut world, node),
            Action::Confirm { write, by } => self.confirm(&mut world, write, by),
            Action::Purge(node) => world.nodes[node].copy = Copy::None,
            Action::Fetch(node) => world.fetch(node),
            Action::Sync(node) => world.nodes[node].copy = Copy::Durable,
            Action::RollBack(node) => world.roll_back(node),
            Action::Exchange { of, with } => self.exchange(world.nodes[with].known, &mut world.nodes[of], of, with),
        }
        // What changes nothing leads nowhere.
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let kept = Property::always("as many durable copies as promised", |model: &Surplus, world: &World| {
            model.durable(world) >= model.promised(world)
        });
        let dropped = Property::sometimes("all surplus is dropped and all is confirmed", |model: &Surplus, world: &World| {
            let all_written = world.written.len() == model.copies.len();
            let all_confirmed = (0..world.written.len()).all(|write| model.is_confirmed(world, write));
            all_written && all_confirmed && usize::from(world.drops) == model.surplus()
        });
        vec![kept, dropped]
    }
}

impl Surplus {
    fn beginning(&self, author: usize) -> World {
        let node = |node| Node {
            copy: if self.liar == Some(node) { Copy::None } else { Copy::Durable },
            known: u8::from(node == author),
            applied: u8::from(node == author),
            begun: 0,
            owes_flag: false,
            hears: None,
            attempts: Attempts::default(),
        };
        World {
            nodes: (0..self.disks.len()).map(node).collect(),
            written: vec![Written { author, confirmed_by: BTreeSet::new() }],
            network: BTreeSet::new(),
            crashes: 0,
            fetches: 0,
            rollbacks: 0,
            drops: 0,
        }
    }

    pub(super) fn honest(&self) -> impl Iterator<Item = usize> {
        (0..self.disks.len()).filter(|node| self.liar != Some(*node))
    }

    /// The disks with a durable copy.
    fn durable(&self, world: &World) -> u32 {
        let held = self.honest().filter(|node| world.nodes[*node].copy == Copy::Durable);
        let disks: BTreeSet<u8> = held.map(|node| self.disks[node]).collect();
        count(disks.len())
    }

    fn promised(&self, world: &World) -> u32 {
        let confirmed = (0..world.written.len()).filter(|write| self.is_confirmed(world, *write));
        confirmed.map(|write| self.copies[write]).max().unwrap_or(1)
    }

    fn is_confirmed(&self, world: &World, write: usize) -> bool {
        let written = &world.written[write];
        self.proven_to(written.author, &written.confirmed_by) >= self.need(write + 1).others_to_confirm()
    }

    /// Whether `node` has made a write that is yet to be confirmed.
    pub(super) fn is_author(&self, world: &World, node: usize) -> bool {
        (0..world.written.len()).any(|write| world.written[write].author == node && !self.is_confirmed(world, write))
    }

    /// Whether there is occasion for `action`. Whether it is *allowed* is for the machines to say.
    fn is_possible(&self, world: &World, action: Action) -> bool {
        let node = |node: usize| &world.nodes[node];
        match action {
            Action::Begin(of) => {
                let holds_live = node(of).copy == Copy::Durable && node(of).applied > 0 && !node(of).is_giving_up();
                let begun: u8 = world.nodes.iter().map(|node| node.begun).sum();
                holds_live && node(of).begun < self.attempts_each && begun < self.attempts_in_all
            }
            Action::FlagLate(of) => node(of).owes_flag,
            Action::Ask { to, from, attempt, .. } => {
                let is_said = world.network.contains(&Message::Yes { from: to, to: from, attempt });
                !is_said || node(to).is_giving_up()
            }
            Action::Hear { to: of, .. } | Action::Decide(of) => !node(of).attempts.is_empty(),
            Action::End(of) => node(of).is_giving_up(),
            Action::Crash(of) => world.crashes < self.crashes || !node(of).has_unsynced(),
            Action::Learn(of) => usize::from(node(of).applied) < world.written.len(),
            Action::Persist(of) => node(of).known < node(of).applied,
            Action::Write(of) => {
                let knows_all = usize::from(node(of).known) == world.written.len();
                knows_all && node(of).copy == Copy::Durable && world.written.len() < self.copies.len()
            }
            Action::Confirm { write, by } => {
                let author = world.written[write].author;
                by != author && node(author).copy == Copy::Durable && !self.is_confirmed(world, write)
            }
            Action::Purge(of) => node(of).applied == 0 && self.refuses(node(of), of).is_none(),
            Action::Fetch(of) => {
                let is_served = world.nodes.iter().any(|node| node.copy == Copy::Durable);
                node(of).copy == Copy::None && is_served && world.fetches < self.fetches
            }
            Action::Sync(of) => node(of).copy == Copy::Unsynced,
            Action::RollBack(of) => {
                let is_author = world.written.iter().any(|write| write.author == of);
                world.rollbacks < self.rollbacks && node(of).known > 1 && !is_author
            }
            Action::Exchange { of, with } => node(of).hears.is_some() && of != with && self.out_of_reach != Some(with),
        }
    }

    fn begin(&self, world: &mut World, number: usize) {
        let node = &mut world.nodes[number];
        let attempt = node.begun;
        node.begun += 1;
        if self.is_in_force(Rule::FlagFirst) {
            self.flag(&mut node.attempts, number, attempt);
        } else {
            node.owes_flag = true;
        }
        world.network.insert(Message::Question { from: number, attempt, seen: node.applied });
    }

    fn flag_late(&self, node: &mut Node, number: usize) {
        self.flag(&mut node.attempts, number, node.begun - 1);
        node.owes_flag = false;
    }

    fn ask(&self, world: &mut World, to: usize, from: usize, attempt: u8, seen: u8) {
        if self.liar == Some(to) || self.answers_question(world, to, from, attempt, seen) {
            world.network.insert(Message::Yes { from: to, to: from, attempt });
        }
    }

    fn decide(&self, world: &mut World, number: usize) {
        if self.permits(world, number) {
            world.nodes[number].copy = Copy::None;
            world.drops += 1;
        }
    }

    fn learn(&self, node: &mut Node) {
        self.add(node);
        if self.is_in_force(Rule::PersistFirst) {
            node.known = node.applied;
        }
    }

    fn exchange(&self, known: u8, node: &mut Node, number: usize, with: usize) {
        while node.applied < known {
            self.learn(node);
        }
        self.hear_from(node, number, with);
    }

    fn write(&self, world: &mut World, number: usize) {
        let node = &mut world.nodes[number];
        self.add(node);
        node.known = node.applied;
        world.written.push(Written { author: number, confirmed_by: BTreeSet::new() });
    }

    fn add(&self, node: &mut Node) {
        node.applied += 1;
        if self.is_in_force(Rule::AddCancels) {
            node.end_attempt();
        }
    }

    fn confirm(&self, world: &mut World, write: usize, by: usize) {
        if self.liar == Some(by) || self.confirms(world, by, write) {
            world.written[write].confirmed_by.insert(by);
        }
    }
}

impl World {
    /// A crash that loses nothing but an attempt is not counted: it may happen at any time.
    fn crash(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        self.crashes += u8::from(node.has_unsynced());
        node.end_attempt();
        node.applied = node.known;
        if node.copy == Copy::Unsynced {
            node.copy = Copy::None;
        }
    }

    /// Its memory goes too; its copy stays, so that the backup makes up for nothing.
    fn roll_back(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.known -= 1;
        node.applied = node.known;
        node.end_attempt();
        node.hears = Some(Start::default());
        self.rollbacks += 1;
    }

    fn fetch(&mut self, number: usize) {
        self.nodes[number].copy = Copy::Unsynced;
        self.fetches += 1;
    }
}

impl Node {
    fn is_giving_up(&self) -> bool {
        !self.attempts.is_empty() || self.owes_flag
    }

    fn has_unsynced(&self) -> bool {
        self.copy == Copy::Unsynced || self.known < self.applied
    }

    fn end_attempt(&mut self) {
        self.attempts.end_all();
        self.owes_flag = false;
    }
}
