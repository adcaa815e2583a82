//! Deletions: the machines of the protocol decide each of them, upon what the world looks like to the node.

use keepwell_protocol::gc::Need;
use keepwell_protocol::gc::attempt::{Attempts, DropFacts};
use keepwell_protocol::gc::permit::{Ground, Permit};
use keepwell_protocol::gc::question::{Answer, Purpose, Word};
use keepwell_protocol::gc::start::Start;
use keepwell_protocol::gc::sweep::{Converged, PurgeFacts, Sweep};
use keepwell_protocol::gc::unlink::UnlinkFacts;
use keepwell_protocol::gc::witness::{self, Copy, Standing};
use keepwell_protocol::id::{NetworkId, NodeId, Nonce};
use keepwell_protocol::log::compare::contains;
use keepwell_protocol::log::exchange::Ack;

use super::Catalog;
use super::known::Known;
use super::rules::Broken;
use super::world::{Flag, NODES, ROOT, Slots, World, blob_fact, boot_id, node_id, others, storage_id};

const NETWORK: NetworkId = NetworkId([9; 32]);

impl Catalog {
    pub(super) fn purge(&self, world: &mut World, node: usize, blob: usize) -> Option<()> {
        let facts = self.purge_facts(world, node, blob);
        let is_left_out = self.broken == Broken::Barrier;
        let permit =
            self.converged(world, node, blob, is_left_out, |sweep| sweep.purge(&blob_fact(blob).sha1, &facts).ok())??;
        delete(world, node, blob, &permit, Ground::Purge)
    }

    /// Whether `node` may end the link facts of the root. Of who else holds it nothing is told: no safety shall rest on that.
    pub(super) fn unlinks(&self, world: &World, node: usize) -> Option<()> {
        let me = &world.nodes[node];
        let facts = self.view(world, me.applied()).facts;
        let seen = me.sweeps[ROOT].unwrap_or_default();
        let were_known = facts & !seen == 0 || self.broken.ends_facts_at_once();
        let is_held = me.has() & 1 << ROOT != 0;
        let looked_at = UnlinkFacts { purge: self.purge_facts(world, node, ROOT), is_held, were_known };
        let is_left_out = self.broken.ends_facts_at_once();
        self.converged(world, node, ROOT, is_left_out, |sweep| sweep.unlinks(&looked_at))?.then_some(())
    }

    fn purge_facts(&self, world: &World, node: usize, blob: usize) -> PurgeFacts {
        let me = &world.nodes[node];
        let waited_for = self.waited_for(world, node);
        let mut in_reach = self.in_reach(node, 0);
        in_reach.retain(|other| waited_for.contains(other));
        let is_live = self.view(world, me.applied()).live() & 1 << blob != 0;
        PurgeFacts {
            refuses: self.refuses_as_gone(world, node).or(self.start(world, node).refuses_to_purge(&in_reach, &waited_for)),
            is_settled: true,
            is_live: is_live && self.broken != Broken::SweepOutlivesRemoval,
            was_unreached: me.sweeps[blob].is_some(),
            is_pinned: me.pins & 1 << blob != 0,
            understands_all: true,
        }
    }

