//! From what a user names to what is read: a blob, a tree, or the fields of a ref.

use keepwell_protocol::directory::{Directory, FileEntry, Folder, Found};
use keepwell_protocol::json::Json;
use keepwell_protocol::limits::MAX_DIRECTORY_BYTES;
use keepwell_protocol::name::{FileName, Label, RefName};
use keepwell_protocol::uri::{BlobUri, DirUri, RefUri, Target};

use super::backend::Backend;
use super::read::read_whole;
use super::types::LinkLine;
use crate::engine::RefRefusal;
use crate::failure::{Code, Failure};

/// What a name leads to.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// One blob.
    Blob(BlobUri),
    /// Several, as a tree of files.
    Tree(Tree),
}

/// Files and folders under one name.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// What the tree is called.
    pub name: String,
    /// The directory object, if it is the whole of one.
    pub object: Option<BlobUri>,
    /// Folders with their paths, parents first.
    pub folders: Vec<Vec<FileName>>,
    /// Files with their paths.
    pub files: Vec<(Vec<FileName>, BlobUri)>,
}

/// Looks up what `target` leads to.
pub fn resolve(backend: &dyn Backend, target: &Target) -> Result<Resolved, Failure> {
    match target {
        Target::Blob(uri) => Ok(Resolved::Blob(uri.clone())),
        Target::Dir(uri) => in_directory(backend, uri),
        Target::Ref(uri) => in_ref(backend, uri),
    }
}

/// The ref that `uri` means, and what its pointer leads to in the object.
pub fn look_up(backend: &dyn Backend, uri: &RefUri) -> Result<(RefName, Json), Failure> {
    let mut first = None;
    for (name, pointer) in uri.candidates() {
        let Some(obj) = backend.object_of(&name)? else {
            first.get_or_insert(name);
            continue;
        };
        let found = obj.pointer(&pointer).cloned();
        return found.map(|value| (name.clone(), value)).ok_or_else(|| {
            Failure::new(Code::NotFound, format!("the object of ref `{name}` has nothing at `{pointer}`"))
                .hint(format!("look at it with `keepwell ref get {name}`"))
        });
    }
    Err(first.map_or_else(|| Failure::usage("not a ref"), |name| RefRefusal::NotFound(name).into()))
}

/// The path in a directory that `target` leads to; none if it is anything else, also the whole of a directory.
pub fn within_directory(backend: &dyn Backend, target: &Target) -> Result<Option<DirUri>, Failure> {
    match target {
        Target::Dir(uri) => Ok((!uri.path.is_empty()).then(|| uri.clone())),
        Target::Blob(_) => Ok(None),
        Target::Ref(uri) => {
            let mut fields = Vec::new();
            // What cannot be written as files can be fetched all the same.
            let collected = collect(&look_up(backend, uri)?.1, &mut Vec::new(), &mut fields);
            match fields.as_slice() {
                _ if collected.is_err() => Ok(None),
                [(_, Target::Dir(only))] if !only.path.is_empty() => Ok(Some(only.clone())),
                _ => Ok(None),
            }
        }
    }
}

fn in_directory(backend: &dyn Backend, uri: &DirUri) -> Result<Resolved, Failure> {
    let bytes = read_whole(backend, &uri.blob, MAX_DIRECTORY_BYTES)?;
    let directory = Directory::parse(&bytes).map_err(|error| {
        Failure::usage(format!("blob {} is not a directory object: {error}", uri.blob.sha1)).hint("name it as `sha1://HASH`")
    })?;
    let name = uri.path.last().cloned().map(Label::from).or_else(|| uri.blob.label.clone());
    match directory.lookup(&uri.path) {
        Some(Found::File(entry)) => Ok(Resolved::Blob(file_uri(entry, name))),
        Some(Found::Folder(folder)) => {
            let mut tree = Tree { name: BlobUri { label: name, ..uri.blob.clone() }.file_name(), ..Tree::default() };
            tree.object = uri.path.is_empty().then(|| uri.blob.clone());
            tree.add(&[], folder);
            Ok(Resolved::Tree(tree))
        }
        None => Err(Failure::new(Code::NotFound, format!("the directory has nothing at that path: {uri}"))
            .hint("look into it with `keepwell cat sha1://HASH`, HASH being the directory's")),
    }
}

