//! The promise holds by all rules; and without any one of them that carries it, it is found broken.

use super::{Rule, Surplus, Yields};
use crate::explore::{holds, violated};

const THREE: Surplus = Surplus {
    copies: &[1],
    disks: &[1, 2, 3],
    liar: None,
    attempts_each: 2,
    attempts_in_all: 4,
    crashes: 1,
    fetches: 0,
    yields: Yields::ByRank,
    without: &[],
};

#[test]
fn three_nodes_never_lose_the_last_copy() {
    holds("three nodes", THREE);
}

#[test]
fn without_the_flag_the_last_copy_is_lost() {
    violated("no flag", Surplus { without: &[Rule::Flag], ..THREE });
}
