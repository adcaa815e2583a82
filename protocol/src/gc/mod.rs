//! What may be deleted, and the proof of it. The verdicts come with garbage collection; the [`permit::Permit`] they will mint is here
//! from the start, so that no way of deleting a blob can grow around it.

pub mod permit;
