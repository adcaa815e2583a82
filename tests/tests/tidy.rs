//! Checks on the code, as tests: what the house promises about itself (docs/ARCHITECTURE.md, CONTRIBUTING.md) and no compiler sees.
//!
//! Each rule is a pure function from text to the places that break it, a test on the tree, and a test that it catches a violation.
//! To tighten a rule, change its constant; a bound that the tree has reached is not loosened again.

mod borders;
mod code_view;
mod invariants;
mod limits;
mod modules;
mod shape;
mod tree;
mod words;

/// Fails with every place that breaks a rule, not only the first.
#[track_caller]
fn assert_clean(rule: &str, broken: impl IntoIterator<Item = String>) {
    let broken: Vec<String> = broken.into_iter().collect();
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}
