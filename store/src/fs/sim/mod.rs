//! A disk that exists in memory and forgets, when its machine crashes, some of what nobody synced.
//!
//! Files and databases share one disk, one generator and one counter of calls, so a test can say "crash at the k-th call"
//! and mean any moment of a program. The seed and the order of calls decide everything.
//!
//! What a crash leaves: synced bytes and synced names, always. Of unsynced writes any selection, torn between sectors or present as zeros.
//! Of the changes to one folder some first part, in order; two folders are independent. A handle from before a restart is dead.

mod backend;
mod contents;
mod files;
mod random;
mod tree;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use self::contents::Contents;
use self::random::Random;
use self::tree::Tree;
use super::HomePath;

pub use self::backend::SimBackend;
pub use self::files::SimFs;

/// The latest calls that are remembered, for whoever must understand a failure.
const RECENT_CALLS: usize = 20;

/// A simulated disk with its machine. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The disk, the machine, and what is to go wrong.
#[derive(Debug, Clone)]
struct State {
    world: World,
    random: Random,
    /// Calls since the disk was made.
    calls: u64,
    recent: VecDeque<(u64, &'static str)>,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    full_at: Option<u64>,
    crashed: bool,
    /// Planned faults that have struck.
    faults: u64,
    /// Counts restarts; a handle works in the life it was opened in.
    life: u64,
}

/// What a call can change.
#[derive(Debug, Clone)]
struct World {
    tree: Tree,
    databases: BTreeMap<String, Contents>,
    capacity_bytes: Option<u64>,
    can_clone: bool,
    lies: Lies,
}

/// Which syncs are answered and not made: a disk that breaks its word, to show that the tests notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    /// Those of files.
    pub file_syncs: bool,
    /// Those of folders.
    pub folder_syncs: bool,
    /// Those of databases.
    pub database_syncs: bool,
}

