//! The simulated disk loses what a real one may lose, and nothing else.

use std::io;

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};

use super::{SimBackend, SimDisk};
use crate::fs::{BlobFs, FileReader, HomePath, is_disk_full};

const SEEDS: u64 = 40;

fn path(text: &str) -> HomePath {
    HomePath::parse(text).unwrap()
}

fn bytes_of(fs: &dyn BlobFs, at: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut FileReader::new(&*fs.open(&path(at))?), &mut bytes)?;
    Ok(bytes)
}

fn write(fs: &dyn BlobFs, at: &str, bytes: &[u8]) -> io::Result<()> {
    let file = fs.create_new(&path(at))?;
    file.write_all_at(bytes, 0)?;
    file.sync()
}

/// Runs `act` on a disk of each seed, cuts the power, and tells what `look` finds after the restart.
fn after_power_cut<T>(act: impl Fn(&dyn BlobFs), look: impl Fn(&dyn BlobFs) -> T) -> Vec<T> {
    (0..SEEDS)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            act(&disk.fs());
            disk.crash();
            disk.restart();
            look(&disk.fs())
        })
        .collect()
}

#[test]
fn a_synced_name_of_a_synced_file_survives() {
    let act = |fs: &dyn BlobFs| {
        write(fs, "a", b"bytes").unwrap();
        fs.sync_folder(&HomePath::home()).unwrap();
    };
    assert!(after_power_cut(act, |fs| bytes_of(fs, "a").unwrap()).iter().all(|bytes| bytes == b"bytes"));
}

#[test]
fn a_rename_without_folder_sync_is_lost_for_some_seed_and_kept_for_some() {
    let act = |fs: &dyn BlobFs| {
        fs.create_folders(&[path("from"), path("to")]).unwrap();
        write(fs, "from/a", b"bytes").unwrap();
        fs.sync_folder(&path("from")).unwrap();
        fs.rename(&path("from/a"), &path("to/a")).unwrap();
    };
    let found = after_power_cut(act, |fs| (bytes_of(fs, "from/a").is_ok(), bytes_of(fs, "to/a").is_ok()));
    for outcome in [(true, false), (false, true), (true, true), (false, false)] {
        assert!(found.contains(&outcome), "{outcome:?} must be possible: two folders, two journals");
    }
}

#[test]
fn a_rename_within_one_folder_is_whole_or_absent() {
    let act = |fs: &dyn BlobFs| {
        write(fs, "a", b"bytes").unwrap();
        fs.sync_folder(&HomePath::home()).unwrap();
        fs.rename(&path("a"), &path("b")).unwrap();
    };
    let found = after_power_cut(act, |fs| (bytes_of(fs, "a").is_ok(), bytes_of(fs, "b").is_ok()));
    assert!(found.iter().all(|(old, new)| old != new));
    assert!(found.contains(&(true, false)) && found.contains(&(false, true)));
}

#[test]
fn a_folder_whose_parent_was_not_synced_may_vanish_with_all_in_it() {
    let careless = |fs: &dyn BlobFs| {
        fs.create_folder(&path("d")).unwrap();
        write(fs, "d/a", b"bytes").unwrap();
        fs.sync_folder(&path("d")).unwrap();
    };
    let careful = |fs: &dyn BlobFs| {
        fs.create_folders(&[path("d")]).unwrap();
        write(fs, "d/a", b"bytes").unwrap();
        fs.sync_folder(&path("d")).unwrap();
    };
    assert!(after_power_cut(careless, |fs| bytes_of(fs, "d/a").is_err()).contains(&true));
    assert!(!after_power_cut(careful, |fs| bytes_of(fs, "d/a").is_err()).contains(&true));
}