fn in_ref(backend: &dyn Backend, uri: &RefUri) -> Result<Resolved, Failure> {
    let (name, value) = look_up(backend, uri)?;
    let mut fields = Vec::new();
    collect(&value, &mut Vec::new(), &mut fields)?;
    let links = backend.get_ref(&name)?.links;
    fields.iter_mut().for_each(|(_, target)| mean(target, &links));
    match fields.as_slice() {
        [] => Err(Failure::usage(format!("{uri} names no blob")).hint(format!("look at it with `keepwell ref get {name}`"))),
        [(_, only)] => resolve(backend, only),
        _ => {
            let mut tree = Tree { name: name.key().to_owned(), ..Tree::default() };
            for (path, target) in fields {
                tree.add_target(backend, &path, &target)?;
            }
            Ok(Resolved::Tree(tree))
        }
    }
}

/// Makes a target mean the very blob that its ref means: not another one that happens to have its SHA-1.
fn mean(target: &mut Target, links: &[LinkLine]) {
    let uri = match target {
        Target::Blob(uri) => uri,
        Target::Dir(uri) => &mut uri.blob,
        Target::Ref(_) => return,
    };
    let sha1 = uri.sha1.to_string();
    let b3 = links.iter().filter(|link| link.sha1 == sha1).find_map(|link| link.b3.as_ref()?.parse().ok());
    uri.b3 = uri.b3.or(b3);
}

/// Every string in `value` that is the URI of a blob or a directory, under the keys that lead to it.
fn collect(value: &Json, path: &mut Vec<String>, fields: &mut Vec<(Vec<FileName>, Target)>) -> Result<(), Failure> {
    let mut enter = |key: String, inner: &Json| {
        path.push(key);
        let outcome = collect(inner, path, fields);
        path.pop();
        outcome
    };
    match value {
        Json::Object(members) => members.iter().try_for_each(|(key, inner)| enter(key.clone(), inner)),
        Json::Array(items) => items.iter().enumerate().try_for_each(|(index, inner)| enter(index.to_string(), inner)),
        Json::String(text) if text.starts_with(BlobUri::SCHEME) || text.starts_with(DirUri::SCHEME) => {
            fields.push((path.iter().map(|key| field_name(key)).collect::<Result<_, _>>()?, text.parse()?));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A key as the name of a file. Keys may hold what file names may not.
fn field_name(key: &str) -> Result<FileName, Failure> {
    FileName::parse(key).map_err(|error| {
        Failure::usage(format!("the field {key:?} cannot be the name of a file: {error}"))
            .hint("get the fields one by one: `keepwell get keepwell://group/key/FIELD --to PATH`")
    })
}

fn file_uri(entry: &FileEntry, label: Option<Label>) -> BlobUri {
    BlobUri { label, ..BlobUri::from(*entry) }
}

impl Tree {
    fn add(&mut self, at: &[FileName], folder: &Folder) {
        let below = |name: &FileName| [at, std::slice::from_ref(name)].concat();
        for (name, entry) in folder.files() {
            self.files.push((below(name), file_uri(entry, Some(name.clone().into()))));
        }
        for (name, inner) in folder.dirs() {
            let path = below(name);
            self.folders.push(path.clone());
            self.add(&path, inner);
        }
    }

    fn add_target(&mut self, backend: &dyn Backend, path: &[FileName], target: &Target) -> Result<(), Failure> {
        for end in 1..path.len() {
            let folder = path[..end].to_vec();
            if !self.folders.contains(&folder) {
                self.folders.push(folder);
            }
        }
        match resolve(backend, target)? {
            Resolved::Blob(uri) => self.files.push((path.to_vec(), uri)),
            Resolved::Tree(inner) => {
                self.folders.push(path.to_vec());
                let below = |names: Vec<FileName>| [path, &names].concat();
                self.folders.extend(inner.folders.into_iter().map(below));
                self.files.extend(inner.files.into_iter().map(|(names, uri)| (below(names), uri)));
            }
        }
        Ok(())
    }
}
