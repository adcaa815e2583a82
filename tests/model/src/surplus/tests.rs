//! The promise holds by all rules; and without any one of them that carries it, it is found broken.

use super::{Rule, Surplus, Yields};
use crate::explore::{holds, violated};

/// Three nodes, one write that asks for one copy.
const THREE: Surplus = Surplus {
    copies: &[1],
    disks: &[1, 2, 3],
    liar: None,
    attempts_each: 2,
    attempts_in_all: 4,
    crashes: 1,
    fetches: 0,
    rollbacks: 0,
    out_of_reach: None,
    yields: Yields::ByRank,
    without: &[],
};

/// Three nodes, and a write that raises the number of copies to two.
const RAISED: Surplus = Surplus { copies: &[1, 2], attempts_in_all: 2, ..THREE };

/// Four nodes, each of which begins one attempt.
const FOUR: Surplus = Surplus { disks: &[1, 2, 3, 4], attempts_each: 1, ..THREE };

#[test]
fn three_nodes_never_lose_the_last_copy() {
    holds("three nodes, one copy, 4 attempts", THREE);
}

#[test]
fn four_nodes_never_lose_the_last_copy() {
    holds("four nodes, one copy, 3 attempts", Surplus { attempts_in_all: 3, ..FOUR });
}

#[test]
fn two_copies_once_confirmed_stay() {
    holds("three nodes, two copies, 4 attempts", Surplus { copies: &[2], ..THREE });
    holds("four nodes, two copies, 2 attempts", Surplus { copies: &[2], attempts_in_all: 2, ..FOUR });
}

#[test]
fn a_raise_to_two_copies_once_confirmed_stands_whatever_was_under_way() {
    holds("three nodes, raised from one copy to two, 3 attempts", Surplus { attempts_in_all: 3, ..RAISED });
}

#[test]
fn a_second_write_during_attempts_loses_nothing() {
    holds("three nodes, two writes of one copy, 3 attempts", Surplus { copies: &[1, 1], attempts_in_all: 3, ..THREE });
}

#[test]
fn a_copy_that_is_fetched_again_changes_nothing() {
    for copies in [&[1], &[2]] {
        holds("three nodes, a copy fetched again, 3 attempts", Surplus { copies, fetches: 1, attempts_in_all: 3, ..THREE });
    }
}

#[test]
fn with_a_margin_for_one_liar_the_honest_keep_what_was_promised() {
    holds("three nodes, one a liar, one copy", Surplus { liar: Some(2), ..THREE });
    holds("four nodes, one a liar, two copies", Surplus { copies: &[2], liar: Some(3), attempts_in_all: 2, ..FOUR });
}

#[test]
fn nodes_on_one_disk_never_stand_for_two_copies() {
    holds("three nodes on two disks, one copy", Surplus { disks: &[1, 1, 2], ..THREE });
    holds("four nodes on three disks, two copies", Surplus { copies: &[2], disks: &[1, 1, 2, 3], attempts_in_all: 2, ..FOUR });
}

#[test]
fn a_node_that_was_rolled_back_and_has_heard_from_all_others_costs_nothing() {
    holds("three nodes, raised, one rolled back", Surplus { rollbacks: 1, ..RAISED });
}

#[test]
fn it_is_no_matter_of_safety_who_yields() {
    for yields in [Yields::Always, Yields::Never] {
        holds(
            &format!("three nodes, one copy, who is asked yields: {yields:?}"),
            Surplus { yields, attempts_in_all: 3, ..THREE },
        );
    }
}

#[test]
fn without_the_flag_the_last_copy_is_lost() {
    violated("no flag", Surplus { without: &[Rule::Flag], ..THREE });
}

#[test]
fn with_a_flag_after_the_question_the_last_copy_is_lost() {
    violated("question before flag", Surplus { without: &[Rule::FlagFirst], ..THREE });
}

#[test]
fn with_answers_that_are_bound_to_no_attempt_the_last_copy_is_lost() {
    violated("unbound answers", Surplus { without: &[Rule::BoundAnswers], ..THREE });
}

#[test]
fn with_one_nonce_for_all_attempts_of_a_node_the_last_copy_is_lost() {
    violated("one nonce for all attempts", Surplus { without: &[Rule::FreshNonces], ..THREE });
}

