//! What a node finds in itself: its disk, the other members, and what is left lying about.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use keepwell_protocol::catalog::item::Kind;
use keepwell_protocol::catalog::reference::RefBody;
use keepwell_protocol::clock::Doubt;
use keepwell_protocol::units::{SizeBytes, TimeMs};
use keepwell_store::counts::Count;
use keepwell_store::error::StoreError;
use keepwell_store::ingest;
use keepwell_store::layout;
use keepwell_store::store::{Snapshot, Store};

use super::{ok, problem, warn};
use crate::failure::{Code, Failure};
use crate::home::damage;
use crate::limits::{CLOCK_SKEW_MS, LOW_SPACE_BYTES, OUT_OF_SPACE_BYTES, STALE_INGEST_MS};
use crate::service::index::NEXT_STEP;
use crate::service::refs::name_of;
use crate::service::types::{CheckLine, PeerLine, Standing};
use crate::service::{network, scrub};

/// An open home.
pub struct Inside<'a> {
    /// Its store.
    pub store: &'a Store,
    /// Its folder.
    pub home: &'a Path,
    /// How much it may hold; none is what the disk has.
    pub max_size_bytes: Option<u64>,
    /// The machine's clock, in Unix milliseconds.
    pub now_ms: u64,
}

/// What a daemon knows of the network.
pub struct Outside {
    /// Where it listens, as multiaddresses.
    pub listen: Vec<String>,
    /// The other members.
    pub peers: Vec<PeerLine>,
    /// Why nothing is ended by the machine's clock, if so.
    pub doubt: Option<Doubt>,
    /// What its threads that move files have been at for too long.
    pub hung: Vec<String>,
}

/// Looks at everything; what cannot be looked at is a problem of its own.
pub fn checks(inside: &Inside<'_>, outside: Option<&Outside>) -> Vec<CheckLine> {
    let told = |check: &str, outcome: Result<CheckLine, Failure>| outcome.unwrap_or_else(|failure| problem(check, &failure));
    let mut lines = vec![told("space", disk(inside))];
    if let Some(Outside { listen, peers, .. }) = outside {
        lines.push(listening(listen));
        lines.push(connected(peers));
    }
    let snapshot = match inside.store.snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            lines.push(problem("index", &error.into()));
            return lines;
        }
    };
    lines.push(index(inside.home));
    lines.push(told("standing", standing(&snapshot)));
    lines.push(told("clock", clock(&snapshot, inside.now_ms, outside.and_then(|outside| outside.doubt))));
    lines.push(told("forks", forks(&snapshot)));
    let hung = outside.map_or(&[][..], |outside| &outside.hung);
    lines.push(told("unlinks", unlinks(inside, &snapshot, hung)));
    lines.push(told("scrub", scrubbed(&snapshot)));
    lines.push(told("quarantine", quarantine(inside.home)));
    lines.push(told("ingest", leftovers(inside, &snapshot)));
    lines
}

/// What a check of the index has found, when there was one.
fn index(home: &Path) -> CheckLine {
    match damage::read(home) {
        None => ok("index", "no damage was found in it"),
        Some(why) => {
            let told = format!("damage was found in the index, so nothing is deleted here: {why}");
            problem("index", &Failure::new(Code::Integrity, told).hint(NEXT_STEP))
        }
    }
}

fn standing(snapshot: &Snapshot) -> Result<CheckLine, Failure> {
    let home = snapshot.home()?.ok_or_else(|| StoreError::Inconsistent("the home does not say what it is".into()))?;
    let standing = Standing::of(snapshot, &home.node)?;
    Ok(match standing.advice() {
        None => ok("standing", "a member of its network"),
        Some((what, hint)) if standing == Standing::Unknown => warn("standing", what).hint(hint),
        Some((what, hint)) => problem("standing", &Failure::new(Code::Denied, what).hint(hint)),
    })
}

fn disk(inside: &Inside<'_>) -> Result<CheckLine, Failure> {
    let free = inside.store.fs().free_bytes().map_err(|error| Failure::file("cannot ask the disk of", inside.home, &error))?;
    Ok(space(free, inside.store.snapshot()?.count(Count::BlobBytes)?, inside.max_size_bytes))
}

