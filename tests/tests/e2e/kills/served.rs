//! The daemon, killed while clients work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use keepwell_tests::{Running, TempHome};

use super::Story;
use super::alone::{a_ref, kill_start, stage};
use super::ledger::Ledger;
use super::watched::{Moment, Told, Watched};

/// Ref sets of one client before its daemon is killed, at most.
const SETS: usize = 12;

/// Puts and ref sets through the daemon, which is killed each time; sometimes its client is killed before it.
pub(super) fn play(story: &mut Story) {
    let home = TempHome::initialised("ada");
    let mut ledger = Ledger::default();
    let mut typical = Duration::from_millis(80);
    while !story.is_over() {
        let daemon = home.up();
        let met_work = match story.below(3) {
            0 => set_refs(story, &home, &mut ledger, daemon),
            _ => put(story, &home, &mut ledger, daemon, &mut typical),
        };
        if story.below(4) == 0 {
            kill_start(story, &home);
        }
        ledger.check(&home, 0);
        story.survived(met_work);
    }
}

/// A client that puts, and a daemon that is killed. Whether the put had not come to its end.
fn put(story: &mut Story, home: &TempHome, ledger: &mut Ledger, daemon: Running, typical: &mut Duration) -> bool {
    let (args, bytes) = stage(story, home, ledger);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let moment = Moment::draw(story, *typical, bytes, args.len() - 2);
    let began = Instant::now();
    let mut putting = Watched::start(home, &args);
    let is_hit = putting.told.until(moment, home);
    if !is_hit {
        *typical = began.elapsed();
    }
    if is_hit && story.below(5) == 0 {
        ledger.acknowledge_lines(&putting.kill());
        // A client that dies takes nothing with it: the daemon goes on.
        ledger.check_served(home);
        daemon.kill();
        return true;
    }
    daemon.kill();
    let (outcome, lines) = putting.finish();
    assert!(outcome.code.is_some_and(|code| [0, 4, 5].contains(&code)), "{outcome}");
    ledger.acknowledge_lines(&lines);
    is_hit
}

/// A client that sets one ref after the other, until the daemon is no more. Whether it had not come to its end.
fn set_refs(story: &mut Story, home: &TempHome, ledger: &mut Ledger, daemon: Running) -> bool {
    let sets: Vec<(String, String)> = (0..SETS).map(|_| a_ref(story, ledger)).collect();
    let moment = Moment::draw(story, Duration::from_millis(150), 0, SETS);
    let ((tell, lines), is_killed) = (channel(), AtomicBool::new(false));
    let (tried, told) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut tried, tell) = (0, tell);
            // Without its daemon a client would go on by itself, and write over what is to be looked at.
            for (name, obj) in sets.iter().take_while(|_| !is_killed.load(Ordering::SeqCst)) {
                tried += 1;
                if home.run(["ref", "set", name, "--obj", obj, "--json"]).code != Some(0) || tell.send(name.clone()).is_err() {
                    break;
                }
            }
            tried
        });
        let mut told = Told::new(lines);
        told.until(moment, home);
        is_killed.store(true, Ordering::SeqCst);
        daemon.kill();
        (client.join().unwrap(), told.rest().len())
    });
    for (at, (name, obj)) in sets.iter().enumerate().take(tried) {
        match at < told {
            true => ledger.acknowledge_ref(name, obj),
            false => ledger.begin_ref(name, obj),
        }
    }
    told < SETS
}
