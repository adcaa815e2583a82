//! Placement: where copies of a blob shall be.
//!
//! Until there are rules, nothing is placed anywhere: [`rank`] alone says in which order nodes keep and give up copies.

pub mod rank;