/// What a disk with `free` bytes left means for a home that holds `used` of the `max` bytes that it may.
fn space(free: u64, used: u64, max: Option<u64>) -> CheckLine {
    let size = |bytes: u64| SizeBytes(bytes).human();
    let left = max.map(|max| max.saturating_sub(used));
    let more_room = "free some space on that disk, or move the home to a larger one";
    if free < OUT_OF_SPACE_BYTES {
        let full = Failure::new(Code::NoSpace, format!("the disk is full: {} are free", size(free)));
        return problem("space", &full.hint(more_room));
    }
    match (left, max) {
        (Some(0), Some(max)) => warn("space", format!("the home holds {}, and max_size is {}", size(used), size(max)))
            .hint("raise max_size in config.toml, or remove refs to what is not needed any more"),
        _ if free < LOW_SPACE_BYTES => warn("space", format!("only {} are free on the disk", size(free))).hint(more_room),
        (Some(left), _) if left > free => {
            warn("space", format!("max_size allows {} more, and the disk has room for {}", size(left), size(free)))
                .hint("lower max_size in config.toml, or free some space on that disk")
        }
        _ => ok("space", format!("{} held, {} free", size(used), size(free))),
    }
}

fn listening(addresses: &[String]) -> CheckLine {
    let is_here = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    let hint = "name an address of this machine under `listen` in config.toml, such as /ip4/0.0.0.0/tcp/4077";
    match addresses {
        [] => warn("listen", "nowhere: other nodes cannot come to this one").hint(hint),
        all if all.iter().all(is_here) => {
            warn("listen", format!("{}: only this machine can reach that", all.join(", "))).hint(hint)
        }
        all => ok("listen", all.join(", ")),
    }
}

fn connected(peers: &[PeerLine]) -> CheckLine {
    let away: Vec<String> = peers.iter().filter(|peer| !peer.connected).map(last_seen).collect();
    let count = format!("{} of {} connected", peers.len() - away.len(), peers.len());
    if away.is_empty() {
        return ok("peers", count);
    }
    warn("peers", format!("{count}; not: {}", away.join(", ")))
        .hint("see that `keepwell up` runs there, and that one of the two machines can reach the other's port")
}

fn last_seen(peer: &PeerLine) -> String {
    let time = peer.last_seen_ms.and_then(|ms| TimeMs::from_unix_ms(ms).ok());
    let when = time.map_or_else(|| "not seen since this daemon started".to_owned(), |time| format!("last seen {time}"));
    format!("{} ({when})", peer.name)
}

/// A daemon hears what time the others have. And who sets a ref notes the time, which should not lie ahead.
fn clock(snapshot: &Snapshot, now_ms: u64, doubt: Option<Doubt>) -> Result<CheckLine, Failure> {
    if let Some(doubt) = doubt {
        return Ok(doubted(doubt));
    }
    let mut newest: Option<(u64, String, _)> = None;
    snapshot.visit_items::<StoreError>(Kind::REF, "", |name, row| {
        for value in row.values() {
            let set_at_ms = RefBody::of(value).map_or(0, |body| body.set_at_ms);
            if newest.as_ref().is_none_or(|(latest, ..)| set_at_ms > *latest) {
                newest = Some((set_at_ms, name.to_owned(), value.author));
            }
        }
        Ok(true)
    })?;
    let Some((set_at_ms, name, author)) = newest else { return Ok(ok("clock", "no ref tells of another time")) };
    if set_at_ms <= now_ms.saturating_add(CLOCK_SKEW_MS) {
        return Ok(ok("clock", "no ref was set in the future"));
    }
    let author = name_of(snapshot, &author)?;
    let minutes = (set_at_ms - now_ms) / 60_000;
    Ok(warn("clock", format!("ref {name} was set by {author} {minutes} minutes from now: a clock is wrong"))
        .hint(format!("compare `date -u` here and on {author}; nothing is lost, but what expires does so by the clock")))
}

