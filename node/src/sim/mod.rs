//! The simulator: the product's own engine and store over a simulated disk, from one seed, with checkers that see everything.

pub mod one_node;