    fn converged<T>(
        &self,
        world: &World,
        node: usize,
        blob: usize,
        is_left_out: bool,
        then: impl FnOnce(&Converged<'_>) -> T,
    ) -> Option<T> {
        let me = &world.nodes[node];
        let log = self.known(world, me.applied());
        if is_left_out {
            let Ok(outcome) = Sweep::begin(log.vector()).converged(&[], &log).map(|outcome| outcome.ok().as_ref().map(then));
            return outcome;
        }
        let mut sweep = Sweep::begin(self.known(world, me.sweeps[blob]?).vector());
        for of in others(node) {
            if let Some(ack) = me.acks[of] {
                let ack = if self.broken == Broken::Resync { ack & me.applied() } else { ack };
                let persisted = self.known(world, ack).vector();
                sweep.hear(&Ack { network: NETWORK, node: node_id(of), boot: boot_id(of, 0), seq: 0, persisted });
            }
        }
        let waited_for = self.waited_for(world, node);
        let Ok(outcome) = sweep.converged(&waited_for, &log).map(|outcome| outcome.ok().as_ref().map(then));
        outcome
    }

    pub(super) fn flag(&self, world: &mut World, node: usize, blob: usize) -> Option<()> {
        let live = self.view(world, world.nodes[node].applied()).live();
        let me = &mut world.nodes[node];
        (me.flags[blob].is_none() && live & 1 << blob != 0).then_some(())?;
        me.flags[blob] = Some(Flag { seen: me.applied(), yes: 0 });
        Some(())
    }

    /// A question and its answer at once; what was said may be long ago when it is used.
    pub(super) fn ask(&self, world: &mut World, node: usize, of: usize, blob: usize) -> Option<()> {
        let flag = world.nodes[node].flags[blob]?;
        let (asked, it) = (blob_fact(blob), world.nodes[of]);
        let log = self.known(world, it.applied());
        let members: Vec<NodeId> = self.members(world, of).map(node_id).collect();
        let mut in_reach = self.in_reach(of, 1 << node);
        in_reach.retain(|other| members.contains(other));
        let Ok(includes_asker) = contains(&log, &self.known(world, flag.seen).vector());
        let standing = Standing {
            asker_is_member: self.members(world, of).any(|member| member == node),
            refuses: self.start(world, of).refuses(&in_reach),
            includes_asker: includes_asker || self.broken == Broken::AnswererKnows,
        };
        let copy = Copy {
            recorded: (it.has() & 1 << blob != 0).then_some(asked),
            is_whole: true,
            is_live: self.view(world, it.applied()).live() & 1 << blob != 0,
            keeps_rather: of < node,
        };
        let mut attempts = self.attempts(world, of, blob);
        let word = witness::answer(&asked, Purpose::Drop, &standing, &copy, &mut attempts);
        (word == Word::Yes && flag.yes & 1 << of == 0).then_some(())?;
        if !attempts.is_flagged(&asked.sha1) {
            world.nodes[of].flags[blob] = None;
        }
        world.nodes[node].flags[blob] = Some(Flag { yes: flag.yes | 1 << of, ..flag });
        Some(())
    }

    pub(super) fn drop_copy(&self, world: &mut World, node: usize, blob: usize) -> Option<()> {
        let me = &world.nodes[node];
        let flag = me.flags[blob]?;
        let members = self.members(world, node).map(|other| (node_id(other), storage_id(other))).collect();
        let facts = DropFacts {
            boot: &boot_id(node, me.boot),
            storage: &storage_id(node),
            refuses: self.refuses_as_gone(world, node).or(match self.broken {
                Broken::DropsInReach => self.start(world, node).refuses(&self.in_reach(node, flag.yes)),
                _ => self.start(world, node).refuses_to_drop(&self.waited_for(world, node)),
            }),
            is_settled: true,
            is_live: self.view(world, me.applied()).live() & 1 << blob != 0,
            reached_by: self.reached_by(world, me.applied()),
            is_placed: false,
            is_pinned: me.pins & 1 << blob != 0,
            understands_all: true,
            need: Need { copies: 1, liars: 0 },
            members: &members,
        };
        let (permit, _) = self.attempts(world, node, blob).decide(&blob_fact(blob).sha1, &facts).ok()?;
        world.nodes[node].flags[blob] = None;
        if let Some((_, removed)) = self.leaving.removal {
            let knows = world.is_removed(world.nodes[node].applied(), removed);
            world.left |= u8::from(!knows && flag.yes == 1 << removed) << blob;
        }
        delete(world, node, blob, &permit, Ground::Drop)
    }

    /// The attempt of `node` on `blob` as the machine keeps it.
    fn attempts(&self, world: &World, node: usize, blob: usize) -> Attempts {
        let me = &world.nodes[node];
        let mut attempts = Attempts::default();
        let Some(flag) = me.flags[blob] else { return attempts };
        let (boot, nonce, fact) = (boot_id(node, me.boot), Nonce([1; 16]), blob_fact(blob));
        attempts.flag(nonce, boot, [(fact, self.reached_by(world, flag.seen))]);
        for of in others(node).filter(|of| flag.yes & 1 << of != 0) {
            let words = vec![(fact.sha1, Word::Yes)];
            let (asker, node, storage) = (node_id(node), node_id(of), storage_id(of));
            attempts.hear(&Answer { network: NETWORK, asker, boot, nonce, node, storage, words });
        }
        attempts
    }

    /// What reaches blobs in `log`, instead of a digest of it.
    fn reached_by(&self, world: &World, log: Slots) -> u64 {
        if self.broken == Broken::AddCancels { 0 } else { self.view(world, log).values.into() }
    }

    fn known(&self, world: &World, log: Slots) -> Known {
        Known::new(world, log, self.broken != Broken::Hashes)
    }

    /// Whom `node` can reach: in the worst case `talks_to`, those that it talks to in this very step, as bits; else all others.
    fn in_reach(&self, node: usize, talks_to: u8) -> Vec<NodeId> {
        others(node).filter(|other| !self.cut_off || talks_to & 1 << other != 0).map(node_id).collect()
    }

    fn start(&self, world: &World, node: usize) -> Start {
        let me = &world.nodes[node];
        let mut start = Start::default();
        for node in 0..NODES {
            // An exchange with who is no member says nothing.
            let counts = me.exchanged & 1 << node != 0 && !world.is_removed(me.applied(), node);
            if counts || self.broken == Broken::Start {
                start.exchanged(node_id(node));
            }
        }
        start
    }
}

fn delete(world: &mut World, node: usize, blob: usize, permit: &Permit, ground: Ground) -> Option<()> {
    (permit.ground() == ground && permit.blob() == blob_fact(blob).sha1).then_some(())?;
    let me = &mut world.nodes[node];
    me.holds &= !(1 << blob);
    me.unsynced &= !(1 << blob);
    Some(())
}
