//! containerd's schedule, told in our words, and what ours does beyond it.

use super::*;

const T: u64 = 1_800_000_000_000;
/// The pause after cheap collections: 5 ms are 2 % of all time.
const LEAST_MS: u64 = 245;

fn started(keys: Keys) -> Schedule {
    Schedule::start(keys, T)
}

/// A schedule that has collected once, at T, for this cost.
fn collected(keys: Keys, cost_us: u64) -> Schedule {
    let mut schedule = started(Keys { startup_delay_ms: 0, schedule_delay_ms: 0, ..keys });
    schedule.trigger(T);
    collect(&mut schedule, T, cost_us, End::Done);
    schedule.keys.schedule_delay_ms = keys.schedule_delay_ms;
    schedule
}

fn collect(schedule: &mut Schedule, now_ms: u64, cost_us: u64, end: End) {
    assert!(schedule.is_due(now_ms), "{schedule:?}");
    schedule.begin();
    schedule.end(now_ms, cost_us, end);
}

#[test]
fn the_first_collection_comes_startup_delay_after_the_start_whether_or_not_anything_is_known() {
    let mut schedule = started(Keys::default());
    assert_eq!(schedule.next_ms(), Some(T + 100));
    assert!(!schedule.is_due(T + 99));
    assert!(schedule.is_due(T + 100));
}

#[test]
fn without_a_startup_delay_the_first_one_waits_for_a_reason() {
    let mut schedule = started(Keys { startup_delay_ms: 0, ..Keys::default() });
    assert_eq!(schedule.next_ms(), None);
    assert!(!schedule.is_due(T + 1_000_000));
    schedule.note(T + 1_000_000, 1, 0);
    assert!(schedule.is_due(T + 1_000_000), "nothing was planned, so a deletion starts it at once");
    let mut schedule = started(Keys { startup_delay_ms: 0, ..Keys::default() });
    schedule.note(T, 0, 99);
    assert_eq!(schedule.next_ms(), None);
    schedule.note(T, 0, 1);
    assert!(schedule.is_due(T), "and so do enough writes");
}

#[test]
fn a_deletion_while_one_is_planned_waits_for_the_end_of_the_pause() {
    let mut schedule = collected(Keys::default(), 0);
    schedule.note(T + 1, 1, 0);
    assert_eq!(schedule.next_ms(), Some(T + LEAST_MS));
    assert!(!schedule.is_due(T + LEAST_MS - 1));
    assert!(schedule.is_due(T + LEAST_MS));
}

#[test]
fn so_many_deletions_as_the_threshold_start_one_at_once() {
    let mut schedule = collected(Keys { deletion_threshold: 3, ..Keys::default() }, 0);
    schedule.note(T + 1, 2, 0);
    assert!(!schedule.is_due(T + 1));
    schedule.note(T + 2, 1, 0);
    assert!(schedule.is_due(T + 2));
}

#[test]
fn writes_start_nothing_and_make_the_next_look_collect() {
    let mut schedule = collected(Keys::default(), 0);
    schedule.note(T + 1, 0, 99);
    assert_eq!(schedule.next_ms(), None);
    assert!(!schedule.is_due(T + LEAST_MS), "too few: the look is passed over");
    schedule.note(T + LEAST_MS + 1, 0, 1);
    assert_eq!(schedule.next_ms(), Some(T + 2 * LEAST_MS));
    assert!(schedule.is_due(T + 2 * LEAST_MS));
    let mut schedule = collected(Keys { mutation_threshold: 0, ..Keys::default() }, 0);
    schedule.note(T + 1, 0, u64::MAX);
    assert!(!schedule.is_due(T + LEAST_MS), "a threshold of 0 is never met");
}

#[test]
fn a_trigger_waits_for_schedule_delay_and_never_puts_an_earlier_one_off() {
    let keys = Keys { schedule_delay_ms: 50, ..Keys::default() };
    let mut schedule = collected(keys, 0);
    schedule.trigger(T + 10);
    assert_eq!(schedule.next_ms(), Some(T + 60));
    schedule.trigger(T + 40);
    assert_eq!(schedule.next_ms(), Some(T + 60));
    let mut schedule = collected(keys, 0);
    schedule.trigger(T + LEAST_MS - 10);
    assert_eq!(schedule.next_ms(), Some(T + LEAST_MS));
}

#[test]
fn a_look_without_a_reason_is_passed_over_and_comes_again_a_pause_later() {
    let mut schedule = collected(Keys::default(), 0);
    assert_eq!(schedule.next_ms(), None, "nobody needs to wake for it");
    assert!(!schedule.is_due(T + 10 * LEAST_MS + 7));
    schedule.note(T + 10 * LEAST_MS + 8, 1, 0);
    assert_eq!(schedule.next_ms(), Some(T + 11 * LEAST_MS));
    // The same when nobody has looked in between.
    let mut schedule = collected(Keys::default(), 0);
    schedule.note(T + 100 * LEAST_MS, 1, 0);
    assert!(schedule.is_due(T + 100 * LEAST_MS));
}

