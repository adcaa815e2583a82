//! `kill -9` of real processes at any moment of a put, a ref set, a fetch and a join: what was acknowledged is there afterwards.
//!
//! A story draws from its seed what is done, who is killed and when; between its kills it looks at everything that was ever said.
//! Moments are of three kinds: a time within what the work usually takes, a number of bytes gathered in `ingest/`, and right after
//! an acknowledgement. `KEEPWELL_KILLS=N` asks for N kills (`scripts/soak kills`); a failure prints how to play its story again.

mod alone;
mod ledger;
mod network;
mod served;
mod watched;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Kills of one test, unless `KEEPWELL_KILLS` says otherwise: with four kinds of stories, more than ten in all.
const KILLS: u64 = 3;
const KILLS_PER_STORY: u64 = 5;

/// A story under way: its draws, how many kills it has come through, and how many of these met work that was not done.
struct Story {
    rng: ChaCha8Rng,
    wanted: u64,
    survived: u64,
    met_work: u64,
}

impl Story {
    fn of(seed: u64, wanted: u64) -> Story {
        Story { rng: ChaCha8Rng::seed_from_u64(seed), wanted, survived: 0, met_work: 0 }
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }

    fn is_over(&self) -> bool {
        self.survived >= self.wanted
    }

    /// A kill after which all was as it should be.
    fn survived(&mut self, met_work: bool) {
        self.survived += 1;
        self.met_work += u64::from(met_work);
    }
}

/// Plays a story until it has seen kills enough.
type Play = fn(&mut Story);

/// The four kinds of stories, by the name that a failure prints.
const KINDS: [(&str, Play); 4] =
    [("alone", alone::play), ("served", served::play), ("fetch", network::play_fetch), ("join", network::play_join)];

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Plays stories of one kind until there were kills enough, tells how many went well, and fails if one did not.
#[track_caller]
fn sweep(kind: &str) {
    let (_, play) = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap();
    let wanted = number("KEEPWELL_KILLS").map_or(KILLS, |kills| kills.div_ceil(KINDS.len() as u64));
    let from = number("KEEPWELL_FROM").unwrap_or(0);
    let (mut passed, mut met_work, mut failures) = (0, 0, Vec::new());
    for seed in from.. {
        if passed + failures.len() as u64 >= wanted {
            break;
        }
        let mut story = Story::of(seed, KILLS_PER_STORY.min(wanted - passed - failures.len() as u64));
        let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut story)));
        passed += story.survived;
        met_work += story.met_work;
        if outcome.is_err() {
            println!(
                "kill {} of story {seed} went wrong; again: KEEPWELL_KILL_CASE='{kind} {seed}' scripts/soak",
                story.survived + 1
            );
            failures.push(seed);
        }
    }
    println!("tally kill-{kind}: {passed} passed, {} failed ({met_work} of the kills met work under way)", failures.len());
    assert!(failures.is_empty(), "stories {failures:?} of kind {kind} went wrong");
}

#[test]
fn nothing_acknowledged_is_lost_when_a_command_without_a_daemon_is_killed() {
    sweep("alone");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed_while_clients_work() {
    sweep("served");
}

#[test]
fn a_fetch_goes_on_when_either_end_of_it_was_killed() {
    sweep("fetch");
}

#[test]
fn a_join_is_repeated_by_the_same_key_when_either_end_of_it_was_killed() {
    sweep("join");
}

/// `KEEPWELL_KILL_CASE='fetch 17'` plays that story again. Its draws are the same; when a kill lands is the machine's.
#[test]
fn the_kill_case_of_the_environment_passes() {
    let Ok(text) = env::var("KEEPWELL_KILL_CASE") else { return };
    let (kind, seed) = text.split_once(' ').expect("KEEPWELL_KILL_CASE is `KIND SEED`");
    let (_, play) = KINDS.into_iter().find(|(name, _)| *name == kind).expect("a kind of story");
    let mut story = Story::of(seed.parse().expect("a seed is a number"), KILLS_PER_STORY);
    play(&mut story);
    println!("{text}: {} kills", story.survived);
}
