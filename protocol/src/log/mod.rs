//! The log: what every node writes, signed, in chains, and how far each chain is known.
//!
//! A node's log is a chain of [`entry::Entry`]s for each of its boots. Everything replicated is an [`op::Op`] in some entry. A
//! [`vector::Vector`] says how far each chain has been applied; [`mod@admit`] says what to do with an entry that arrives, and [`branch`]
//! what becomes of a boot that forked.

pub mod admit;
pub mod branch;
pub mod compare;
pub mod entry;
pub mod exchange;
pub mod op;
pub mod vector;
