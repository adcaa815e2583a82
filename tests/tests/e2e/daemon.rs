//! A daemon and its clients: the same answers as without it, nothing lost, and an end that leaves nothing in the way.

use std::os::unix::fs::PermissionsExt;

use keepwell_tests::{Outcome, TempHome};

use super::{blob_file, noise};

const EXAMPLE: &str = "sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688";
const ANY_PORT: &str = "/ip4/127.0.0.1/tcp/0";
const NOBODY: &str = "sha1://0000000000000000000000000000000000000000";

/// Every command, rightly and wrongly used. Words are split at spaces.
const PLAY: &[&str] = &[
    "put note.txt --json",
    "put note.txt large.bin missing tree",
    "put note.txt large.bin missing tree --json",
    "put -r tree",
    "put -r tree --json --ref g/tree",
    "put note.txt --label other --ref g/note#field --json",
    "put large.bin --ref g/note#second",
    "put json.json --scan json --json",
    "put note.txt --scan json --json",
    "put note.txt --link sha1://0000000000000000000000000000000000000000 --json",
    "stat sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?label=x nonsense g/tree --json",
    "stat sha1://0000000000000000000000000000000000000000",
    "cat sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688",
    "cat sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688 --range 2-5",
    "cat sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688 --range 12-",
    "cat sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688 --range 13-",
    "cat sha1://0000000000000000000000000000000000000000 --json",
    "cat sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?b3=0000000000000000000000000000000000000000000000000000000000000000 --json",
    "cat g/note --json",
    "cat keepwell://g/note/second",
    "get g/tree --to out --json",
    "get g/tree --to out",
    "get g/note --to fields --json",
    "get sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?label=got.txt",
    "get sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?label=got.txt --json",
    "get sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688?label=got.txt --force",
    "get no/such --json",
    "ref set g/k a=sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688 --meta {\"m\":1}",
    "ref set g/k --obj {\"n\":1e400} --if-rev none --json",
    "ref set g/k --obj [] --json",
    "ref set g/l --obj {\"n\":123456789012345678901234567890} --expires 2030-01-31T12:00:00Z --copies 2 --json",
    "ref set g/m a=sha1://0000000000000000000000000000000000000000 --json",
    "ref set g/m a=sha1://0000000000000000000000000000000000000000 --allow-missing --json",
    "ref get g/k",
    "ref get g/k --json",
    "ref get g/none --json",
    "ref ls",
    "ref ls g/* --json",
    "ref ls --limit 2 --json",
    "ref ls --limit 2",
    "ref ls --meta m=1 --contains sha1://d9e989f651cdd269d7f9bb8a215d024d8d283688",
    "ref ls --expires-before 2031-01-01T00:00:00Z",
    "ref ls --meta m>=1 --json",
    "ref ls --meta m<1 --json",
    "ref ls --meta /m --meta \"m\"=1.0 --set-by ada --json",
    "ref ls --meta =1 --json",
    "ref ls --set-by nobody --json",
    "ref ls --missing --json",
    "ref ls --under-copies",
    "ref ls --under-copies=1 --sizes --limit 1",
    "ref ls --under-copies=few --json",
    "ref ls --sizes --json",
    "ref rm --glob g/[l --json",
    "ref rm --glob g/? --json",
    "ref ls --cursor nonsense --json",
    "ref touch g/k",
    "ref touch g/none",
    "ref rm g/k --if-rev wrong --json",
    "ref rm g/k",
    "ref rm g/k --json",
    "ref rm --glob g/** --run --json",
    "ref ls --json",
];

fn stage(home: &TempHome) {
    home.file("note.txt", b"example text");
    home.file("large.bin", &noise(7, 3_000_001));
    home.file("tree/a.txt", b"a");
    home.file("tree/sub/large.bin", &noise(8, 200_000));
    std::fs::create_dir(home.scratch().join("tree/empty")).unwrap();
    home.file("json.json", format!("{{\"a\":\"{EXAMPLE}\"}}").as_bytes());
}

/// What differs between two homes, however they are worked on: revs, and the time of a write.
fn comparable(outcome: &Outcome) -> String {
    let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let text = format!("{:?}\n{stdout}\n{}", outcome.code, outcome.stderr);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut words: Vec<String> = text.split_inclusive(|c| !is_part(c)).map(str::to_owned).collect();
    for at in 0..words.len() {
        let word = words[at].trim_end_matches(|c| !is_part(c));
        let is_rev = word.split('-').count() == 3 && word.len() > 34 && word.starts_with(|c: char| c.is_ascii_hexdigit());
        let is_time = at > 1 && words[at - 2].starts_with("set_at_ms");
        if is_rev || is_time {
            words[at] = words[at].replace(word, "X");
        }
    }
    words.concat()
}

#[test]
fn every_command_answers_as_it_does_without_a_daemon() {
    let (alone, served) = (TempHome::initialised("ada"), TempHome::initialised("ada"));
    let daemon = served.up();
    stage(&alone);
    stage(&served);
    for line in PLAY {
        let run = |home: &TempHome| comparable(&home.run(line.split(' ')));
        assert_eq!(run(&served), run(&alone), "{line}");
    }
    let stdin = |home: &TempHome| comparable(&home.run_with_input(["put", "note.txt", "-", "--json"], b"example text"));
    assert_eq!(stdin(&served), stdin(&alone));
    for name in ["out/a.txt", "out/sub/large.bin", "fields/second", "got.txt"] {
        let read = |home: &TempHome| std::fs::read(home.scratch().join(name)).unwrap();
        assert!(read(&served) == read(&alone), "{name}");
    }
    assert!(served.scratch().join("out/empty").is_dir());
    assert_eq!(std::fs::read_dir(served.path().join("ingest")).unwrap().count(), 0);
    daemon.terminate().ok();
    served.run(["fsck", "--verify"]).ok();
}

