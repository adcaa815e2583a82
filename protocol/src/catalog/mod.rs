//! The catalog: what all nodes come to agree on about refs, nodes, lots and rules.
//!
//! An [`item::Item`] is one thing with a name. A [`change::Write`] gives it a value or deletes it, and names the earlier writes it
//! replaces. A [`row::Row`] is what the writes known so far amount to. Writes to one shard travel as [`change::Change`]s, which
//! [`doc`] turns into the changes of an automerge document. [`mod@reference`] and [`member`] are what the values say,
//! [`expiry`] is when they end, and [`removal`] which of them still count when a member was removed.

pub mod authority;
pub mod change;
pub mod doc;
pub mod expiry;
pub mod item;
pub mod member;
pub mod reference;
pub mod removal;
pub mod row;
pub mod usage;
