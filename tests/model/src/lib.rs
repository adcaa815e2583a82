//! Models of deletion, in which everything that can happen does: every order of messages, loss, repetition, crashes, rollbacks, lies.
//!
//! They drive the very machines of `keepwell_protocol::gc`; what a model adds is the world around them, kept as small as the question
//! allows. Each model is explored with all rules in force, and must hold in every state; and with each rule left out in turn, and must be
//! found violated: a search that cannot find a fault proves nothing. `docs/SAFETY.md` cites the models by the names of their tests.

#[cfg(test)]
mod catalog;
#[cfg(test)]
mod explore;
#[cfg(test)]
mod surplus;