impl SimDisk {
    /// An empty disk. Equal seeds and equal calls give equal disks.
    pub fn new(seed: u64) -> Self {
        let world = World {
            tree: Tree::new(),
            databases: BTreeMap::new(),
            capacity_bytes: None,
            can_clone: false,
            lies: Lies::default(),
        };
        let state = State {
            world,
            random: Random::new(seed),
            calls: 0,
            recent: VecDeque::new(),
            crash_at: None,
            fail_at: None,
            full_at: None,
            crashed: false,
            faults: 0,
            life: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The files of this disk, for the present life of the machine.
    pub fn fs(&self) -> SimFs {
        SimFs::new(self.handle())
    }

    /// The database of this name, made empty when there is none, for the present life of the machine. Its name is durable.
    pub fn backend(&self, name: &str) -> SimBackend {
        self.lock().world.databases.entry(name.to_owned()).or_default();
        SimBackend::new(self.handle(), name)
    }

    /// Removes the database of this name, durably.
    pub fn remove_database(&self, name: &str) {
        self.lock().world.databases.remove(name);
    }

    /// A copy of the disk as it is, dead or alive, that goes its own way with its own seed.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let state = State { random: Random::new(seed), ..self.lock().clone() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Calls since the disk was made, failed ones included.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The latest calls, oldest first: number and kind.
    pub fn recent_calls(&self) -> Vec<(u64, &'static str)> {
        self.lock().recent.iter().copied().collect()
    }

    /// Planned faults that have struck: crashes, failed calls, and a disk that began to be full.
    pub fn faults(&self) -> u64 {
        self.lock().faults
    }

    /// Lets the machine crash at its call of this number (1 is the disk's first). That call may take effect, and fails; so does
    /// every later one until [`SimDisk::restart`].
    pub fn crash_at(&self, call: u64) {
        self.lock().crash_at = Some(call);
    }

    /// Lets the machine crash now.
    pub fn crash(&self) {
        self.lock().crashed = true;
    }

    /// Whether the machine has crashed and was not restarted.
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Fails the call of this number with an input/output error, once and without effect.
    pub fn fail_at(&self, call: u64) {
        self.lock().fail_at = Some(call);
    }

    /// Lets the disk be full from the call of this number on: what it holds by then is its capacity.
    pub fn full_at(&self, call: u64) {
        self.lock().full_at = Some(call);
    }

    /// Answers syncs without making them.
    pub fn set_lies(&self, lies: Lies) {
        self.lock().world.lies = lies;
    }

    /// Lets the disk be full now: what it holds is its capacity.
    pub fn fill(&self) {
        let world = &mut self.lock().world;
        world.capacity_bytes = Some(world.used_bytes());
    }

    /// Limits what files and databases may hold together (bytes); `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().world.capacity_bytes = bytes;
    }

    /// Whether files can be cloned from outside (reflink), which they cannot at first.
    pub fn set_can_clone(&self, can: bool) {
        self.lock().world.can_clone = can;
    }

    /// Flips the lowest bit of one byte of a file, as an ageing disk does.
    ///
    /// # Errors
    /// When there is no such file or byte.
    pub fn flip_bit(&self, path: &HomePath, offset_bytes: u64) -> io::Result<()> {
        let world = &mut self.lock().world;
        let file = world.tree.find_file(path)?;
        let flipped = world.tree.file_mut(file)?.contents.flip_bit(to_index(offset_bytes)?);
        if flipped { Ok(()) } else { Err(Errno::INVAL.into()) }
    }

    /// The length of a database, in bytes.
    pub fn index_bytes(&self, name: &str) -> usize {
        self.lock().world.databases.get(name).map_or(0, |contents| contents.visible().len())
    }

    /// Flips the lowest bit of one byte of a database; whether there is such a byte.
    pub fn flip_index_bit(&self, name: &str, offset_bytes: usize) -> bool {
        self.lock().world.databases.get_mut(name).is_some_and(|contents| contents.flip_bit(offset_bytes))
    }

    /// Starts the machine again with what survived, whether it had crashed or not. Planned faults are forgotten.
    pub fn restart(&self) {
        let state = &mut *self.lock();
        state.world.tree.crash(&mut state.random);
        state.world.databases.values_mut().for_each(|database| database.crash(&mut state.random));
        state.begin_life();
    }

    /// Starts only the process again, as after `kill -9`: handles die, but the machine keeps what it had not yet written.
    /// Planned faults are forgotten. A machine that has crashed needs [`SimDisk::restart`].
    pub fn restart_process(&self) {
        let state = &mut *self.lock();
        if !state.crashed {
            state.begin_life();
        }
    }

    fn handle(&self) -> Handle {
        Handle { disk: self.clone(), life: self.lock().life }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin_call(&mut self, kind: &'static str) {
        self.calls += 1;
        if self.recent.len() == RECENT_CALLS {
            self.recent.pop_front();
        }
        self.recent.push_back((self.calls, kind));
    }

    fn begin_life(&mut self) {
        self.crashed = false;
        self.crash_at = None;
        self.fail_at = None;
        self.full_at = None;
        self.life += 1;
    }
}

impl World {
    /// How many of `more` bytes still fit.
    fn room_for(&self, more: u64) -> u64 {
        self.free_bytes().min(more)
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn used_bytes(&self) -> u64 {
        let databases: u64 = self.databases.values().map(|database| database.visible().len() as u64).sum();
        databases + self.tree.used_bytes()
    }
}

/// The way of every call to the disk: counted, and failing when it is told to.
#[derive(Debug, Clone)]
struct Handle {
    disk: SimDisk,
    life: u64,
}

impl Handle {
    fn call<T>(&self, kind: &'static str, act: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.disk.lock();
        if state.crashed || self.life != state.life {
            return Err(machine_is_down());
        }
        state.begin_call(kind);
        if state.full_at == Some(state.calls) {
            state.faults += 1;
            state.world.capacity_bytes = Some(state.world.used_bytes());
        }
        if state.fail_at == Some(state.calls) {
            state.faults += 1;
            return Err(Errno::IO.into());
        }
        if state.crash_at != Some(state.calls) {
            return act(&mut state.world);
        }
        // The call may have reached the disk before the power went; nobody hears of it.
        state.crashed = true;
        state.faults += 1;
        if state.random.coin() {
            act(&mut state.world).ok();
        }
        Err(machine_is_down())
    }
}

fn machine_is_down() -> io::Error {
    io::Error::other("the simulated machine is down")
}

fn disk_full() -> io::Error {
    Errno::NOSPC.into()
}

/// Writes what fits, as a disk does, and fails when that is not all.
fn write_within_capacity(
    world: &mut World,
    contents: impl Fn(&mut World) -> io::Result<&mut Contents>,
    bytes: &[u8],
    offset_bytes: u64,
) -> io::Result<()> {
    let offset = to_index(offset_bytes)?;
    let end = offset.checked_add(bytes.len()).ok_or(Errno::FBIG)?;
    let grows = end.saturating_sub(contents(world)?.visible().len());
    let missing = to_index(grows as u64 - world.room_for(grows as u64))?;
    let fits = bytes.len().saturating_sub(missing);
    contents(world)?.write(offset, &bytes[..fits]);
    if missing == 0 { Ok(()) } else { Err(disk_full()) }
}

fn read_visible(contents: &Contents, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
    let rest = contents.visible().get(to_index(offset_bytes)?..).unwrap_or_default();
    let count = rest.len().min(buffer.len());
    buffer[..count].copy_from_slice(&rest[..count]);
    Ok(count)
}

fn to_index(offset_bytes: u64) -> io::Result<usize> {
    usize::try_from(offset_bytes).map_err(|_| Errno::FBIG.into())
}

#[cfg(test)]
mod tests;
