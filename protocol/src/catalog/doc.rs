//! The automerge documents of the catalog. The only file that names automerge.
//!
//! A document is a flat map: the id of a write → the write's bytes. It is built from [`Change`]s that have been checked; automerge's
//! own decoder sees nothing foreign. Actor and time come from us: a document's actors are boots, its times are zero. A document is
//! loaded when it is needed, not to apply a change: the name and order of every write follow from its change alone.

use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::legacy::{Key, ObjectId, Op, OpType};
use automerge::{ActorId, Automerge, Change as AutomergeChange, ExpandedChange, ROOT, ReadDoc, ScalarValue, Value};

use super::change::{Change, ChangeHash, Order, Write};
use crate::id::{BootId, ValueId};
use crate::wire;

/// Why a document could not be built from its changes.
#[derive(Debug, thiserror::Error)]
pub enum DocError {
    /// automerge refused a change.
    #[error("automerge refuses a change: {0}")]
    Refused(#[from] automerge::AutomergeError),
    /// automerge panicked; the document is lost, the changes it was built from are not.
    #[error("automerge failed on a change")]
    Panicked,
    /// A change builds on others that are not there.
    #[error("changes are missing from the document")]
    Incomplete,
    /// Something that no write put there.
    #[error("the document holds something that is not a write: {0}")]
    Foreign(String),
}

/// The name of a change whose first write has the id `first`.
pub fn change_hash(change: &Change, first: ValueId) -> ChangeHash {
    ChangeHash(to_automerge(change, first).hash().0)
}

/// One document.
pub struct Doc(Automerge);

impl Doc {
    /// The document that `changes` amount to, each with the id of its first write.
    pub fn build<'a>(changes: impl IntoIterator<Item = (&'a Change, ValueId)>) -> Result<Doc, DocError> {
        let changes: Vec<_> = changes.into_iter().map(|(change, first)| to_automerge(change, first)).collect();
        let expected = changes.len();
        let apply = move || -> Result<Automerge, DocError> {
            let mut document = empty();
            document.apply_changes(changes)?;
            Ok(document)
        };
        let document = catch_unwind(AssertUnwindSafe(apply)).map_err(|_| DocError::Panicked)??;
        if document.get_changes_meta(&[]).len() != expected {
            return Err(DocError::Incomplete);
        }
        Ok(Doc(document))
    }

    /// The newest changes, ascending.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.0.get_heads().into_iter().map(|hash| ChangeHash(hash.0)).collect()
    }

    /// Every write with its id and its place in automerge's order, by id.
    pub fn writes(&self, epoch: u32) -> Result<Vec<(ValueId, Order, Write)>, DocError> {
        let mut writes = self.0.keys(ROOT).map(|key| self.write_at(&key, epoch)).collect::<Result<Vec<_>, _>>()?;
        // automerge keeps them by the text of their ids, where 10 comes before 2.
        writes.sort_by_key(|(id, _, _)| *id);
        Ok(writes)
    }

    fn write_at(&self, key: &str, epoch: u32) -> Result<(ValueId, Order, Write), DocError> {
        let foreign = || DocError::Foreign(key.to_owned());
        let (value, op) = self.0.get(ROOT, key)?.ok_or_else(foreign)?;
        let id: ValueId = key.parse().map_err(|_| foreign())?;
        let automerge::ObjId::Id(counter, actor, _) = op else { return Err(foreign()) };
        let boot = BootId(actor.to_bytes().try_into().map_err(|_| foreign())?);
        let Value::Scalar(scalar) = value else { return Err(foreign()) };
        let ScalarValue::Bytes(bytes) = scalar.as_ref() else { return Err(foreign()) };
        let write = wire::decode_own(bytes).map_err(|_| foreign())?;
        Ok((id, Order { epoch, counter, boot }, write))
    }
}

#[expect(clippy::disallowed_methods, reason = "the random actor that `new` draws is replaced before anything can see it")]
fn empty() -> Automerge {
    Automerge::new().with_actor(ActorId::from([0; 16]))
}

fn to_automerge(change: &Change, first: ValueId) -> AutomergeChange {
    let operations = change.writes.iter().zip(first.index..).map(|(write, index)| put(write, ValueId { index, ..first }));
    AutomergeChange::from(ExpandedChange {
        operations: operations.collect(),
        actor_id: ActorId::from(first.boot.as_bytes()),
        hash: None,
        seq: change.actor_seq,
        start_op: NonZeroU64::new(change.start_op).unwrap_or(NonZeroU64::MIN),
        time: 0,
        message: None,
        deps: change.deps.iter().map(|hash| automerge::ChangeHash(hash.0)).collect(),
        extra_bytes: Vec::new(),
        author: None,
    })
}

fn put(write: &Write, id: ValueId) -> Op {
    Op {
        action: OpType::Put(ScalarValue::Bytes(wire::encode(write))),
        obj: ObjectId::Root,
        key: Key::Map(id.to_string().into()),
        pred: Vec::new().into(),
        insert: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::change::DocState;
    use crate::catalog::item::Item;
    use crate::id::Seq;

    fn write(name: &str) -> Write {
        Write { item: Item::reference(name), replaces: vec![], body: Some(name.as_bytes().to_vec()) }
    }

    fn first(boot: u8, seq: u64) -> ValueId {
        ValueId { boot: BootId([boot; 16]), seq: Seq(seq), index: 0 }
    }

    #[test]
    fn a_document_returns_the_writes_put_into_it_in_their_order() {
        let mut state = DocState::default();
        let one = Change::next(7, 0, &first(1, 1).boot, &state, None, vec![write("a"), write("b")]);
        state.note(first(1, 1).boot, change_hash(&one, first(1, 1)), &one);
        let two = Change::next(7, 0, &first(2, 1).boot, &state, None, vec![write("c")]);
        state.note(first(2, 1).boot, change_hash(&two, first(2, 1)), &two);

        let doc = Doc::build([(&one, first(1, 1)), (&two, first(2, 1))]).unwrap();
        assert_eq!(doc.heads(), state.heads.keys().copied().collect::<Vec<_>>());
        let mut writes = doc.writes(0).unwrap();
        writes.sort_by_key(|(_, order, _)| *order);
        let told: Vec<_> =
            writes.iter().map(|(id, order, write)| (id.boot.0[0], order.counter, write.item.key.as_str())).collect();
        assert_eq!(told, [(1, 1, "a"), (1, 2, "b"), (2, 3, "c")]);
        assert_eq!(writes[1].1, one.order_of(1, first(1, 1).boot));
    }

    #[test]
    fn the_name_of_a_change_is_the_same_every_time() {
        let change = Change::next(7, 0, &first(1, 1).boot, &DocState::default(), None, vec![write("a")]);
        assert_eq!(change_hash(&change, first(1, 1)), change_hash(&change.clone(), first(1, 1)));
        assert_ne!(change_hash(&change, first(1, 1)), change_hash(&change, first(1, 2)));
    }

    #[test]
    fn a_missing_change_and_a_repeated_position_are_refused() {
        let mut state = DocState::default();
        let one = Change::next(7, 0, &first(1, 1).boot, &state, None, vec![write("a")]);
        state.note(first(1, 1).boot, change_hash(&one, first(1, 1)), &one);
        let two = Change::next(7, 0, &first(1, 2).boot, &state, None, vec![write("b")]);
        assert!(matches!(Doc::build([(&two, first(1, 2))]), Err(DocError::Incomplete)));
        let other = Change { writes: vec![write("z")], ..one.clone() };
        assert!(Doc::build([(&one, first(1, 1)), (&other, first(1, 1))]).is_err());
    }
}
