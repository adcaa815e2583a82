//! Either end of a fetch and of a join, killed: what was gathered is used, and what was promised is kept on both.

use std::time::{Duration, Instant};

use keepwell_tests::{Outcome, Running, TempHome};

use super::Story;
use super::ledger::{Blob, Ledger, check_disk};
use super::watched::{Moment, Watched, gathered};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is verified at once.
const GROUP_BYTES: u64 = keepwell_store::limits::GROUP_BYTES as u64;

/// A machine with a daemon that is always found at one address.
struct Machine {
    home: TempHome,
    address: String,
    daemon: Option<Running>,
    ledger: Ledger,
}

impl Machine {
    fn start(home: TempHome) -> Machine {
        let address = "/ip4/127.0.0.1/tcp/0".to_owned();
        let mut machine = Machine { home, address, daemon: None, ledger: Ledger::default() };
        machine.up();
        machine
    }

    fn up(&mut self) {
        let mut daemon = self.home.start(["up", "--json", "--listen", &self.address]);
        self.address = daemon.next_json()["listen"][0].as_str().unwrap().to_owned();
        self.daemon = Some(daemon);
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// Looks at the home of a daemon that was killed, and starts it again.
    fn check_and_up(&mut self, partials: usize) {
        check_disk(&self.home, partials);
        self.up();
        self.ledger.check_served(&self.home);
    }

    /// Asks again until the answer is a success.
    fn until_ok(&self, args: &[&str]) -> Outcome {
        let began = Instant::now();
        loop {
            let outcome = self.home.run(args);
            if outcome.code == Some(0) {
                return outcome;
            }
            assert!(began.elapsed() < PATIENCE, "{args:?} did not succeed: {outcome}");
        }
    }

    fn invite(&self) -> String {
        self.home.run(["invite"]).ok().text().to_owned()
    }
}

/// A blob is put and named on one machine and fetched on the other; either daemon is killed on the way.
pub(super) fn play_fetch(story: &mut Story) {
    let mut ada = Machine::start(TempHome::initialised("ada"));
    let home = TempHome::new();
    home.run(["join", &ada.invite(), "--name", "ben"]).ok();
    let mut ben = Machine::start(home);
    let mut typical = Duration::from_millis(150);
    while !story.is_over() {
        let len = [1_000, 60_000, 900_000, 8_000_000, 20_000_000][usize::try_from(story.below(5)).unwrap()];
        let blob = Blob::drawn(story, len);
        let name = format!("kills/{}", blob.sha1);
        ada.home.file("blob", &blob.bytes);
        ada.ledger.begin(blob.clone());
        ada.home.run(["put", "blob", "--ref", &format!("{name}#blob")]).ok();
        ada.ledger.acknowledge(&blob.sha1);
        ben.until_ok(&["ref", "get", &name]);
        let met_work = kill_fetch(story, &mut ada, &mut ben, &name, blob, &mut typical);
        story.survived(met_work);
    }
    for machine in [&mut ada, &mut ben] {
        machine.kill();
        machine.ledger.check(&machine.home, 0);
    }
}

/// Kills one end of a fetch, and fetches again. Whether the fetch had not come to its end.
fn kill_fetch(story: &mut Story, ada: &mut Machine, ben: &mut Machine, name: &str, blob: Blob, typical: &mut Duration) -> bool {
    let (size_bytes, sha1) = (blob.bytes.len() as u64, blob.sha1.clone());
    ben.ledger.begin(blob);
    let moment = Moment::draw(story, *typical, size_bytes, 1);
    let began = Instant::now();
    let mut fetching = Watched::start(&ben.home, &["fetch", name, "--json"]);
    let met_work = fetching.told.until(moment, &ben.home);
    if !met_work {
        *typical = began.elapsed();
    }
    let here_bytes = if story.below(3) == 0 {
        ada.kill();
        let (_, lines) = fetching.finish();
        ben.ledger.acknowledge_lines(&whole(lines));
        ada.check_and_up(0);
        0
    } else {
        ben.kill();
        let (_, lines) = fetching.finish();
        ben.ledger.acknowledge_lines(&whole(lines));
        let here_bytes = gathered(&ben.home);
        check_disk(&ben.home, 1);
        // What no partial accounts for has gone by now.
        let kept_bytes = gathered(&ben.home);
        ben.up();
        here_bytes.min(kept_bytes)
    };
    let fetched = ben.until_ok(&["fetch", name, "--json"]).json();
    let received_bytes = fetched["received_bytes"].as_u64().unwrap();
    let resumed_bytes = here_bytes / GROUP_BYTES * GROUP_BYTES;
    assert!(received_bytes <= size_bytes - resumed_bytes, "{resumed_bytes} of {size_bytes} were here: {fetched}");
    if ben.ledger.holds(&sha1) {
        assert_eq!(fetched["existed"], true, "the fetch was acknowledged");
    }
    ben.ledger.acknowledge(&sha1);
    assert_eq!(gathered(&ben.home), 0);
    ben.ledger.check_served(&ben.home);
    met_work
}

/// The lines that tell of a success.
fn whole(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| !line.contains("\"error\"")).collect()
}

/// A machine joins; it or its inviter is killed on the way, and then it joins again with the same ticket.
pub(super) fn play_join(story: &mut Story) {
    let mut ada = Machine::start(TempHome::initialised("ada"));
    ada.home.file("note", b"example text");
    ada.home.run(["put", "note", "--ref", "lab/note#note"]).ok();
    let mut typical = Duration::from_millis(250);
    let mut joined = 0;
    while !story.is_over() {
        let met_work = kill_join(story, &mut ada, &mut typical);
        joined += 1;
        let nodes = ada.home.run(["node", "ls", "--json"]).ok().json_lines();
        assert_eq!(nodes.len(), 1 + joined, "each joined once: {nodes:?}");
        story.survived(met_work);
    }
    ada.kill();
    ada.ledger.check(&ada.home, 0);
}

/// Kills one end of a join, and joins again. Whether the join had not come to its end.
fn kill_join(story: &mut Story, ada: &mut Machine, typical: &mut Duration) -> bool {
    let (ben, ticket) = (TempHome::new(), ada.invite());
    let args = ["join", &ticket, "--name", "ben", "--json"];
    let moment = Moment::draw(story, *typical, 0, 0);
    let began = Instant::now();
    let mut joining = Watched::start(&ben, &args);
    let met_work = joining.told.until(moment, &ben);
    if !met_work {
        *typical = began.elapsed();
    }
    let is_inviter = story.below(3) == 0;
    if is_inviter {
        ada.kill();
        ada.check_and_up(0);
    }
    let lines = whole(joining.kill());
    let key = || std::fs::read(ben.path().join("identity.key")).ok();
    let first = key();
    let again = ben.run(args).ok().json();
    assert_eq!((&again["name"], &again["via"]), (&"ben".into(), &"ada".into()));
    assert!(first.is_none_or(|first| Some(first) == key()), "the key is kept");
    if let Some(line) = lines.first() {
        assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["node"], again["node"]);
    }
    check_disk(&ben, 0);
    let mut ben = Machine::start(ben);
    let cat = ben.until_ok(&["cat", "lab/note"]);
    assert_eq!(cat.text(), "example text");
    ben.kill();
    ben.ledger.check(&ben.home, 0);
    met_work
}
