//! What commands need of a home, whoever keeps it open: this process by itself, or a daemon that is asked.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use keepwell_protocol::id::BlobId;
use keepwell_protocol::json::Json;
use keepwell_protocol::name::{OwnerName, RefName};
use keepwell_protocol::uri::BlobUri;

use super::events::{EventLine, EventQuery};
use super::gc::Wish;
use super::leases::LeaseLine;
use super::list::Query;
use super::put::{Outcome, Progress, PutOptions};
use super::read::ReadError;
use super::refs::SetRef;
use super::stat::Asked;
use super::types::{
    DropLine, FetchLine, FsckLine, GcReport, InviteLine, NodeLine, ProblemLine, RefLine, StatLine, StatusLine, WhereLine,
};
use super::uploads::UploadLine;
use super::why::WhyLine;
use crate::engine::LeaseOp;
use crate::failure::Failure;

/// Takes the bytes of a blob, piece by piece.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// How far a fetch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The blobs and everything that they refer to.
    Closure,
    /// The blobs alone.
    Flat,
}

/// What became of the fetch of one blob.
pub type Fetched = Result<FetchLine, Failure>;

/// Is told how many bytes a fetch has brought, and how many it knows that it is to bring.
pub type Watch<'a> = dyn FnMut(u64, u64) + 'a;

/// A home that can be worked on.
pub trait Backend {
    /// Opens a blob. If the URI says which BLAKE3 it has, a blob with another one is not it.
    fn open(&self, uri: &BlobUri) -> Result<Box<dyn OpenBlob + '_>, Failure>;

    /// The object of a ref; none if there is no such ref.
    fn object_of(&self, name: &RefName) -> Result<Option<Json>, Failure>;

    /// Those of `blobs` that cannot be opened.
    fn missing(&self, blobs: &[BlobId]) -> Result<Vec<BlobId>, Failure>;