fn doubted(doubt: Doubt) -> CheckLine {
    let told = format!("{doubt}: no ref expires by it");
    match doubt.is_contradicted() {
        true => warn("clock", told)
            .hint("compare `date -u` here and on the other machines and set what is wrong; if nothing is, restart the daemon"),
        false => ok("clock", told),
    }
}

fn forks(snapshot: &Snapshot) -> Result<CheckLine, Failure> {
    let names = network::names(snapshot)?;
    let forked: BTreeSet<String> = snapshot.forked()?.into_iter().map(|chain| network::name_of(&names, &chain.node)).collect();
    if forked.is_empty() {
        return Ok(ok("forks", "no node wrote two histories"));
    }
    let forked = forked.into_iter().collect::<Vec<_>>().join(", ");
    Ok(warn("forks", format!("two histories were written under one name by {forked}"))
        .hint("a home was copied or restored from a backup there: use one copy of it only, and let others join as new nodes"))
}

/// A deletion that is stuck is a problem: its space stays taken, and nothing but a person can take away what is in its way.
fn unlinks(inside: &Inside<'_>, snapshot: &Snapshot, hung: &[String]) -> Result<CheckLine, Failure> {
    let next = "see what is in its way and whether the disk can be written; the daemon goes on trying by itself";
    if let Some(errand) = hung.first() {
        let told = format!("the file system does not answer: {errand}");
        let failure =
            Failure::new(Code::Unreachable, told).hint("see what the disk does (`dmesg`); everything else goes on meanwhile");
        return Ok(problem("unlinks", &failure));
    }
    let failed = snapshot.failed_unlinks()?;
    let Some((id, row)) = failed.first() else {
        return Ok(ok("unlinks", format!("{} deleted blobs wait to be moved away", snapshot.queued_unlinks()?.len())));
    };
    let (path, why) = (layout::trash_file(id).under(inside.home), row.last_error.as_deref().unwrap_or("unknown"));
    let told = format!(
        "{} deleted blobs could not be moved away; {id} not to {} in {} attempts: {why}",
        failed.len(),
        path.display(),
        row.attempts
    );
    Ok(problem("unlinks", &Failure::new(Code::Integrity, told).hint(next)))
}

/// What was lost here and is needed is a problem until it is here again.
fn scrubbed(snapshot: &Snapshot) -> Result<CheckLine, Failure> {
    let (state, lost) = (snapshot.scrub_state()?, scrub::lost(snapshot)?);
    if let Some(first) = lost.first() {
        let told = format!("the bytes of {} blobs that refs need were lost or rotten here, such as {first}", lost.len());
        let hint = "a daemon fetches them from whoever has them: see `keepwell where` and `keepwell status`; else put them again";
        return Ok(problem("scrub", &Failure::new(Code::Integrity, told).hint(hint)));
    }
    let Some(last) = state.last else { return Ok(ok("scrub", "what is held has not been read again yet")) };
    let when = TimeMs::from_unix_ms(last.ended_ms).map_or_else(|_| "-".to_owned(), |time| time.to_string());
    let told = format!("all of {} blobs were read by {when}; rotten: {}", last.blobs, last.rotten);
    Ok(match last.unreadable {
        0 => ok("scrub", told),
        some => warn("scrub", format!("{told}; {some} could not be read")).hint("`keepwell events` tells which and why"),
    })
}

fn quarantine(home: &Path) -> Result<CheckLine, Failure> {
    let folder = layout::quarantine_folder().under(home);
    let found = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        other => other.map_err(|error| Failure::file("cannot list", &folder, &error))?.count(),
    };
    Ok(match found {
        0 => ok("quarantine", "empty"),
        _ => warn("quarantine", format!("{found} files were taken out of the way as damaged, in {}", folder.display()))
            .hint("get those blobs from another node or put them again; then delete the files, nothing else will"),
    })
}

