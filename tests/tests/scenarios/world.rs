//! Several nodes, a bad network, crashing disks: after peace they agree, and nothing acknowledged is lost.

use std::ops::Range;

use keepwell_node::sim::world::{Faults, Hostile, Plan, Summary, World};

fn plan(seed: u64, faults: Faults) -> Plan {
    Plan {
        seed,
        nodes: 4,
        active_ms: 60_000,
        quiet_ms: 60_000,
        act_every_ms: 300,
        contents: 40,
        full_disks: false,
        hostile: None,
        liars: 0,
        removal: false,
        faults,
    }
}

/// Runs a plan, and prints the seed and the trace if a promise is broken.
fn run(plan: Plan) -> Summary {
    World::new(plan).and_then(World::run).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn on_a_good_day_all_nodes_agree() {
    let summary = run(plan(2, Faults::none()));
    assert!(summary.refs_written > 40 && summary.blobs_put > 10 && summary.copies_dropped > 0, "{summary:?}");
    assert!(summary.copies_purged > 0 && summary.copies_purged_unasked > 0 && summary.copies_brought > 0, "{summary:?}");
    assert!(summary.marks > 5 && summary.early_marks == 0, "{summary:?}");
    assert_eq!((summary.crashes, summary.rollbacks), (0, 0));
}

/// Runs one world of a kind for each seed, prints the tally, and returns it.
fn run_all(kind: &str, seeds: Range<u64>, plan_of: impl Fn(u64) -> Plan) -> Summary {
    let (mut all, count) = (Summary::default(), seeds.end - seeds.start);
    seeds.for_each(|seed| all.add(&run(plan_of(seed))));
    println!("tally {kind}: {count} passed, 0 failed; {all}");
    all
}

#[test]
fn on_bad_days_all_nodes_agree_in_the_end() {
    let all = run_all("bad-days", from(0, 6), |seed| plan(seed, Faults::all()));
    assert!(all.crashes > 0 && all.rollbacks > 0 && all.forks > 0 && all.conflicts > 0, "the days were not bad: {all}");
    let collected = all.copies_purged > all.copies_purged_unasked && all.copies_purged_unasked > 0 && all.copies_dropped > 0;
    assert!(collected, "nothing was collected: {all}");
    assert!(all.unlinked > 0, "no links were forgotten: {all}");
}

#[test]
fn copies_that_are_given_up_everywhere_at_once_keep_enough() {
    let faults = Faults { loss_percent: 10, repeat_percent: 10, max_delay_ms: 1_500, every_ms: 6_000, ..Faults::all() };
    let few = |seed| Plan { contents: 8, act_every_ms: 100, ..plan(seed, faults.clone()) };
    let all = run_all("drops", from(1_200, 3), few);
    assert!(all.copies_dropped > 20 && all.crashes > 0 && all.rollbacks > 0, "{all}");
}

#[test]
fn full_disks_give_up_what_is_surplus_by_themselves_and_nothing_else() {
    let full = |seed| Plan { contents: 8, act_every_ms: 100, full_disks: true, ..plan(seed, Faults::all()) };
    let all = run_all("full-disks", from(2_000, 3), full);
    assert!(all.copies_dropped_unasked > 10 && all.crashes > 0 && all.rollbacks > 0, "{all}");
}

#[test]
fn whatever_clocks_show_only_what_has_had_its_time_ends() {
    let faults = |seed| Faults { every_ms: 1_500, clocks: true, rollbacks: seed % 2 == 0, ..Faults::all() };
    let all = run_all("clocks", from(2_000, 6), |seed| plan(seed, faults(seed)));
    let (marks, early) = (all.marks, all.early_marks);
    assert!(marks > 30 && early > 0 && early < marks && all.copies_purged > 0, "{all}");
}

#[test]
fn full_and_failing_disks_pauses_and_crashes_in_recovery_lose_nothing() {
    let all = run_all("mishaps", from(3_000, 4), |seed| plan(seed, Faults::with_mishaps()));
    let bad = [all.full_disks, all.io_errors, all.pauses, all.flaps, all.crashes_in_recovery];
    assert!(bad.iter().all(|times| *times > 0) && all.copies_purged > 0 && all.copies_dropped > 0, "{all}");
}

#[test]
fn what_has_rotten_is_found_never_vouched_for_and_made_anew_from_another_copy() {
    let faults = Faults { every_ms: 1_500, flips: true, ..Faults::all() };
    let all = run_all("flips", from(4_000, 4), |seed| Plan { contents: 8, act_every_ms: 100, ..plan(seed, faults.clone()) });
    assert!(all.flips > 10 && all.rot_found > 5 && all.copies_dropped > 0 && all.copies_brought > 0, "{all}");
}

/// A world of five, the last of which is hostile.
fn beside(hostile: Hostile, seed: u64, faults: &Faults) -> Plan {
    Plan { nodes: 5, active_ms: 40_000, contents: 16, act_every_ms: 150, hostile: Some(hostile), ..plan(seed, faults.clone()) }
}

#[test]
fn a_liar_takes_from_nobody_more_than_the_copy_that_it_vouches_for() {
    let all = run_all("liar", from(5_000, 3), |seed| beside(Hostile::Liar, seed, &Faults::all()));
    assert!(all.lies > 10 && all.copies_dropped > 0 && all.crashes > 0, "{all}");
}

#[test]
fn with_a_margin_for_the_liar_no_drop_leaves_fewer_honest_copies_than_refs_ask_for() {
    let beside_liar = |seed| Plan { liars: 1, contents: 8, act_every_ms: 100, ..beside(Hostile::Liar, seed, &Faults::all()) };
    let all = run_all("margin", from(8_000, 3), beside_liar);
    assert!(all.lies > 10 && all.copies_dropped > 0 && all.crashes > 0, "{all}");
}

#[test]
fn whoever_is_told_different_things_by_an_equivocator_agrees_in_the_end_and_loses_nothing() {
    let all = run_all("equivocator", from(6_000, 3), |seed| beside(Hostile::Equivocator, seed, &Faults::all()));
    assert!(all.equivocations > 3 && all.forks > 2 && all.copies_purged > 0, "{all}");
}

#[test]
fn a_flooder_is_shut_out_and_keeps_nobody_from_work() {
    let all = run_all("flooder", from(7_000, 2), |seed| beside(Hostile::Flooder, seed, &Faults::all()));
    assert!(all.floods > 10 && all.refusals > 0 && all.copies_purged > 0 && all.copies_dropped > 0, "{all}");
}

#[test]
fn who_is_removed_in_mid_story_takes_its_own_copies_along_and_nothing_else() {
    let removal = |seed| Plan { nodes: 5, removal: true, contents: 24, act_every_ms: 120, ..plan(seed, Faults::all()) };
    let all = run_all("removal", from(9_000, 4), removal);
    assert!(all.removals > 3 && all.void > 10 && all.rollbacks > 0 && all.copies_purged > 0 && all.copies_dropped > 0, "{all}");
}

#[test]
fn of_two_that_run_on_one_home_one_goes_on_and_nothing_is_lost_but_what_the_other_alone_had() {
    let faults = |seed| Faults { twins: true, rollbacks: seed % 2 == 0, ..Faults::all() };
    let all = run_all("twins", from(10_000, 4), |seed| Plan { contents: 24, act_every_ms: 120, ..plan(seed, faults(seed)) });
    assert!(all.twins > 3 && all.forks > 0 && all.copies_purged > 0 && all.copies_dropped > 0, "{all}");
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    let once = run(plan(7, Faults::all()));
    assert_eq!(run(plan(7, Faults::all())), once);
    assert_ne!(run(plan(8, Faults::all())).trace_hash, once.trace_hash);
}

/// How many seeds to try: `KEEPWELL_SEEDS`, or a few.
fn seeds(few: u64) -> u64 {
    number("KEEPWELL_SEEDS").unwrap_or(few)
}

/// The seeds of one kind of world: the first ones, or those from `KEEPWELL_FROM` on.
fn from(base: u64, few: u64) -> Range<u64> {
    let from = base + number("KEEPWELL_FROM").unwrap_or(0);
    from..from + seeds(few)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}
