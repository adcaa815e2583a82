//! The driver of one simulated node: it asks what the story says, performs the effects, and starts the node again after a fault.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::name::{NetworkName, NodeName};
use keepwell_store::fs::SharedFs;
use keepwell_store::fs::sim::SimDisk;
use keepwell_store::home::DiskPlace;
use keepwell_store::store::Store;

use super::checks::{Positions, Trouble, check_home, check_leftovers, observe};
use super::oracle::Known;
use super::workload::{Dice, Story};
use super::{Fault, Hands, Ran};
use crate::engine::{Engine, NewHome, OpenError};

pub(super) const INDEX: &str = "index";
pub(super) const KEY: [u8; 32] = [7; 32];
pub(super) const BEGIN_MS: u64 = 1_700_000_000_000;
pub(super) const OP_MS: u64 = 1_000;
/// A planned fault strikes once; what it starts again after must come up in a few tries.
const MAX_STARTS: usize = 5;
/// A machine that crashes again and again must come to rest before the story ends.
const MAX_REPEATED_CRASHES: u32 = 3;
/// The latest operations that a failure prints.
const RECENT_OPS: usize = 20;

/// One node, its disk, and what is known of both.
pub(super) struct Driver<'a> {
    pub(super) story: &'a Story,
    pub(super) hands: &'a Hands,
    pub(super) fault: Fault,
    pub(super) disk: SimDisk,
    pub(super) dice: Dice,
    pub(super) place: DiskPlace,
    pub(super) engine: Option<Engine>,
    pub(super) is_made: bool,
    /// What has been acknowledged.
    pub(super) known: Known,
    /// What will be, if the request in flight comes to its end.
    pub(super) in_flight: Option<Known>,
    pub(super) positions: Positions,
    pub(super) universe: BTreeSet<BlobId>,
    /// Blobs that were deleted, and those of them that were put again.
    pub(super) deleted: BTreeSet<BlobId>,
    pub(super) reput: BTreeSet<BlobId>,
    /// What the worker has been told to move away, and has not yet.
    pub(super) errands: BTreeSet<BlobId>,
    pub(super) ingests: u128,
    pub(super) now_ms: u64,
    pub(super) recoveries: u32,
    /// Faults whose consequences are over: the node was started again since.
    pub(super) excused: u64,
    pub(super) epoch: u32,
    pub(super) recent: VecDeque<String>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(story: &'a Story, hands: &'a Hands, seed: u64, fault: Fault) -> Driver<'a> {
        let disk = SimDisk::new(seed.wrapping_mul(1_000_003).wrapping_add(fault.call()));
        disk.set_lies(hands.lies);
        fault.plan(&disk);
        Driver {
            story,
            hands,
            fault,
            disk,
            dice: Dice::new(!seed),
            place: DiskPlace { device: 1, inode: 1 },
            engine: None,
            is_made: false,
            known: Known::default(),
            in_flight: None,
            positions: Positions::default(),
            universe: story.blobs.iter().map(|blob| blob.fact.sha1).collect(),
            deleted: BTreeSet::new(),
            reput: BTreeSet::new(),
            errands: BTreeSet::new(),
            ingests: 0,
            now_ms: BEGIN_MS,
            recoveries: 0,
            excused: 0,
            epoch: 0,
            recent: VecDeque::new(),
        }
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn summary(&self) -> Ran {
        Ran { calls: self.disk.calls(), recoveries: self.recoveries, epoch: self.epoch }
    }

    pub(super) fn recent(&self) -> Vec<String> {
        self.recent.iter().cloned().collect()
    }

    /// The whole story, then everything that was put off, then a last look.
    pub(super) fn run(&mut self, check_each: bool) -> Result<(), Trouble> {
        self.begin("start".into());
        self.survive(Self::start)?;
        for (at, op) in self.story.ops.iter().enumerate() {
            self.begin(format!("{at}: {op:?}"));
            self.survive(|driver| driver.perform(at, op))?;
            if check_each {
                self.survive(Self::check)?;
            }
        }
        self.begin("all unlinks".into());
        self.disk.set_capacity(None);
        // A fault may come between; the worker comes again.
        for _ in 0..MAX_STARTS {
            self.survive(Self::unlink_all)?;
        }
        self.survive(Self::check)?;
        match self.known.unlinks.first() {
            None => Ok(()),
            Some(id) => Err(Trouble::violated("S5", format!("the queued removal of {id} is never made"))),
        }
    }

    /// Does `act`; a failure that a fault excuses is recovered from, any other is the end.
    fn survive(&mut self, act: impl FnOnce(&mut Self) -> Result<(), Trouble>) -> Result<(), Trouble> {
        match act(self) {
            Err(Trouble::Failed(_)) if self.disk.faults() > self.excused => self.recover(),
            Err(Trouble::Failed(why)) => Err(Trouble::violated("S3", format!("failed without a fault: {why}"))),
            other => other,
        }
    }

    fn begin(&mut self, what: String) {
        if self.recent.len() == RECENT_OPS {
            self.recent.pop_front();
        }
        let what: String = what.chars().take(240).collect();
        self.recent.push_back(format!("[call {}] {what}", self.disk.calls() + 1));
    }

    /// Starts the node again, as often as a fault during the start makes necessary, and looks at what is there.
    fn recover(&mut self) -> Result<(), Trouble> {
        if self.hands.is_hasty
            && let Some(told) = self.in_flight.take()
        {
            self.known = told;
        }
        for again in 0..MAX_STARTS {
            self.engine = None;
            self.recoveries += 1;
            self.disk.set_capacity(None);
            if self.disk.is_crashed() || again > 0 {
                self.disk.restart();
            }
            if again == 0 && self.recoveries <= MAX_REPEATED_CRASHES {
                self.fault.plan_again(&self.disk);
            }
            self.excused = self.disk.faults();
            self.begin(format!("start again ({})", again + 1));
            match self.start().and_then(|()| self.check()) {
                Err(Trouble::Failed(_)) if self.disk.faults() > self.excused => {}
                Err(Trouble::Failed(why)) => return Err(Trouble::violated("S3", format!("cannot be opened again: {why}"))),
                Err(violated) => return Err(violated),
                // What was found after an I/O error may be in memory alone: it must outlast a power cut too.
                Ok(()) if again == 0 && !matches!(self.fault, Fault::Crash { .. }) => self.disk.crash(),
                Ok(()) => return Ok(()),
            }
        }
        Err(Trouble::violated("S3", "cannot be opened after several tries"))
    }

    pub(super) fn start(&mut self) -> Result<(), Trouble> {
        self.engine = None;
        let failed = |error: &dyn std::error::Error| Trouble::Failed(error.to_string());
        let fs: SharedFs = Arc::new(self.disk.fs());
        let faults = self.disk.faults();
        let opened = Store::open(self.disk.backend(INDEX), Arc::clone(&fs));
        let store = match opened {
            // Whoever makes a home throws away what an interrupted making has left.
            Err(_) if !self.is_made && self.disk.faults() == faults => {
                self.disk.remove_database(INDEX);
                Store::open(self.disk.backend(INDEX), fs)?
            }
            opened => opened?,
        };
        let store = Arc::new(store);
        let key = SigningKey::from_bytes(&KEY);
        let opened = match Engine::open(Arc::clone(&store), key.clone(), self.place, self.dice.rng()) {
            Err(OpenError::NotMade) if !self.is_made => Engine::init(store, key, &new_home(self.place)?, self.dice.rng())?,
            Err(OpenError::Store(error)) => return Err(error.into()),
            Err(OpenError::NotMade) => return Err(Trouble::violated("S3", "the home was never made")),
            other => other.map_err(|error| failed(&error))?,
        };
        self.is_made = true;
        check_leftovers(opened.store())?;
        self.errands = opened.store().snapshot()?.queued_unlinks()?.into_iter().map(|(id, _)| id).collect();
        self.engine = Some(opened);
        Ok(())
    }

    /// Looks at everything; what was in flight is known from now on, one way or the other. What a fault hides from the checks
    /// themselves is not missing.
    fn check(&mut self) -> Result<(), Trouble> {
        let faults = self.disk.faults();
        match self.look() {
            Err(Trouble::Violated(hidden)) if self.disk.faults() > faults => Err(Trouble::Failed(hidden.what)),
            other => other,
        }
    }

    fn look(&mut self) -> Result<(), Trouble> {
        let engine = running(&self.engine)?;
        let snapshot = engine.store().snapshot()?;
        let found = observe(&snapshot, &self.universe)?;
        if let Some(lost) = self.known.difference(&found) {
            let done = self.in_flight.as_ref().map(|known| known.difference(&found));
            match done {
                Some(None) => {}
                Some(Some(half)) => return Err(Trouble::violated("S3", format!("neither undone ({lost}) nor done ({half})"))),
                None => return Err(Trouble::violated("S3", lost)),
            }
        }
        check_home(engine, &snapshot, &self.reput)?;
        self.positions.check(&snapshot)?;
        self.epoch = snapshot.documents()?.into_iter().map(|(_, epoch)| epoch).max().unwrap_or(0);
        self.reput.extend(self.deleted.iter().filter(|id| found.held.contains_key(id)));
        self.known = found;
        self.in_flight = None;
        Ok(())
    }
}

pub(super) fn running(engine: &Option<Engine>) -> Result<&Engine, Trouble> {
    engine.as_ref().ok_or_else(|| Trouble::Failed("the node is down".into()))
}

fn new_home(place: DiskPlace) -> Result<NewHome, Trouble> {
    let illegal = |error: &dyn std::error::Error| Trouble::Failed(error.to_string());
    let network: NetworkName = "lab".parse().map_err(|error| illegal(&error))?;
    let node: NodeName = "ada".parse().map_err(|error| illegal(&error))?;
    Ok(NewHome { network, node, place })
}