#[test]
fn the_pause_follows_from_the_mean_cost_and_the_threshold() {
    let pause_ms = |pause_ppm, costs_us: &[u64]| {
        let mut schedule = started(Keys { pause_ppm, ..Keys::default() });
        let mut now_ms = T + 100;
        for cost_us in costs_us {
            schedule.trigger(now_ms);
            collect(&mut schedule, now_ms, *cost_us, End::Done);
            now_ms += 1;
        }
        schedule.next_ms.unwrap() - (now_ms - 1)
    };
    assert_eq!(pause_ms(20_000, &[100_000]), 4_900);
    assert_eq!(pause_ms(20_000, &[50_000, 150_000]), 4_900, "the mean of all");
    assert_eq!(pause_ms(20_000, &[0]), LEAST_MS);
    assert_eq!(pause_ms(100_000, &[10_000]), 90);
    assert_eq!(pause_ms(0, &[100_000]), 1_000, "without a threshold it stays a second");
}

#[test]
fn no_more_than_max_pause_ppm_and_no_less_than_min_cost_count() {
    let pause_ms = |pause_ppm, cost_us| {
        let schedule = collected(Keys { pause_ppm, ..Keys::default() }, cost_us);
        schedule.next_ms.unwrap() - T
    };
    assert_eq!(pause_ms(MAX_PAUSE_PPM, 40_000), 40);
    assert_eq!(pause_ms(MAX_PAUSE_PPM + 1, 40_000), 40);
    assert_eq!((pause_ms(20_000, MIN_COST_US), pause_ms(20_000, MIN_COST_US - 1)), (LEAST_MS, LEAST_MS));
    assert!(pause_ms(20_000, MIN_COST_US + 1_000) > LEAST_MS);
}

#[test]
fn one_that_finds_nothing_does_not_make_the_pause_shorter() {
    let mut schedule = collected(Keys::default(), 100_000);
    for now_ms in [T + 4_900, T + 20_000] {
        schedule.trigger(now_ms);
        collect(&mut schedule, now_ms, 0, End::Nothing);
        assert_eq!(schedule.next_ms, Some(now_ms + 4_900));
    }
}

#[test]
fn while_one_runs_none_is_due_and_what_is_noted_meanwhile_is_for_the_next() {
    let mut schedule = started(Keys::default());
    assert!(schedule.is_due(T + 100));
    schedule.begin();
    schedule.note(T + 101, 5, 500);
    assert!(!schedule.is_due(T + 10_000) && schedule.next_ms().is_none());
    schedule.end(T + 10_000, 0, End::Done);
    assert!(!schedule.is_due(T + 10_000));
    assert!(schedule.is_due(T + 10_000 + LEAST_MS));
}

#[test]
fn what_is_left_over_has_its_turn_after_the_pause() {
    let mut schedule = started(Keys::default());
    collect(&mut schedule, T + 100, 0, End::More);
    assert_eq!(schedule.next_ms(), Some(T + 100 + LEAST_MS));
}

#[test]
fn what_is_blocked_is_tried_again_later_each_time_by_retry_more_up_to_retry_most() {
    let mut schedule = started(Keys::default());
    let (mut now_ms, mut gaps) = (T + 100, Vec::new());
    for _ in 0..12 {
        collect(&mut schedule, now_ms, 0, End::Blocked);
        gaps.push(schedule.next_ms().unwrap() - now_ms);
        now_ms = schedule.next_ms().unwrap();
    }
    assert_eq!(gaps[..3], [RETRY_MORE_MS, 2 * RETRY_MORE_MS, 3 * RETRY_MORE_MS]);
    assert_eq!(gaps[9..], [RETRY_MOST_MS; 3]);
    collect(&mut schedule, now_ms, 0, End::Done);
    assert_eq!(schedule.next_ms(), None);
}

#[test]
fn the_earliest_end_of_something_wakes_it_though_not_within_the_pause() {
    let mut schedule = collected(Keys::default(), 0);
    schedule.arm(Some(T + 5_000));
    assert_eq!(schedule.next_ms(), Some(T + 5_000));
    assert!(!schedule.is_due(T + 4_999));
    assert!(schedule.is_due(T + 5_000));
    schedule.begin();
    schedule.end(T + 5_000, 0, End::Done);
    assert_eq!(schedule.next_ms(), None, "what ended before the collection was there for it to see");
    schedule.arm(Some(T + 5_001));
    assert_eq!(schedule.next_ms(), Some(T + 5_000 + LEAST_MS));
    schedule.arm(None);
    assert_eq!(schedule.next_ms(), None);
}

#[test]
fn a_clock_that_is_set_back_takes_the_plan_along() {
    let mut schedule = collected(Keys::default(), 0);
    schedule.note(T + 1, 1, 0);
    let back = T - 3_600_000;
    assert!(!schedule.is_due(back));
    assert_eq!(schedule.next_ms(), Some(back + LEAST_MS - 1));
}
