//! One node on a disk that fails: a story is told, the disk fails at a chosen call, and everything that was acknowledged must be
//! there afterwards.
//!
//! A [`Case`] (seed and fault) is the whole of a run: equal cases go equally, to the byte, so a failure is replayed from what it
//! prints. [`workload`] is what is asked, [`oracle`] what must come of it, [`checks`] what is looked at.

pub mod checks;
mod driver;
pub mod oracle;
mod requests;
pub mod workload;

use std::fmt;
use std::str::FromStr;

use keepwell_protocol::gc::permit::Permit;
use keepwell_protocol::id::BlobId;
use keepwell_store::error::StoreError;
use keepwell_store::fs::sim::{Lies, SimDisk};
use keepwell_store::store::Store;
use keepwell_store::unlink::Unlinked;

use self::checks::{Trouble, Violation};
use self::driver::Driver;
use self::workload::{Scale, Story};

/// What is to go wrong. Calls of the disk are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The machine stops at a call.
    Crash {
        /// Which.
        call: u64,
        /// And once more at this call after its start.
        again: Option<u64>,
    },
    /// A call fails with an input/output error.
    Io {
        /// Which.
        call: u64,
    },
    /// The disk is full from a call on, until the node is started again.
    Full {
        /// Which.
        call: u64,
    },
}

/// One run of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What story is told, and what a crash leaves.
    pub seed: u64,
    /// How long the story is.
    pub scale: Scale,
    /// What goes wrong.
    pub fault: Fault,
    /// Look at everything after each operation, not only after a fault and at the end.
    pub check_each: bool,
}

/// What the simulator cannot or must not do itself, and the variants by which its checks are shown to work.
#[derive(Debug, Clone, Copy)]
pub struct Hands {
    /// Permits a deletion: only tests can mint.
    pub permit: fn(BlobId) -> Permit,
    /// The worker that moves the bytes of deleted blobs away.
    pub unlink: fn(&Store, &BlobId, u64) -> Result<Unlinked, StoreError>,
    /// Which syncs the disk only pretends to make.
    pub lies: Lies,
    /// Take a request for acknowledged although its commit failed.
    pub is_hasty: bool,
    /// Start a copied home as if it were the original.
    pub copies_unseen: bool,
}

impl Hands {
    /// The product as it is, deleting what `permit` permits.
    pub fn honest(permit: fn(BlobId) -> Permit) -> Hands {
        Hands { permit, unlink: Store::unlink, lies: Lies::default(), is_hasty: false, copies_unseen: false }
    }
}

/// A run in which nothing was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Calls of the disk.
    pub calls: u64,
    /// Starts after a fault.
    pub recoveries: u32,
    /// The newest epoch that any shard has come to.
    pub epoch: u32,
}

/// A run that broke an invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which run.
    pub case: Case,
    /// What broke.
    pub violation: Violation,
    /// The latest operations.
    pub ops: Vec<String>,
    /// The latest calls of the disk.
    pub calls: Vec<(u64, &'static str)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { seed, fault, scale, .. } = self.case;
        writeln!(f, "seed {seed}, {fault:?}, {scale:?}: docs/SAFETY.md {}", self.violation)?;
        writeln!(f, "  to replay: KEEPWELL_CASE='{seed} {fault}' scripts/soak")?;
        self.ops.iter().try_for_each(|op| writeln!(f, "  {op}"))?;
        let calls: Vec<String> = self.calls.iter().map(|(number, kind)| format!("{number} {kind}")).collect();
        writeln!(f, "  last calls: {}", calls.join(", "))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::None => write!(f, "none"),
            Fault::Crash { call, again: None } => write!(f, "crash {call}"),
            Fault::Crash { call, again: Some(again) } => write!(f, "crash {call} {again}"),
            Fault::Io { call } => write!(f, "io {call}"),
            Fault::Full { call } => write!(f, "full {call}"),
        }
    }
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `none`, `crash CALL [CALL]`, `io CALL` or `full CALL`")]
pub struct ParseFaultError;

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Fault, ParseFaultError> {
        let mut words = text.split_whitespace();
        let kind = words.next().ok_or(ParseFaultError)?;
        let calls: Vec<u64> = words.map(|word| word.parse().map_err(|_| ParseFaultError)).collect::<Result<_, _>>()?;
        match (kind, calls.as_slice()) {
            ("none", []) => Ok(Fault::None),
            ("crash", [call]) => Ok(Fault::Crash { call: *call, again: None }),
            ("crash", [call, again]) => Ok(Fault::Crash { call: *call, again: Some(*again) }),
            ("io", [call]) => Ok(Fault::Io { call: *call }),
            ("full", [call]) => Ok(Fault::Full { call: *call }),
            _ => Err(ParseFaultError),
        }
    }
}

impl Fault {
    /// The call at which it strikes.
    pub fn call(&self) -> u64 {
        match self {
            Fault::None => 0,
            Fault::Crash { call, .. } | Fault::Io { call } | Fault::Full { call } => *call,
        }
    }

    fn plan(&self, disk: &SimDisk) {
        match self {
            Fault::None => {}
            Fault::Crash { call, .. } => disk.crash_at(*call),
            Fault::Io { call } => disk.fail_at(*call),
            Fault::Full { call } => disk.full_at(*call),
        }
    }

    /// Plans the second crash, counted from the start after the first.
    fn plan_again(&self, disk: &SimDisk) {
        if let Fault::Crash { again: Some(again), .. } = self {
            disk.crash_at(disk.calls() + again);
        }
    }
}

impl Case {
    /// A short story of `seed` with `fault`.
    pub fn short(seed: u64, fault: Fault) -> Case {
        Case { seed, scale: Scale::SHORT, fault, check_each: false }
    }
}

/// Runs one case.
///
/// # Errors
/// The invariant that was broken, with what led to it.
pub fn run(case: Case, hands: &Hands) -> Result<Ran, Box<Failure>> {
    let story = Story::draw(case.seed, case.scale);
    let mut driver = Driver::new(&story, hands, case.seed, case.fault);
    let violation = match driver.run(case.check_each) {
        Ok(()) => return Ok(driver.summary()),
        Err(Trouble::Violated(violation)) => violation,
        Err(Trouble::Failed(why)) => Violation { invariant: "S3", what: why },
    };
    Err(Box::new(Failure { case, violation, ops: driver.recent(), calls: driver.disk().recent_calls() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_printed() {
        for text in ["none", "crash 7", "crash 7 3", "io 12", "full 1"] {
            assert_eq!(text.parse::<Fault>().map(|fault| fault.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("crash".parse::<Fault>(), Err(ParseFaultError));
    }
}
