//! The simulated disk as a file system of blobs.

use std::fs::File;
use std::io::{self, Read};

use keepwell_protocol::gc::pressure::Room;
use rustix::io::Errno;

use super::tree::{NodeId, SimFileNode};
use super::{Handle, World, disk_full, read_visible, write_within_capacity};
use crate::fs::{BlobFile, BlobFs, DurableFolders, Entry, HomePath, Metadata};

/// The files of a simulated disk, for one life of its machine.
#[derive(Debug)]
pub struct SimFs {
    handle: Handle,
    folders: DurableFolders,
}

impl SimFs {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, folders: DurableFolders::default() }
    }

    fn opened(&self, node: NodeId, writable: bool) -> Box<dyn BlobFile> {
        Box::new(SimFile { handle: self.handle.clone(), node, writable })
    }
}

impl BlobFs for SimFs {
    fn create_new(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        let node = self.handle.call("create", |world| world.tree.create_file(path))?;
        Ok(self.opened(node, true))
    }

    fn open(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        let node = self.handle.call("open", |world| world.tree.find_file(path))?;
        Ok(self.opened(node, false))
    }

    fn open_to_write(&self, path: &HomePath) -> io::Result<Box<dyn BlobFile>> {
        let node = self.handle.call("open to write", |world| {
            let node = world.tree.find_file(path)?;
            if world.tree.file(node)?.read_only { Err(Errno::ACCESS.into()) } else { Ok(node) }
        })?;
        Ok(self.opened(node, true))
    }

    fn rename(&self, from: &HomePath, to: &HomePath) -> io::Result<()> {
        self.handle.call("rename", |world| world.tree.rename(from, to))
    }

    fn unlink(&self, path: &HomePath) -> io::Result<()> {
        self.handle.call("unlink", |world| world.tree.unlink(path))
    }

    fn sync_folder(&self, path: &HomePath) -> io::Result<()> {
        self.handle.call("folder sync", |world| {
            if world.lies.folder_syncs { world.tree.metadata(path).map(drop) } else { world.tree.sync_folder(path) }
        })
    }

    fn create_folder(&self, path: &HomePath) -> io::Result<()> {
        self.handle.call("create folder", |world| world.tree.create_folder(path))
    }

    fn metadata(&self, path: &HomePath) -> io::Result<Metadata> {
        self.handle.call("metadata", |world| world.tree.metadata(path))
    }

    fn list(&self, path: &HomePath) -> io::Result<Vec<Entry>> {
        self.handle.call("list", |world| world.tree.list(path))
    }

    /// The capacity of this disk is like a quota: it shows in what fails, and nowhere before.
    fn room(&self) -> io::Result<Room> {
        Ok(Room { total_bytes: u64::MAX, used_bytes: 0 })
    }

    fn durable_folders(&self) -> &DurableFolders {
        &self.folders
    }
}

/// An open simulated file; like a real one it outlives its name.
struct SimFile {
    handle: Handle,
    node: NodeId,
    writable: bool,
}

impl SimFile {
    fn change<T>(&self, kind: &'static str, act: impl FnOnce(&mut SimFileNode) -> T) -> io::Result<T> {
        self.handle.call(kind, |world| world.tree.file_mut(self.node).map(act))
    }

    fn contents(world: &mut World, node: NodeId) -> io::Result<&mut super::Contents> {
        Ok(&mut world.tree.file_mut(node)?.contents)
    }
}

impl BlobFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset_bytes: u64) -> io::Result<usize> {
        self.handle.call("file read", |world| read_visible(&world.tree.file(self.node)?.contents, buffer, offset_bytes))
    }

    fn write_all_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.handle.call("file write", |world| {
            if !self.writable {
                return Err(Errno::BADF.into());
            }
            write_within_capacity(world, |world| Self::contents(world, self.node), bytes, offset_bytes)
        })
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.change("file length", |file| file.contents.visible().len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.call("file sync", |world| {
            let lies = world.lies.file_syncs;
            let file = world.tree.file_mut(self.node)?;
            if !lies {
                file.sync();
            }
            Ok(())
        })
    }

    fn cut(&self, size_bytes: u64) -> io::Result<()> {
        let size = usize::try_from(size_bytes).map_err(io::Error::other)?;
        self.change("file cut", |file| file.contents.set_len(size))
    }

    fn set_read_only(&self) -> io::Result<()> {
        self.change("file mode", |file| file.read_only = true)
    }

    fn clone_from_file(&self, source: &File) -> io::Result<bool> {
        self.handle.call("file clone", |world| {
            if !world.can_clone {
                return Ok(false);
            }
            let mut bytes = Vec::new();
            let mut source = source;
            source.read_to_end(&mut bytes)?;
            if world.room_for(bytes.len() as u64) < bytes.len() as u64 {
                return Err(disk_full());
            }
            Self::contents(world, self.node)?.write(0, &bytes);
            Ok(true)
        })
    }
}