#[test]
fn an_unsynced_removal_may_come_back_in_order() {
    let act = |fs: &dyn BlobFs| {
        write(fs, "a", b"1").unwrap();
        write(fs, "b", b"2").unwrap();
        fs.sync_folder(&HomePath::home()).unwrap();
        fs.unlink(&path("a")).unwrap();
        fs.unlink(&path("b")).unwrap();
    };
    let found = after_power_cut(act, |fs| (bytes_of(fs, "a").is_ok(), bytes_of(fs, "b").is_ok()));
    assert!(found.contains(&(true, true)) && found.contains(&(false, true)) && found.contains(&(false, false)));
    assert!(!found.contains(&(true, false)), "the folder's journal keeps its order");
}

#[test]
fn a_read_only_mode_is_durable_with_its_file() {
    let act = |fs: &dyn BlobFs| {
        let file = fs.create_new(&path("a")).unwrap();
        file.set_read_only().unwrap();
        file.sync().unwrap();
        fs.sync_folder(&HomePath::home()).unwrap();
    };
    assert!(after_power_cut(act, |fs| fs.metadata(&path("a")).unwrap().read_only).iter().all(|mode| *mode));
}

#[test]
fn a_crash_fails_its_call_and_every_later_one_until_the_restart() {
    let disk = SimDisk::new(3);
    let fs = disk.fs();
    disk.crash_at(2);
    fs.create_new(&path("a")).unwrap();
    assert!(fs.sync_folder(&HomePath::home()).is_err());
    assert!(disk.is_crashed() && fs.metadata(&path("a")).is_err() && disk.backend("db").len().is_err());
    disk.restart();
    assert!(fs.list(&HomePath::home()).is_err(), "a handle of the earlier life is dead");
    assert!(disk.fs().list(&HomePath::home()).is_ok());
    assert_eq!(disk.backend("db").len().unwrap(), 0);
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_its_folders_are_not_trusted() {
    let lost = (0..SEEDS).filter(|seed| {
        let disk = SimDisk::new(*seed);
        disk.fs().create_folder(&path("d")).unwrap();
        let dead = disk.fs();
        disk.restart_process();
        assert!(dead.list(&HomePath::home()).is_err());
        let fs = disk.fs();
        assert!(fs.metadata(&path("d")).is_ok(), "no power was lost");
        // The folder exists, but its parent was never synced: the new life must do that before it relies on it.
        fs.create_folders(&[path("d")]).unwrap();
        write(&fs, "d/a", b"bytes").unwrap();
        fs.sync_folder(&path("d")).unwrap();
        disk.restart();
        bytes_of(&disk.fs(), "d/a").is_err()
    });
    assert_eq!(lost.count(), 0);
}

#[test]
fn a_failed_call_has_no_effect_and_the_next_one_works() {
    let disk = SimDisk::new(3);
    let fs = disk.fs();
    disk.fail_at(disk.calls() + 1);
    assert!(fs.create_new(&path("a")).is_err());
    fs.create_new(&path("a")).unwrap();
}

#[test]
fn a_full_disk_takes_what_fits_and_works_again_when_space_returns() {
    let disk = SimDisk::new(3);
    let fs = disk.fs();
    disk.set_capacity(Some(10));
    let file = fs.create_new(&path("a")).unwrap();
    file.write_all_at(b"12345678", 0).unwrap();
    fs.leave_room(1 << 40).unwrap();
    assert!(is_disk_full(&file.write_all_at(b"abcd", 8).unwrap_err()));
    assert_eq!(bytes_of(&fs, "a").unwrap(), b"12345678ab");
    file.write_all_at(b"xx", 0).unwrap();
    assert!(is_disk_full(&disk.backend("db").set_len(1).unwrap_err()));
    fs.unlink(&path("a")).unwrap();
    disk.backend("db").set_len(10).unwrap();
}

#[test]
fn a_flipped_bit_is_read_and_stays() {
    let disk = SimDisk::new(3);
    let fs = disk.fs();
    write(&fs, "a", b"abc").unwrap();
    fs.sync_folder(&HomePath::home()).unwrap();
    disk.flip_bit(&path("a"), 1).unwrap();
    assert!(disk.flip_bit(&path("a"), 3).is_err());
    disk.restart();
    assert_eq!(bytes_of(&disk.fs(), "a").unwrap(), b"acc");
}

#[test]
fn an_open_file_outlives_its_name() {
    let fs = SimDisk::new(3).fs();
    write(&fs, "a", b"abc").unwrap();
    let open = fs.open(&path("a")).unwrap();
    fs.unlink(&path("a")).unwrap();
    assert_eq!(open.size_bytes().unwrap(), 3);
}

const ROWS: TableDefinition<u64, u64> = TableDefinition::new("rows");

/// Commits rows until the machine stops, and tells how many commits were acknowledged.
fn commit_rows(disk: &SimDisk, wanted: u64) -> u64 {
    let Ok(database) = Database::builder().create_with_backend(disk.backend("db")) else { return 0 };
    let commit = |row: u64| -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        write.open_table(ROWS)?.insert(row, row * 7)?;
        Ok(write.commit()?)
    };
    (0..wanted).take_while(|row| commit(*row).is_ok()).count() as u64
}

