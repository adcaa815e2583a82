//! Where members were reached before: hints for the next start, in a file that may be lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keepwell_protocol::id::NodeId;

use crate::files::{Overwrite, write_whole};
use crate::limits::{MAX_ADDRESSES_BYTES, MAX_ADDRESSES_OF_A_NODE};

const FILE: &str = "addresses.json";
const MODE: u32 = 0o600;

/// The known addresses of members.
#[derive(Debug)]
pub struct Addresses {
    path: PathBuf,
    known: BTreeMap<NodeId, Vec<String>>,
}

impl Addresses {
    /// Reads what the home at `home` remembers. Nothing, if it remembers nothing or nonsense.
    pub fn open(home: &Path) -> Addresses {
        let path = home.join(FILE);
        let known = read(&path).unwrap_or_default();
        Addresses { path, known }
    }

    /// Who was reached where.
    pub fn known(&self) -> impl Iterator<Item = (&NodeId, &Vec<String>)> {
        self.known.iter()
    }

    /// Remembers where a member can be reached.
    pub fn learn(&mut self, node: NodeId, mut addresses: Vec<String>) {
        addresses.truncate(MAX_ADDRESSES_OF_A_NODE);
        if self.known.get(&node) == Some(&addresses) {
            return;
        }
        self.known.insert(node, addresses);
        let by_name: BTreeMap<String, &Vec<String>> = self.known.iter().map(|(node, known)| (node.to_string(), known)).collect();
        let written = serde_json::to_vec(&by_name).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|bytes| write_whole(&self.path, &bytes, MODE, Overwrite::Yes)) {
            eprintln!("warning: addresses are not remembered over a restart: {error}");
        }
    }
}

fn read(path: &Path) -> Option<BTreeMap<NodeId, Vec<String>>> {
    if std::fs::metadata(path).ok()?.len() > MAX_ADDRESSES_BYTES {
        return None;
    }
    let by_name: BTreeMap<String, Vec<String>> = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(by_name.into_iter().filter_map(|(node, addresses)| Some((node.parse().ok()?, addresses))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 32]);

    #[test]
    fn addresses_outlive_a_restart_and_are_bounded_at_max_addresses_of_a_node() {
        let home = tempfile::tempdir().unwrap();
        let all: Vec<String> = (0..=MAX_ADDRESSES_OF_A_NODE).map(|n| format!("/ip4/127.0.0.1/tcp/{}", n + 1)).collect();
        Addresses::open(home.path()).learn(NODE, all.clone());
        let again = Addresses::open(home.path());
        let kept: Vec<_> = again.known().map(|(node, addresses)| (*node, addresses.clone())).collect();
        assert_eq!(kept, [(NODE, all[..MAX_ADDRESSES_OF_A_NODE].to_vec())]);
    }

    #[test]
    fn nonsense_and_more_than_max_addresses_bytes_are_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(FILE);
        std::fs::write(&file, "nonsense").unwrap();
        assert_eq!(Addresses::open(home.path()).known().count(), 0);
        let entry = format!("{{\"{NODE}\":[]");
        let padding = |size: u64| " ".repeat(usize::try_from(size).unwrap() - entry.len() - 1);
        for (size, known) in [(MAX_ADDRESSES_BYTES, 1), (MAX_ADDRESSES_BYTES + 1, 0)] {
            std::fs::write(&file, format!("{entry}{}}}", padding(size))).unwrap();
            assert_eq!(Addresses::open(home.path()).known().count(), known);
        }
    }
}
