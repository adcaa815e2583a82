//! Several nodes, a bad network, crashing disks: after peace they agree, and nothing acknowledged is lost.

use keepwell_node::sim::world::{Faults, Plan, Summary, World};

fn plan(seed: u64, faults: Faults) -> Plan {
    Plan { seed, nodes: 4, active_ms: 60_000, quiet_ms: 60_000, act_every_ms: 300, contents: 40, full_disks: false, faults }
}

/// Runs a plan, and prints the seed and the trace if a promise is broken.
fn run(plan: Plan) -> Summary {
    World::new(plan).and_then(World::run).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn on_a_good_day_all_nodes_agree() {
    let summary = run(plan(1, Faults::none()));
    assert!(summary.refs_written > 50 && summary.blobs_put > 10 && summary.copies_dropped > 0, "{summary:?}");
    assert!(summary.copies_purged > 0 && summary.copies_purged_unasked > 0 && summary.copies_brought > 0, "{summary:?}");
    assert!(summary.marks > 5 && summary.early_marks == 0, "{summary:?}");
    assert_eq!((summary.crashes, summary.rollbacks), (0, 0));
}

#[test]
fn on_bad_days_all_nodes_agree_in_the_end() {
    let (mut crashes, mut rollbacks, mut forks, mut conflicts) = (0, 0, 0, 0);
    let (mut purged, mut unasked, mut dropped, mut unlinked) = (0, 0, 0, 0);
    for seed in 0..seeds(6) {
        let summary = run(plan(seed, Faults::all()));
        crashes += summary.crashes;
        rollbacks += summary.rollbacks;
        forks += summary.forks;
        conflicts += summary.conflicts;
        purged += summary.copies_purged;
        unasked += summary.copies_purged_unasked;
        dropped += summary.copies_dropped;
        unlinked += summary.unlinked;
    }
    let bad = crashes > 0 && rollbacks > 0 && forks > 0 && conflicts > 0;
    assert!(bad, "the days were not bad: {crashes} {rollbacks} {forks} {conflicts}");
    assert!(purged > unasked && unasked > 0 && dropped > 0, "nothing was collected: {purged} {unasked} {dropped}");
    assert!(unlinked > 0, "no links were forgotten");
    println!(
        "{purged} copies purged, {unasked} of them unasked, {dropped} given up, links forgotten {unlinked} times, {crashes} crashes, {rollbacks} old disks put back"
    );
}

#[test]
fn copies_that_are_given_up_everywhere_at_once_keep_enough() {
    let faults = Faults { loss_percent: 10, repeat_percent: 10, max_delay_ms: 1_500, every_ms: 6_000, ..Faults::all() };
    let (mut dropped, mut crashes, mut rollbacks) = (0, 0, 0);
    for seed in 0..seeds(3) {
        let summary = run(Plan { contents: 8, act_every_ms: 100, ..plan(1_100 + seed, faults.clone()) });
        dropped += summary.copies_dropped;
        crashes += summary.crashes;
        rollbacks += summary.rollbacks;
    }
    println!("tally worlds: {} passed, 0 failed", seeds(3));
    println!("{dropped} surplus copies given up, {crashes} crashes, {rollbacks} old disks put back");
    assert!(dropped > 20 && crashes > 0 && rollbacks > 0, "{dropped} {crashes} {rollbacks}");
}

#[test]
fn full_disks_give_up_what_is_surplus_by_themselves_and_nothing_else() {
    let (mut dropped, mut crashes, mut rollbacks) = (0, 0, 0);
    for seed in 0..seeds(3) {
        let full = Plan { contents: 8, act_every_ms: 100, full_disks: true, ..plan(2_000 + seed, Faults::all()) };
        let summary = run(full);
        dropped += summary.copies_dropped_unasked;
        crashes += summary.crashes;
        rollbacks += summary.rollbacks;
    }
    println!("tally worlds: {} passed, 0 failed", seeds(3));
    println!("{dropped} surplus copies given up unasked, {crashes} crashes, {rollbacks} old disks put back");
    assert!(dropped > 10 && crashes > 0 && rollbacks > 0, "{dropped} {crashes} {rollbacks}");
}

#[test]
fn whatever_clocks_show_only_what_has_had_its_time_ends() {
    let (mut marks, mut early, mut purged) = (0, 0, 0);
    for seed in 0..seeds(6) {
        let faults = Faults { every_ms: 1_500, clocks: true, rollbacks: seed % 2 == 0, ..Faults::all() };
        let summary = run(plan(2_000 + seed, faults));
        marks += summary.marks;
        early += summary.early_marks;
        purged += summary.copies_purged;
    }
    println!(
        "{marks} values ended by themselves, {early} of them a little early by a clock that was ahead, {purged} copies purged"
    );
    assert!(marks > 30 && early > 0 && early < marks && purged > 0, "{marks} {early} {purged}");
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    let once = run(plan(7, Faults::all()));
    assert_eq!(run(plan(7, Faults::all())), once);
    assert_ne!(run(plan(8, Faults::all())).trace_hash, once.trace_hash);
}

/// How many seeds to try: `KEEPWELL_SEEDS`, or a few.
fn seeds(few: u64) -> u64 {
    std::env::var("KEEPWELL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}