#[test]
fn with_copies_that_are_not_durable_counted_the_last_copy_is_lost() {
    violated("copies that are not durable count", Surplus { without: &[Rule::DurableOnly], fetches: 1, ..THREE });
}

#[test]
fn when_who_vouches_knows_of_no_ref_the_last_copy_is_lost() {
    violated("vouching without a ref", Surplus { without: &[Rule::AskerIncluded, Rule::LiveThere], ..THREE });
}

#[test]
fn when_who_vouches_does_not_know_of_the_raise_a_confirmed_copy_is_lost() {
    violated("vouching without knowing the raise", Surplus { without: &[Rule::AskerIncluded], ..RAISED });
}

#[test]
fn when_who_confirms_does_not_know_the_raise_a_confirmed_copy_is_lost() {
    violated("confirming without knowing the raise", Surplus { without: &[Rule::WriteIncluded], ..RAISED });
}

#[test]
fn when_an_author_goes_on_with_an_attempt_of_before_its_raise_a_confirmed_copy_is_lost() {
    violated("a raise ends no attempt", Surplus { without: &[Rule::AddCancels], attempts_each: 1, ..RAISED });
}

#[test]
fn when_an_attempt_goes_on_with_the_need_of_its_beginning_a_confirmed_copy_is_lost() {
    let without = &[Rule::AddCancels, Rule::NeedNow];
    violated("a raise ends no attempt, and the need is that of the flag", Surplus { without, ..RAISED });
}

#[test]
fn with_answers_from_what_is_not_persisted_the_last_copy_is_lost() {
    violated("answers before persisting", Surplus { without: &[Rule::PersistFirst], ..THREE });
}

#[test]
fn without_a_margin_for_the_liar_the_last_copy_is_lost() {
    violated("a liar and no margin", Surplus { without: &[Rule::LiarMargin], liar: Some(2), ..THREE });
}

#[test]
fn with_one_disk_counted_twice_a_confirmed_copy_is_lost() {
    violated("a disk counts twice", Surplus { without: &[Rule::DiskOnce], copies: &[2], disks: &[1, 1, 2], ..THREE });
}

#[test]
fn when_who_yields_goes_on_with_its_own_attempt_the_last_copy_is_lost() {
    violated("yielding, and going on", Surplus { without: &[Rule::YieldEnds], ..THREE });
}

#[test]
fn when_a_node_that_was_rolled_back_hears_from_nobody_first_a_confirmed_copy_is_lost() {
    violated("rolled back, and hearing from nobody", Surplus { without: &[Rule::HearFirst], rollbacks: 1, ..RAISED });
}

/// As the design had it: a rolled-back node hears only from those in reach. The one that knows of the raise is not, when it is decided, but
/// its yes has come: a witness that knows of a higher need says yes all the same.
#[test]
fn rolled_back_and_out_of_reach_of_who_knows_the_raise_a_confirmed_copy_is_lost() {
    violated(
        "rolled back, one out of reach",
        Surplus { without: &[Rule::HearAll], out_of_reach: Some(0), rollbacks: 1, ..RAISED },
    );
}

#[test]
fn rolled_back_and_out_of_reach_of_somebody_nothing_is_dropped() {
    holds("rolled back, and waiting for all", Surplus { out_of_reach: Some(0), rollbacks: 1, attempts_in_all: 2, ..RAISED });
}

/// Rules that others imply in this world. They are kept all the same: each stands in for another that an engine might get wrong.
#[test]
fn some_rules_are_a_second_line_here() {
    // Nothing is deleted here: so who knows the write that the asker knew sees the blob live.
    holds("vouching without looking whether it is live", Surplus { without: &[Rule::LiveThere], attempts_in_all: 3, ..THREE });
    // And with one write, who sees it live knows what the asker knew.
    holds(
        "one write, vouching without knowing what the asker knew",
        Surplus { without: &[Rule::AskerIncluded], attempts_in_all: 3, ..THREE },
    );
    // A write ends the attempt, so no need ever changes during one.
    holds("the need is that of the flag", Surplus { without: &[Rule::NeedNow], ..RAISED });
    // An author that gives up its copy leaves as many elsewhere as its write asks for, by the same rules as everybody.
    holds("authors do not keep their copy", Surplus { without: &[Rule::AuthorKeeps], copies: &[2], attempts_in_all: 3, ..THREE });
    holds("who raises does not keep its copy", Surplus { without: &[Rule::AuthorKeeps], ..RAISED });
}
