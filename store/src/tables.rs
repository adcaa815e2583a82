//! Every table of the index, on one page.
//!
//! Primary tables are the data itself: the log, the records of blobs and the small blobs. Derived tables follow from the log; `fsck`
//! rebuilds them, and the rebuild equals what was there. Counted tables follow from the log and the records, and are filled again
//! with the derived ones; what they count may depend on the order of what happened, so they are not compared. Rows are `wire` records
//! unless the type says otherwise.

use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, Value, WriteTransaction};

/// A position in the log of (node, boot): node, boot, seq.
pub(crate) type Position = (&'static [u8; 32], &'static [u8; 16], u64);
/// Where a boot forked: node, boot, seq, hash of the last entry before.
pub(crate) type ForkKey = (&'static [u8; 32], &'static [u8; 16], u64, &'static [u8; 32]);
/// A change of a document, by its hash and the boot that wrote it: shard, epoch, hash, boot.
pub(crate) type ChangeKey = (u8, u32, &'static [u8; 32], &'static [u8; 16]);
/// The id of a link fact under its parent: parent, boot, seq, index.
pub(crate) type FactKey = (&'static [u8; 20], &'static [u8; 16], u64, u32);

/// A write to an item that authority rests on: kind, key, boot, seq, index.
pub(crate) type AuthorityKey = (u16, &'static str, &'static [u8; 16], u64, u32);

/// A write that removes a member: node, boot, seq, index.
pub(crate) type RemovalKey = (&'static [u8; 32], &'static [u8; 16], u64, u32);

/// A value of a ref by when it lapses: Unix milliseconds, name of the ref, boot, seq, index.
pub(crate) type ExpiryKey = (u64, &'static str, &'static [u8; 16], u64, u32);

/// How tables are reached: to read, or to read and write.
pub trait Access {
    /// A table of this access.
    type Of<K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>;
}

/// Tables of a snapshot.
#[derive(Debug)]
pub struct Reading;

impl Access for Reading {
    type Of<K: Key + 'static, V: Value + 'static> = ReadOnlyTable<K, V>;
}

/// Tables of a write transaction.
#[derive(Debug)]
pub struct Writing<'t>(std::marker::PhantomData<&'t ()>);

impl<'t> Access for Writing<'t> {
    type Of<K: Key + 'static, V: Value + 'static> = Table<'t, K, V>;
}

