//! How full the disk is, as users see it: how much it presses, how much should go, and why no more goes.

use keepwell_protocol::gc::pressure::{Level, Pressure};
use keepwell_protocol::units::SizeBytes;
use keepwell_store::store::Store;

use super::doctor::{ok, warn};
use super::types::{CheckLine, PressureLine};
use crate::engine::Settings;
use crate::engine::pressure::{PressureReport, Wait, rooms};
use crate::failure::{Code, Failure};

/// How full the disk is that nobody watches: no daemon has the home open.
pub fn measured(store: &Store, settings: &Settings) -> Result<PressureReport, Failure> {
    let disk = store.fs().room().map_err(|error| Failure::new(Code::Internal, format!("cannot ask the disk: {error}")))?;
    let pressure = Pressure::default().see(&settings.marks, &rooms(&*store.snapshot()?, settings, disk)?);
    let waits = if pressure.level == Level::None { Vec::new() } else { vec![Wait::NotSetTo] };
    Ok(PressureReport { pressure, waits })
}

/// The same in words.
pub fn line(report: &PressureReport) -> PressureLine {
    PressureLine {
        pressure: report.pressure.level.word().to_owned(),
        to_free_bytes: report.pressure.to_free_bytes,
        waiting_for: report.waits.iter().map(told).collect(),
    }
}

/// What `doctor` says of it.
pub fn check(report: &PressureReport) -> CheckLine {
    let PressureLine { to_free_bytes, waiting_for, .. } = line(report);
    let to_free = SizeBytes(to_free_bytes).human();
    let why = if waiting_for.is_empty() { "it is being freed".to_owned() } else { waiting_for.join("; ") };
    let message = match report.pressure.level {
        Level::None => return ok("pressure", "no space needs to be freed"),
        Level::High => format!("{to_free} should be freed: {why}"),
        Level::Emergency => format!("the reserve is touched; {to_free} should be freed: {why}"),
    };
    let hint =
        "`keepwell gc` shows what could go; what is needed here stays: remove refs, make room on the disk, or raise `max_size`";
    warn("pressure", message).hint(hint)
}

fn told(wait: &Wait) -> String {
    match wait {
        Wait::NotSetTo => "nothing goes by itself: no daemon runs, or `auto` under `[gc]` is false".to_owned(),
        Wait::Garbage => "what nothing needs waits for its collection: see `keepwell gc`".to_owned(),
        Wait::YoungTrash { bytes } => {
            format!("{} that were deleted lately can still be brought back, and go in some minutes", SizeBytes(*bytes).human())
        }
        Wait::FullDisk => "the disk is so full that not even a deletion can be written down; it is tried again".to_owned(),
        Wait::Asking => "other machines are asked whether they keep what could go here".to_owned(),
        Wait::IndexDamaged => "damage was found in the index, so nothing is deleted: see `keepwell doctor`".to_owned(),
        Wait::NotHeard => "no copy is given up before every other machine has been heard".to_owned(),
        Wait::Refused { blobs } => format!("others do not vouch for {blobs} that could go here; they are asked again"),
        Wait::Needed => "nothing else can go: it is needed here, or no other machine in reach holds it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::types::CheckState;

    #[test]
    fn doctor_tells_how_much_should_go_and_why_it_does_not() {
        let report = |level, waits| PressureReport {
            pressure: Pressure { level, to_free_bytes: 3 << 20, short_bytes: 0, pressing: 1 },
            waits,
        };
        assert_eq!(check(&PressureReport::default()).state, CheckState::Ok);
        let high = check(&report(Level::High, vec![]));
        assert_eq!((high.state, high.message.as_str()), (CheckState::Warn, "3.0 MiB should be freed: it is being freed"));
        let stuck = check(&report(Level::Emergency, vec![Wait::YoungTrash { bytes: 1_024 }, Wait::Needed]));
        assert!(stuck.message.starts_with("the reserve is touched; 3.0 MiB") && stuck.message.contains("1.0 KiB"), "{stuck:?}");
        assert_eq!(
            line(&report(Level::High, vec![Wait::Needed])).waiting_for,
            ["nothing else can go: it is needed here, or no other machine in reach holds it"]
        );
    }
}