    /// Begins a put.
    fn putter<'a>(&'a self, options: PutOptions, progress: &'a mut Progress<'a>) -> Box<dyn Puts + 'a>;

    /// What is known of blobs: one line each, in order.
    fn stat(&self, asked: &[Asked]) -> Result<Vec<StatLine>, Failure>;

    /// Sets a ref.
    fn set_ref(&self, set: SetRef) -> Result<RefLine, Failure>;

    /// Sets fields of a ref's object, and leaves all else of it as it is.
    fn set_fields(&self, name: &RefName, fields: Vec<(String, String)>) -> Result<RefLine, Failure>;

    /// Reads a ref, with what it is in conflict with.
    fn get_ref(&self, name: &RefName) -> Result<RefLine, Failure>;

    /// Asks the others until as many copies are proven as the ref asks for, for so long at most: the ref, with the copies that are proven.
    fn confirm_ref(&self, name: &RefName, wait_ms: u64) -> Result<RefLine, Failure>;

    /// Removes a ref; what it was.
    fn remove_ref(&self, name: &RefName, if_rev: Option<String>) -> Result<RefLine, Failure>;

    /// Removes all of these refs if each has this rev, or none.
    fn remove_refs(&self, refs: &[(RefName, String)]) -> Result<(), Failure>;

    /// Uses a ref, which puts off its expiry.
    fn touch_ref(&self, name: &RefName) -> Result<RefLine, Failure>;

    /// Gives the refs that are asked for to `each`, in order of name. Where the list was cut, if it was.
    fn list_refs(&self, query: &Query, each: &mut dyn FnMut(RefLine) -> Result<(), Failure>) -> Result<Option<String>, Failure>;

    /// Who holds a blob, as their logs say.
    fn holders(&self, blob: &BlobId) -> Result<WhereLine, Failure>;

    /// Why a blob is kept here.
    fn why(&self, blob: &BlobId) -> Result<WhyLine, Failure>;

    /// The members of the network.
    fn nodes(&self) -> Result<Vec<NodeLine>, Failure>;

    /// Says that the member of this name or id is dead, or alive after all.
    fn declare(&self, member: &str, is_dead: bool) -> Result<NodeLine, Failure>;

    /// Removes the member of this name or id; what was known of it.
    fn remove_member(&self, member: &str) -> Result<NodeLine, Failure>;

    /// Invites machines. Needs the daemon: it is whom they come to.
    fn invite(&self, admin: bool, uses: u32, lasts_ms: u64) -> Result<InviteLine, Failure>;

    /// Fetches what is missing here of `blobs`, to this extent, one outcome each, and tells `watch` how far it is. None without a
    /// daemon, which has the connections.
    fn fetch(&self, blobs: &[BlobId], extent: Extent, watch: &mut Watch<'_>) -> Result<Option<Vec<Fetched>>, Failure>;

    /// Takes a lease, or changes one; what it is then.
    fn lease(&self, op: LeaseOp) -> Result<LeaseLine, Failure>;

    /// The leases that have not ended.
    fn leases(&self) -> Result<Vec<LeaseLine>, Failure>;

    /// What clients are uploading in pieces.
    fn uploads(&self) -> Result<Vec<UploadLine>, Failure>;

    /// Gives an upload up.
    fn remove_upload(&self, name: &OwnerName) -> Result<UploadLine, Failure>;

    /// Purges what nothing needs, or tells what a run would purge.
    fn collect(&self, wish: Wish) -> Result<GcReport, Failure>;

    /// Gives up the copies of `blobs` that this node has, or the member `from`, as far as others prove theirs: one line each, in order.
    fn drop_copies(&self, blobs: &[BlobId], from: Option<&str>) -> Result<Vec<DropLine>, Failure>;

    /// Gives up the copies of `blobs` that this node has without proof of others: one line each, in order. Who asks is this process's user.
    fn give_up(&self, blobs: &[BlobId]) -> Result<Vec<DropLine>, Failure>;

    /// Brings a deleted blob back from the trash.
    fn undrop(&self, blob: &BlobId) -> Result<DropLine, Failure>;

    /// Gives what has happened here to `each`, the oldest first; to `follow`, also what happens from now on, which needs the daemon.
    fn events(
        &self,
        query: EventQuery,
        follow: bool,
        each: &mut dyn FnMut(EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure>;

    /// Compares the records with the disk, every byte if `verify`, and gives what is wrong to `each`. Nothing is mended.
    fn fsck(&self, verify: bool, each: &mut dyn FnMut(ProblemLine)) -> Result<FsckLine, Failure>;

    /// How the node does. A daemon goes by its own settings, not by this limit.
    fn status(&self, max_size_bytes: Option<u64>) -> Result<StatusLine, Failure>;
}

/// A blob that can be read.
pub trait OpenBlob {
    /// Its name.
    fn id(&self) -> BlobId;

    /// Its size.
    fn size_bytes(&self) -> u64;

    /// Gives the bytes of `range`, which lies within the blob, to `sink`.
    fn copy_range(&self, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), ReadError>;

    /// Gives all of it to `sink`.
    fn copy(&self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        self.copy_range(0..self.size_bytes(), sink)
    }
}

/// A put of many blobs. What comes back from each call is final: blobs of this and of earlier calls.
pub trait Puts {
    /// Puts a file.
    fn put_path(&mut self, number: usize, path: &Path) -> Result<Vec<Outcome>, Failure>;

    /// Puts what a stream gives.
    fn put_stream(&mut self, number: usize, source: &mut dyn Read) -> Result<Vec<Outcome>, Failure>;

    /// Puts bytes that link to `children` besides what the options say.
    fn put_bytes(&mut self, number: usize, bytes: &[u8], children: Vec<BlobId>) -> Result<Vec<Outcome>, Failure>;

    /// Records what is still waiting.
    fn finish(self: Box<Self>) -> Result<Vec<Outcome>, Failure>;
}