/// Declares the tables once: their names in the index, their types, and how they are opened.
macro_rules! tables {
    (primary { $($(#[$pdoc:meta])* $pname:ident: $pkey:ty => $pvalue:ty,)* }
     derived { $($(#[$ddoc:meta])* $dname:ident: $dkey:ty => $dvalue:ty,)* }
     counted { $($(#[$cdoc:meta])* $cname:ident: $ckey:ty => $cvalue:ty,)* }) => {
        /// All tables, in a snapshot or a write transaction. What can be asked of them stands in the file of each subject.
        pub struct Tables<A: Access> {
            $($(#[$pdoc])* pub(crate) $pname: A::Of<$pkey, $pvalue>,)*
            $($(#[$ddoc])* pub(crate) $dname: A::Of<$dkey, $dvalue>,)*
            $($(#[$cdoc])* pub(crate) $cname: A::Of<$ckey, $cvalue>,)*
        }

        impl Tables<Reading> {
            pub(crate) fn open(snapshot: &ReadTransaction) -> Result<Self, TableError> {
                Ok(Self {
                    $($pname: snapshot.open_table(TableDefinition::new(stringify!($pname)))?,)*
                    $($dname: snapshot.open_table(TableDefinition::new(stringify!($dname)))?,)*
                    $($cname: snapshot.open_table(TableDefinition::new(stringify!($cname)))?,)*
                })
            }
        }

        impl<'t> Tables<Writing<'t>> {
            pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
                Ok(Self {
                    $($pname: transaction.open_table(TableDefinition::new(stringify!($pname)))?,)*
                    $($dname: transaction.open_table(TableDefinition::new(stringify!($dname)))?,)*
                    $($cname: transaction.open_table(TableDefinition::new(stringify!($cname)))?,)*
                })
            }

            /// Empties every derived and every counted table, for a rebuild.
            pub(crate) fn clear_derived(&mut self) -> Result<(), redb::StorageError> {
                $(self.$dname.retain(|_, _| false)?;)*
                $(self.$cname.retain(|_, _| false)?;)*
                Ok(())
            }
        }

        impl<A: Access> Tables<A> {
            /// A digest of all rows of each derived table, by the table's name: equal if and only if the tables are.
            pub fn derived_digests(&self) -> Result<Vec<(&'static str, [u8; 32])>, redb::StorageError> {
                Ok(vec![$((stringify!($dname), digest(&self.$dname)?),)*])
            }
        }
    };
}

tables! {
    primary {
        /// What this home is: see `home`.
        meta: &'static str => &'static [u8],
        /// SHA-1 → size, BLAKE3, where the bytes are.
        blobs: &'static [u8; 20] => &'static [u8],
        /// Arrival number → the bytes of a small blob. (Keyed by hash it would cost twice the CPU.)
        bytes: u64 => &'static [u8],
        /// (SHA-1, span) → the BLAKE3 values of the span's 64 KiB groups, 32 bytes each.
        spans: (&'static [u8; 20], u32) => &'static [u8],
        /// SHA-1 of a blob that is being fetched → where its bytes are gathered, and the values that verify them.
        partials: &'static [u8; 20] => &'static [u8],
        /// Name of an upload → its lease, its file, and how much of it has come.
        uploads: &'static str => &'static [u8],
        /// SHA-1 of a deleted blob whose bytes are still to be removed → when and why.
        unlinks: &'static [u8; 20] => &'static [u8],
        /// (end of a grace in Unix milliseconds, SHA-1 of the blob that has it) → nothing. Rows of graces that were renewed stay until
        /// their time.
        graces: (u64, &'static [u8; 20]) => (),
        /// Lease → whose it is, and until when.
        leases: &'static [u8; 16] => &'static [u8],
        /// (lease, SHA-1 of a blob that it protects) → nothing.
        lease_blobs: (&'static [u8; 16], &'static [u8; 20]) => (),
        /// The same by blob: (SHA-1, lease) → nothing.
        leased_by: (&'static [u8; 20], &'static [u8; 16]) => (),
        /// SHA-1 of a deleted blob that can still be brought back → what it was, and when it was deleted.
        trash: &'static [u8; 20] => &'static [u8],
        /// (when a blob in the trash was deleted, in Unix milliseconds, its SHA-1) → nothing.
        trash_ages: (u64, &'static [u8; 20]) => (),
        /// SHA-1 of a blob whose link facts are to end, since nobody holds it → when that is this node's to do: see `facts_due`.
        facts_due: &'static [u8; 20] => u64,
        /// Number → what happened, and when: the audit log.
        audit: u64 => &'static [u8],
        /// Arrival number → the bytes of a signed entry, as received.
        entries: u64 => &'static [u8],
        /// (node, boot, seq, hash of the entry before it or zeros) → the proof that the boot forked there.
        forks: ForkKey => &'static [u8],
    }
    derived {
        /// Position in the log → arrival number and hash of the entry there.
        positions: Position => &'static [u8],
        /// (node, boot) → head, causal past, storage.
        chains: (&'static [u8; 32], &'static [u8; 16]) => &'static [u8],
        /// (node, branch of a forked boot) → where it comes from.
        branches: (&'static [u8; 32], &'static [u8; 16]) => &'static [u8],
        /// (shard, epoch) → what has been applied of that document.
        docs: (u8, u32) => &'static [u8],
        /// (shard, epoch, change, boot) → where it was written and how far its operations go.
        changes: ChangeKey => &'static [u8],
        /// (shard, boot) → the newest epoch it has written to.
        author_epochs: (u8, &'static [u8; 16]) => u32,
        /// (kind, key) → the values of an item of the catalog. Refs are the kind `REF`, by name.
        items: (u16, &'static str) => &'static [u8],
        /// (kind, key, boot, seq, index) → a write to an item that authority rests on, also after it has been replaced.
        authority: AuthorityKey => &'static [u8],
        /// Node, and the write that says that it was removed → what still counts of it, and whether that is in force.
        removals: RemovalKey => &'static [u8],
        /// Those of `authority` that are void because their authors were removed → nothing.
        cut_writes: AuthorityKey => (),
        /// (node, boot, seq) of a write of that member's record → how many entries its author knew of.
        admissions: Position => u64,
        /// The id of a value that a void write had replaced: boot, seq, index → nothing.
        returned: (&'static [u8; 16], u64, u32) => (),
        /// (SHA-1, ref) for every blob that some value of the ref names → how many values do.
        ref_links: (&'static [u8; 20], &'static str) => u32,
        /// Link fact → children.
        links: FactKey => &'static [u8],
        /// (SHA-1 of a child, SHA-1 of a parent) → how often the facts of the parent mention the child.
        parents: (&'static [u8; 20], &'static [u8; 20]) => u32,
        /// Every value of a ref that lapses, by when → nothing.
        expiries: ExpiryKey => (),
        /// (node, boot) → its number in `holdings`.
        chain_numbers: (&'static [u8; 32], &'static [u8; 16]) => u32,
        /// (SHA-1, number of a chain) → the copy that its node holds, and since which entry.
        holdings: (&'static [u8; 20], u32) => &'static [u8],
        /// What is counted, by name.
        counts: &'static str => u64,
    }
    counted {
        /// SHA-1 → how many reasons the blob has to be live, and whether its children know: see `reach`.
        reached: &'static [u8; 20] => (u32, bool),
        /// SHA-1 of a blob that has not yet passed on to its children whether it is live → nothing.
        unsettled: &'static [u8; 20] => (),
        /// SHA-1 of a blob that has lost a reason and kept others, which may come to it over links from itself: see `cycles`.
        doubtful: &'static [u8; 20] => (),
        /// Number → SHA-1 of the blob that has become unneeded under it: see `unneeded`.
        unneeded: u64 => &'static [u8; 20],
        /// SHA-1 of an unneeded blob → its number.
        unneeded_numbers: &'static [u8; 20] => u64,
        /// (lease, SHA-1 of a blob that is unneeded but for it, and has no number until the lease ends) → nothing.
        lease_waits: (&'static [u8; 16], &'static [u8; 20]) => (),
    }
}

fn digest<K: Key + 'static, V: Value + 'static>(table: &impl ReadableTable<K, V>) -> Result<[u8; 32], redb::StorageError> {
    let mut hasher = blake3::Hasher::new();
    for row in table.iter()? {
        let (key, value) = row?;
        for part in [K::as_bytes(&key.value()).as_ref(), V::as_bytes(&value.value()).as_ref()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests;