/// The rows of the database, which must be a first part of those written.
fn rows(disk: &SimDisk) -> Result<u64, redb::Error> {
    let database = Database::builder().create_with_backend(disk.backend("db"))?;
    let read = database.begin_read()?;
    let table = match read.open_table(ROWS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
        other => other?,
    };
    let mut count = 0;
    while table.get(count)?.is_some_and(|row| row.value() == count * 7) {
        count += 1;
    }
    Ok(count)
}

#[test]
fn a_database_keeps_every_acknowledged_commit_through_a_crash_at_any_call() {
    // The database exists before the story: redb does not promise that its *creation* outlives a crash.
    let made = SimDisk::new(0);
    assert_eq!(commit_rows(&made, 1), 1);
    made.restart();
    let calm = made.fork(0);
    assert_eq!(commit_rows(&calm, 6), 6);
    assert!(calm.calls() > made.calls() + 20, "the story has many calls");
    for call in made.calls() + 1..=calm.calls() {
        let disk = made.fork(call);
        disk.crash_at(call);
        let acknowledged = commit_rows(&disk, 6);
        disk.restart();
        let found = rows(&disk).unwrap_or_else(|error| panic!("call {call}: {error}"));
        assert!((acknowledged.max(1)..=acknowledged + 1).contains(&found), "call {call}: {found} of {acknowledged}");
    }
}

#[test]
fn a_database_whose_disk_ignores_sync_loses_acknowledged_commits() {
    let lost = (0..SEEDS).any(|seed| {
        let made = SimDisk::new(seed);
        commit_rows(&made, 1);
        made.restart();
        let backend = Deaf(made.backend("db"));
        let database = Database::builder().create_with_backend(backend).unwrap();
        for row in 0..6 {
            let write = database.begin_write().unwrap();
            write.open_table(ROWS).unwrap().insert(row, row * 7).unwrap();
            write.commit().unwrap();
        }
        made.crash();
        drop(database);
        made.restart();
        rows(&made).map_or(true, |found| found < 6)
    });
    assert!(lost, "the check above would notice a missing sync");
}

/// A disk that says it synced and did not.
#[derive(Debug)]
struct Deaf(SimBackend);

impl StorageBackend for Deaf {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn equal_seeds_and_calls_give_equal_disks() {
    let story = |seed: u64| {
        let disk = SimDisk::new(seed);
        disk.crash_at(40);
        commit_rows(&disk, 6);
        disk.restart();
        let backend = disk.backend("db");
        let mut bytes = vec![0; usize::try_from(backend.len().unwrap()).unwrap()];
        backend.read(0, &mut bytes).unwrap();
        (disk.calls(), bytes)
    };
    assert_eq!(story(11), story(11));
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = SimDisk::new(1);
    write(&disk.fs(), "a", b"abc").unwrap();
    let fork = disk.fork(2);
    disk.fs().unlink(&path("a")).unwrap();
    assert_eq!(bytes_of(&fork.fs(), "a").unwrap(), b"abc");
}
