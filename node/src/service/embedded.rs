//! A home that this process works on by itself, as a backend of commands: services, called directly.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::json::{self, Json};
use keepwell_protocol::name::{OwnerName, RefName};
use keepwell_protocol::uri::BlobUri;

use super::Node;
use super::backend::{Backend, Extent, Fetched, OpenBlob, Puts, Sink, Watch};
use super::events::{self, EventLine, EventQuery};
use super::fsck::{self, FsckOptions};
use super::gc::Wish;
use super::leases::{self, LeaseLine};
use super::list::{self, Query};
use super::put::{Outcome, Progress, PutOptions, Putter};
use super::read::{self, Blob, ReadError};
use super::refs::{self, SetRef};
use super::stat::{self, Asked};
use super::types::{DropLine, FsckLine, GcReport, InviteLine, NodeLine, ProblemLine, RefLine, StatLine, StatusLine, WhereLine};
use super::uploads::{self, UploadLine};
use super::why::{WhyLine, why};
use super::{drop, durable, gc, network, status};
use crate::api::socket::User;
use crate::engine::LeaseOp;
use crate::failure::{Code, Failure};
use crate::home::owner::user_of_this_process;
use crate::limits::LIST_EVENTS;
use crate::local::Local;

impl Backend for Local {
    fn open(&self, uri: &BlobUri) -> Result<Box<dyn OpenBlob + '_>, Failure> {
        Ok(Box::new(read::open(self, uri)?))
    }

    fn object_of(&self, name: &RefName) -> Result<Option<Json>, Failure> {
        let row = self.store().snapshot()?.item(&Item::reference(name.as_str()))?;
        row.winner().map(|value| Ok(json::parse_object(&refs::body_of(value)?.obj)?)).transpose()
    }

    fn missing(&self, blobs: &[BlobId]) -> Result<Vec<BlobId>, Failure> {
        let snapshot = self.store().snapshot()?;
        let mut missing = Vec::new();
        for id in blobs {
            if snapshot.blob(id)?.is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    fn putter<'a>(&'a self, options: PutOptions, progress: &'a mut Progress<'a>) -> Box<dyn Puts + 'a> {
        Box::new(Putter::new(self, options, progress))
    }

    fn stat(&self, asked: &[Asked]) -> Result<Vec<StatLine>, Failure> {
        stat::stat(self, asked)
    }

    fn set_ref(&self, set: SetRef) -> Result<RefLine, Failure> {
        refs::set(self, set)
    }

    fn set_fields(&self, name: &RefName, fields: Vec<(String, String)>) -> Result<RefLine, Failure> {
        refs::set_fields(self, name, fields)
    }

    fn get_ref(&self, name: &RefName) -> Result<RefLine, Failure> {
        refs::get(self, name)
    }

    fn confirm_ref(&self, name: &RefName, _wait_ms: u64) -> Result<RefLine, Failure> {
        if self.nodes()?.len() > 1 {
            return Err(needs_daemon("proving copies", "the other nodes must be asked"));
        }
        durable::confirm(self, name)
    }

    fn remove_ref(&self, name: &RefName, if_rev: Option<String>) -> Result<RefLine, Failure> {
        refs::remove(self, name, if_rev)
    }

    fn remove_refs(&self, refs: &[(RefName, String)]) -> Result<(), Failure> {
        refs::remove_all(self, refs)
    }

    fn touch_ref(&self, name: &RefName) -> Result<RefLine, Failure> {
        refs::touch(self, name)
    }

    fn list_refs(&self, query: &Query, each: &mut dyn FnMut(RefLine) -> Result<(), Failure>) -> Result<Option<String>, Failure> {
        list::list(self, query, each)
    }

    fn holders(&self, blob: &BlobId) -> Result<WhereLine, Failure> {
        let node = self.engine().home().node;
        network::holders(self, &node, blob)
    }

    fn why(&self, blob: &BlobId) -> Result<WhyLine, Failure> {
        let node = self.engine().home().node;
        why(self, &node, blob)
    }

    fn nodes(&self) -> Result<Vec<NodeLine>, Failure> {
        let node = self.engine().home().node;
        network::nodes(self, &node, &BTreeMap::new())
    }

    fn declare(&self, member: &str, is_dead: bool) -> Result<NodeLine, Failure> {
        let node = self.engine().home().node;
        network::declare(self, &node, member, is_dead)
    }

    fn remove_member(&self, member: &str) -> Result<NodeLine, Failure> {
        let node = self.engine().home().node;
        network::remove(self, &node, member)
    }

    fn invite(&self, _admin: bool, _uses: u32, _lasts_ms: u64) -> Result<InviteLine, Failure> {
        Err(needs_daemon("inviting", "whoever is invited comes to it"))
    }

    fn fetch(&self, _blobs: &[BlobId], _extent: Extent, _watch: &mut Watch<'_>) -> Result<Option<Vec<Fetched>>, Failure> {
        Ok(None)
    }

    fn lease(&self, op: LeaseOp) -> Result<LeaseLine, Failure> {
        leases::change(self, op)
    }

    fn uploads(&self) -> Result<Vec<UploadLine>, Failure> {
        uploads::list(self)
    }

    fn remove_upload(&self, name: &OwnerName) -> Result<UploadLine, Failure> {
        uploads::remove(self, name)
    }

    fn leases(&self) -> Result<Vec<LeaseLine>, Failure> {
        leases::list(self)
    }

    fn collect(&self, wish: Wish) -> Result<GcReport, Failure> {
        if wish.run && self.nodes()?.len() > 1 {
            return Err(needs_daemon("deleting", "the other nodes must say first that they know"));
        }
        gc::collect(self, wish)
    }

    fn drop_copies(&self, blobs: &[BlobId], from: Option<&str>) -> Result<Vec<DropLine>, Failure> {
        // A name that nobody has is told before that there is no daemon.
        from.map(|from| network::member_of(&*self.store().snapshot()?, from)).transpose()?;
        if self.nodes()?.len() > 1 {
            return Err(needs_daemon("giving up copies", "other nodes must prove theirs first"));
        }
        drop::drop_copies(self, blobs, from)
    }

    fn give_up(&self, blobs: &[BlobId]) -> Result<Vec<DropLine>, Failure> {
        if self.nodes()?.len() > 1 {
            return Err(needs_daemon("giving up copies", "other nodes may be asking about them"));
        }
        let user =
            user_of_this_process().map_err(|error| Failure::new(Code::Internal, format!("this user is not known: {error}")))?;
        drop::give_up(self, blobs, &User(user).to_string())
    }

    fn undrop(&self, blob: &BlobId) -> Result<DropLine, Failure> {
        gc::undrop(self, blob)
    }

    fn events(
        &self,
        query: EventQuery,
        follow: bool,
        each: &mut dyn FnMut(EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if follow {
            return Err(needs_daemon("following events", "nothing happens to a home that nobody has open"));
        }
        let (mut query, mut more) = (query, true);
        while more {
            let (lines, next) = events::list(self, query, LIST_EVENTS)?;
            lines.into_iter().try_for_each(&mut *each)?;
            more = next.is_some();
            query.cursor = next;
        }
        Ok(())
    }

    fn fsck(&self, verify: bool, each: &mut dyn FnMut(ProblemLine)) -> Result<FsckLine, Failure> {
        fsck::fsck(self, FsckOptions { verify, repair: false }, each)
    }

    fn status(&self, max_size_bytes: Option<u64>) -> Result<StatusLine, Failure> {
        status::status(self, max_size_bytes, false)
    }
}

impl OpenBlob for Blob {
    fn id(&self) -> BlobId {
        Blob::id(self)
    }

    fn size_bytes(&self) -> u64 {
        Blob::size_bytes(self)
    }

    fn copy_range(&self, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        Blob::copy_range(self, range, sink)
    }
}

impl Puts for Putter<'_> {
    fn put_path(&mut self, number: usize, path: &Path) -> Result<Vec<Outcome>, Failure> {
        Putter::put_path(self, number, path)
    }

    fn put_stream(&mut self, number: usize, source: &mut dyn Read) -> Result<Vec<Outcome>, Failure> {
        Putter::put_stream(self, number, source)
    }

    fn put_bytes(&mut self, number: usize, bytes: &[u8], children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure> {
        Putter::put_bytes(self, number, bytes, children)
    }

    fn finish(self: Box<Self>) -> Result<Vec<Outcome>, Failure> {
        Putter::finish(*self)
    }
}

/// What cannot be done without a daemon, and why not.
pub fn needs_daemon(what: &str, why: &str) -> Failure {
    Failure::new(Code::Unreachable, format!("{what} needs the daemon: {why}")).hint("start it with `keepwell up`")
}
