//! Commands that work on a home by themselves, killed.

use std::time::{Duration, Instant};

use keepwell_tests::TempHome;

use super::Story;
use super::ledger::{Blob, Ledger, check_disk};
use super::watched::{Moment, Watched};

/// Puts and ref sets, each broken off; sometimes the next start is, too.
pub(super) fn play(story: &mut Story) {
    let home = TempHome::initialised("ada");
    let mut ledger = Ledger::default();
    let mut typical = Duration::from_millis(60);
    while !story.is_over() {
        let is_hit = match story.below(3) {
            0 => kill_ref_set(story, &home, &mut ledger),
            _ => kill_put(story, &home, &mut ledger, &mut typical),
        };
        if is_hit && story.below(4) == 0 {
            kill_start(story, &home);
        }
        ledger.check(&home, 0);
        // A command that was faster than its killer was not killed.
        if is_hit {
            story.survived(true);
        }
    }
}

/// Writes files of some blobs, and notes that they are about to be put; the words of the put.
pub(super) fn stage(story: &mut Story, home: &TempHome, ledger: &mut Ledger) -> (Vec<String>, u64) {
    let (mut args, mut bytes) = (vec!["put".to_owned(), "--json".to_owned()], 0);
    for number in 0..1 + story.below(6) {
        let blob = Blob::any(story);
        let name = format!("{number}.bin");
        home.file(&name, &blob.bytes);
        bytes += blob.bytes.len() as u64;
        ledger.begin(blob);
        args.push(name);
    }
    (args, bytes)
}

/// Kills a put. If it was faster than the moment, it is known better how long one takes.
fn kill_put(story: &mut Story, home: &TempHome, ledger: &mut Ledger, typical: &mut Duration) -> bool {
    let (args, bytes) = stage(story, home, ledger);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let moment = Moment::draw(story, *typical, bytes, args.len() - 2);
    let began = Instant::now();
    let mut putting = Watched::start(home, &args);
    if putting.told.until(moment, home) {
        ledger.acknowledge_lines(&putting.kill());
        return true;
    }
    let (outcome, lines) = putting.finish();
    outcome.ok();
    *typical = began.elapsed();
    assert_eq!(ledger.acknowledge_lines(&lines), args.len() - 2);
    false
}

fn kill_ref_set(story: &mut Story, home: &TempHome, ledger: &mut Ledger) -> bool {
    let (name, obj) = a_ref(story, ledger);
    ledger.begin_ref(&name, &obj);
    let moment = Moment::draw(story, Duration::from_millis(15), 0, 1);
    let mut setting = Watched::start(home, &["ref", "set", &name, "--obj", &obj, "--json"]);
    let is_hit = setting.told.until(moment, home);
    let lines = if is_hit { setting.kill() } else { setting.finish().1 };
    if !lines.is_empty() {
        ledger.acknowledge_ref(&name, &obj);
    }
    is_hit
}

/// A ref, often one that was set before, and a new object for it that names what is held.
pub(super) fn a_ref(story: &mut Story, ledger: &Ledger) -> (String, String) {
    let (name, number) = (format!("kills/{}", story.below(8)), story.below(1 << 40));
    let obj = match ledger.any_acknowledged(story) {
        Some(blob) => format!("{{\"data\":\"sha1://{}\",\"n\":{number}}}", blob.sha1),
        None => format!("{{\"n\":{number}}}"),
    };
    (name, obj)
}

/// Kills a daemon that is starting: what the start mends is mended by the next one.
pub(super) fn kill_start(story: &mut Story, home: &TempHome) {
    let mut starting = Watched::start(home, &["up", "--json"]);
    starting.told.until(Moment::After(Duration::from_micros(story.below(40_000))), home);
    starting.kill();
    check_disk(home, 0);
    story.survived(true);
}