/// Files that have not been written to for long and that no fetch will go on with.
fn leftovers(inside: &Inside<'_>, snapshot: &Snapshot) -> Result<CheckLine, Failure> {
    let folder = layout::ingest_folder().under(inside.home);
    let (partials, uploads) = (snapshot.partial_ingests()?, snapshot.all_uploads()?);
    let resumed: BTreeSet<_> = partials.iter().copied().chain(uploads.iter().map(|(_, upload)| upload.ingest())).collect();
    let found = ingest::leftovers(inside.store.fs()).map_err(|error| Failure::file("cannot list", &folder, &error))?;
    let (mut stale, mut stale_bytes) = (0_u64, 0);
    for id in found.iter().filter(|id| !resumed.contains(id)) {
        // One that has gone meanwhile is none.
        let Ok(file) = fs::metadata(layout::ingest_file(id).under(inside.home)) else { continue };
        let written = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let written_ms = written.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(inside.now_ms);
        if inside.now_ms.saturating_sub(written_ms) > STALE_INGEST_MS {
            stale += 1;
            stale_bytes += file.len();
        }
    }
    let resumed = match (partials.len(), uploads.len()) {
        (0, 0) => String::new(),
        (fetches, 0) => format!("; {fetches} broken-off fetches will go on where they were"),
        (fetches, uploads) => format!("; {fetches} broken-off fetches and {uploads} uploads will go on where they were"),
    };
    Ok(match stale {
        0 => ok("ingest", format!("nothing is left of broken-off puts{resumed}")),
        _ => warn("ingest", format!("{stale} files ({}) are left of broken-off puts{resumed}", SizeBytes(stale_bytes).human()))
            .hint("they go when the daemon is started again"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::types::CheckState;

    const GIB: u64 = 1 << 30;

    fn state(line: &CheckLine) -> CheckState {
        line.state
    }

    #[test]
    fn space_is_low_below_low_space_bytes_and_out_below_out_of_space_bytes() {
        let free = |bytes| state(&space(bytes, 0, None));
        assert_eq!(free(OUT_OF_SPACE_BYTES - 1), CheckState::Problem);
        assert_eq!(free(OUT_OF_SPACE_BYTES), CheckState::Warn);
        assert_eq!(free(LOW_SPACE_BYTES - 1), CheckState::Warn);
        assert_eq!(free(LOW_SPACE_BYTES), CheckState::Ok);
    }

    #[test]
    fn a_home_that_may_grow_beyond_its_disk_is_told_so() {
        assert_eq!(state(&space(10 * GIB, 5 * GIB, Some(15 * GIB))), CheckState::Ok);
        let tight = space(10 * GIB, 5 * GIB, Some(15 * GIB + 1));
        assert!(tight.state == CheckState::Warn && tight.message.contains("room for"), "{tight:?}");
        let full = space(10 * GIB, 5 * GIB, Some(5 * GIB));
        assert!(full.state == CheckState::Warn && full.hint.contains("max_size"), "{full:?}");
    }

    #[test]
    fn a_clock_that_is_contradicted_is_told_and_one_that_nobody_confirms_is_in_order() {
        assert_eq!(state(&doubted(Doubt::Unheard)), CheckState::Ok);
        let jumped = doubted(Doubt::Jumped(86_400_000));
        assert!(jumped.state == CheckState::Warn && jumped.message.contains("set forward by 1d"), "{jumped:?}");
    }

    #[test]
    fn a_node_that_nobody_can_come_to_is_told_so() {
        let at = |addresses: &[&str]| state(&listening(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>()));
        assert_eq!(at(&[]), CheckState::Warn);
        assert_eq!(at(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]), CheckState::Warn);
        assert_eq!(at(&["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"]), CheckState::Ok);
    }

    #[test]
    fn who_is_away_is_named_with_when_it_was_seen() {
        let peer = |name: &str, connected, last_seen_ms| PeerLine {
            name: name.into(),
            node: "00".repeat(32),
            connected,
            rtt_ms: None,
            last_seen_ms,
        };
        let peers = [peer("ada", true, Some(1)), peer("ben", false, Some(1_600_000_000_000)), peer("cyd", false, None)];
        let line = connected(&peers);
        assert_eq!(
            line.message,
            "1 of 3 connected; not: ben (last seen 2020-09-13T12:26:40Z), cyd (not seen since this daemon started)"
        );
        assert_eq!(
            (line.state, state(&connected(&peers[..1])), state(&connected(&[]))),
            (CheckState::Warn, CheckState::Ok, CheckState::Ok)
        );
    }
}