#[test]
fn rot_is_told_of_as_it_is_without_a_daemon_also_when_it_is_met_late() {
    let (alone, served) = (TempHome::initialised("ada"), TempHome::initialised("ada"));
    let _daemon = served.up();
    let rot = |home: &TempHome, at: usize| {
        let mut bytes = noise(at as u64, 3_000_000);
        home.file("large.bin", &bytes);
        let sha1 = super::sha1_of(&home.run(["put", "large.bin", "--json"]).ok());
        let path = blob_file(home, &sha1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let cat = home.run(["cat", &format!("sha1://{sha1}"), "--json"]);
        let get = home.run(["get", &format!("sha1://{sha1}"), "--json"]);
        assert_eq!((cat.code, get.code), (Some(9), Some(9)), "{}", get.stderr);
        comparable(&cat) + &comparable(&get)
    };
    for at in [0, 2_999_999] {
        assert!(rot(&served, at) == rot(&alone, at), "rot at {at}");
    }
}

#[test]
fn a_second_daemon_is_told_who_has_the_home() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    let second = home.run(["up", "--json"]).exits(5);
    assert_eq!(second.error_code(), "HOME_BUSY");
    let holder = second.json()["error"]["details"]["holder"].as_str().unwrap().to_owned();
    assert!(holder.contains(&format!("process {}", daemon.id())), "{holder}");
    let fsck = home.run(["fsck", "--repair", "--json"]).exits(5);
    assert!(fsck.json()["error"]["hint"].as_str().unwrap().contains("stop the daemon"));
    assert_eq!(home.run(["init", "--json"]).exits(10).error_code(), "EXISTS");
    home.run(["config", "show"]).ok();
}

#[test]
fn after_a_kill_the_next_daemon_takes_over_and_all_that_was_said_is_there() {
    let home = TempHome::initialised("ada");
    home.file("note.txt", b"example text");
    for round in 0..3 {
        let daemon = home.up();
        home.run(["put", "note.txt", "--ref", &format!("g/{round}")]).ok();
        daemon.kill();
        assert!(home.path().join("api.sock").exists(), "a killed daemon leaves its socket");
    }
    assert_eq!(home.run(["status", "--json"]).ok().json()["daemon"], false);
    let daemon = home.up();
    let status = home.run(["status", "--json"]).ok().json();
    assert_eq!((&status["daemon"], &status["refs"], &status["blobs"]), (&true.into(), &3.into(), &1.into()));
    assert_eq!(home.run(["cat", "g/0"]).ok().text(), "example text");
    daemon.terminate().ok();
    home.run(["fsck", "--verify"]).ok();
}

#[test]
fn eight_clients_at_once_lose_nothing() {
    let home = TempHome::initialised("ada");
    let daemon = home.up();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let home = &home;
            scope.spawn(move || {
                for round in 0..4 {
                    let name = format!("{client}-{round}.bin");
                    home.file(&name, &noise(client * 100 + round, if round % 2 == 0 { 100 } else { 70_000 }));
                    home.run(["put", &name, "--ref", &format!("clients/{client}/{round}")]).ok();
                    home.run(["ref", "set", "clients/shared", "--obj", &format!("{{\"n\":{client}}}")]).ok();
                }
            });
        }
    });
    assert_eq!(home.run(["ref", "ls", "clients/*/*"]).ok().text().lines().count(), 32);
    let shared = home.run(["ref", "get", "clients/shared", "--json"]).ok().json();
    assert_eq!(shared["conflicts"].as_array().unwrap().len(), 0, "one engine sees them all in turn");
    daemon.terminate().ok();
    let checked = home.run(["fsck", "--verify", "--json"]).ok().json_lines();
    assert_eq!(checked.last().unwrap()["checked"], 32);
}

#[test]
fn a_daemon_that_is_asked_to_stop_ends_cleanly() {
    let home = TempHome::initialised("ada");
    let mut daemon = home.start(["up", "--json", "--listen", ANY_PORT]);
    let ready = daemon.next_json();
    assert_eq!((&ready["name"], &ready["pid"]), (&"ada".into(), &daemon.id().into()));
    let socket = ready["api"][0].as_str().unwrap().strip_prefix("unix://").unwrap().to_owned();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let ended = daemon.terminate().ok();
    assert!(ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended}");
    assert!(!std::path::Path::new(&socket).exists());
    assert_eq!(home.run(["status", "--json"]).ok().json()["daemon"], false);
}

#[test]
fn a_home_whose_path_is_too_long_for_a_socket_is_served_elsewhere() {
    let home = TempHome::new();
    let long = home.scratch().join("h".repeat(100));
    let run = |args: &[&str]| Outcome::of(home.command().env("KEEPWELL_HOME", &long).args(args), b"");
    run(&["init", "--name", "ada"]).ok();
    let mut daemon =
        keepwell_tests::Running::start(home.command().env("KEEPWELL_HOME", &long).args(["up", "--json", "--listen", ANY_PORT]));
    let ready = daemon.next_json();
    assert!(!ready["api"][0].as_str().unwrap().contains("hhhh"), "{ready}");
    assert_eq!(run(&["status", "--json"]).ok().json()["daemon"], true);
    daemon.terminate().ok();
}

#[test]
fn what_is_not_built_yet_is_said() {
    let home = TempHome::initialised("ada");
    assert!(home.run(["up", "--api", "127.0.0.1:0"]).exits(2).stderr.contains("not built yet"));
    let homeless = TempHome::new();
    homeless.run(["up"]).exits(2);
    assert_eq!(home.run(["cat", NOBODY, "--json"]).exits(8).error_code(), "NO_PROVIDER");
}
