//! The simulated disk as the storage of a database: the same counter, the same crashes as its files.

use std::io;

use redb::StorageBackend;
use rustix::io::Errno;

use super::{Contents, Handle, World, disk_full, read_visible, to_index, write_within_capacity};

/// One database on a simulated disk, for one life of its machine.
#[derive(Debug)]
pub struct SimBackend {
    handle: Handle,
    name: String,
}

impl SimBackend {
    pub(super) fn new(handle: Handle, name: &str) -> Self {
        Self { handle, name: name.to_owned() }
    }

    fn call<T>(&self, kind: &'static str, act: impl FnOnce(&mut Contents) -> io::Result<T>) -> io::Result<T> {
        self.handle.call(kind, |world| act(contents(world, &self.name)?))
    }
}

fn contents<'a>(world: &'a mut World, name: &str) -> io::Result<&'a mut Contents> {
    world.databases.get_mut(name).ok_or_else(|| Errno::NOENT.into())
}

impl StorageBackend for SimBackend {
    fn len(&self) -> io::Result<u64> {
        self.call("index length", |contents| Ok(contents.visible().len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.call("index read", |contents| {
            let count = read_visible(contents, out, offset)?;
            if count == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.handle.call("index resize", |world| {
            let grows = len.saturating_sub(contents(world, &self.name)?.visible().len() as u64);
            if world.room_for(grows) < grows {
                return Err(disk_full());
            }
            contents(world, &self.name)?.set_len(to_index(len)?);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.handle.call("index sync", |world| {
            if !world.lies.database_syncs {
                contents(world, &self.name)?.sync();
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.handle.call("index write", |world| write_within_capacity(world, |world| contents(world, &self.name), data, offset))
    }
}
