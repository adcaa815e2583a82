//! The names of a simulated disk: folders that keep a journal of the changes nobody has synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;

use rustix::io::Errno;

use super::contents::Contents;
use super::random::Random;
use crate::fs::{Entry, HomePath, Kind, Metadata};

/// A file or folder, whatever it is called; 0 is the home.
pub(super) type NodeId = u64;
const HOME: NodeId = 0;

/// One change of a folder's names.
#[derive(Debug, Clone)]
enum Change {
    Add(String, NodeId),
    Remove(String),
    /// Within one folder a rename is one step, as file systems promise.
    Move(String, String),
}

/// The names of one folder. What survives a crash is what was durable and some first part of the later changes.
#[derive(Debug, Clone, Default)]
struct Folder {
    durable: BTreeMap<String, NodeId>,
    visible: BTreeMap<String, NodeId>,
    pending: Vec<Change>,
}

/// A simulated file.
#[derive(Debug, Clone, Default)]
pub(super) struct SimFileNode {
    pub(super) contents: Contents,
    pub(super) read_only: bool,
    durable_read_only: bool,
}

#[derive(Debug, Clone)]
enum Node {
    Folder(Folder),
    File(SimFileNode),
}

/// Every file and folder of one disk.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Add(name, node) => {
                names.insert(name, node);
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
            Self::Move(from, to) => {
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
        }
    }
}

impl Folder {
    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.visible);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.visible);
    }

    fn crash(&mut self, random: &mut Random) {
        let kept = random.up_to(self.pending.len());
        for change in mem::take(&mut self.pending).into_iter().take(kept) {
            change.apply(&mut self.durable);
        }
        self.visible.clone_from(&self.durable);
    }
}

impl SimFileNode {
    pub(super) fn sync(&mut self) {
        self.contents.sync();
        self.durable_read_only = self.read_only;
    }

    fn crash(&mut self, random: &mut Random) {
        self.contents.crash(random);
        if self.read_only != self.durable_read_only && random.coin() {
            self.durable_read_only = self.read_only;
        }
        self.read_only = self.durable_read_only;
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(HOME, Node::Folder(Folder::default()))]), next: HOME + 1 }
    }

    pub(super) fn create_file(&mut self, path: &HomePath) -> io::Result<NodeId> {
        self.create(path, Node::File(SimFileNode::default()))
    }

    /// Creates a folder, or finds that there is something of that name.
    pub(super) fn create_folder(&mut self, path: &HomePath) -> io::Result<()> {
        match self.create(path, Node::Folder(Folder::default())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) fn find_file(&self, path: &HomePath) -> io::Result<NodeId> {
        let id = self.find(path)?;
        self.file(id).map(|_| id)
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&SimFileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut SimFileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn rename(&mut self, from: &HomePath, to: &HomePath) -> io::Result<()> {
        let node = self.find_file(from)?;
        match self.find(to) {
            Ok(target) => self.file(target).map(drop)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (source, target) = (self.folder_of(from)?, self.folder_of(to)?);
        if source == target {
            return self.folder_mut(source).map(|folder| folder.change(Change::Move(from.name().into(), to.name().into())));
        }
        // Two folders have two journals: each half may survive without the other.
        self.folder_mut(target)?.change(Change::Add(to.name().into(), node));
        self.folder_mut(source)?.change(Change::Remove(from.name().into()));
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &HomePath) -> io::Result<()> {
        self.find_file(path)?;
        let folder = self.folder_of(path)?;
        self.folder_mut(folder)?.change(Change::Remove(path.name().into()));
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, path: &HomePath) -> io::Result<()> {
        let id = self.find(path)?;
        self.folder_mut(id).map(Folder::sync)
    }

    pub(super) fn metadata(&self, path: &HomePath) -> io::Result<Metadata> {
        Ok(match self.nodes.get(&self.find(path)?) {
            Some(Node::File(file)) => {
                Metadata { kind: Kind::File, size_bytes: file.contents.visible().len() as u64, read_only: file.read_only }
            }
            _ => Metadata { kind: Kind::Folder, size_bytes: 0, read_only: false },
        })
    }

    pub(super) fn list(&self, path: &HomePath) -> io::Result<Vec<Entry>> {
        let names = &self.folder(self.find(path)?)?.visible;
        let is_folder = |id| matches!(self.nodes.get(id), Some(Node::Folder(_)));
        Ok(names.iter().map(|(name, id)| Entry { name: name.clone(), is_folder: is_folder(id) }).collect())
    }

    /// Length of all files that have a name (bytes).
    pub(super) fn used_bytes(&self) -> u64 {
        let named = self.reachable();
        let sizes = self.nodes.iter().filter(|(id, _)| named.contains(id)).map(|(_, node)| match node {
            Node::File(file) => file.contents.visible().len() as u64,
            Node::Folder(_) => 0,
        });
        sizes.sum()
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
        for node in self.nodes.values_mut() {
            match node {
                Node::Folder(folder) => folder.crash(random),
                Node::File(file) => file.crash(random),
            }
        }
        let named = self.reachable();
        self.nodes.retain(|id, _| named.contains(id));
    }

    fn create(&mut self, path: &HomePath, node: Node) -> io::Result<NodeId> {
        if self.find(path).is_ok() {
            return Err(Errno::EXIST.into());
        }
        let folder = self.folder_of(path)?;
        let id = self.next;
        self.folder_mut(folder)?.change(Change::Add(path.name().into(), id));
        self.nodes.insert(id, node);
        self.next += 1;
        Ok(id)
    }

    fn find(&self, path: &HomePath) -> io::Result<NodeId> {
        path.names().try_fold(HOME, |id, name| {
            let found = self.folder(id)?.visible.get(name).copied();
            found.ok_or_else(|| Errno::NOENT.into())
        })
    }

    fn folder_of(&self, path: &HomePath) -> io::Result<NodeId> {
        self.find(&path.parent().ok_or(Errno::BUSY)?)
    }

    fn folder(&self, id: NodeId) -> io::Result<&Folder> {
        match self.nodes.get(&id) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn folder_mut(&mut self, id: NodeId) -> io::Result<&mut Folder> {
        match self.nodes.get_mut(&id) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Everything that has a name. A node has one or, after half a rename has survived, two.
    fn reachable(&self) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::new();
        let mut open = vec![HOME];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(Node::Folder(folder)) = self.nodes.get(&id) {
                open.extend(folder.visible.values());
            }
        }
        seen
    }
}
