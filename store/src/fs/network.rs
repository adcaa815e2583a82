//! Network file systems are refused: none of them promises what a synced file and a locked database need.

use std::io;
use std::path::{Path, PathBuf};

/// Why a folder cannot be a home.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFsError {
    /// It lies on a network file system.
    #[error("{} lies on a network file system ({name}), which cannot keep what it has acknowledged", path.display())]
    Network {
        /// The folder.
        path: PathBuf,
        /// The file system's usual name.
        name: &'static str,
    },
    /// The file system could not be asked.
    #[error("cannot tell the file system of {}", path.display())]
    Unknown {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The magic numbers of `statfs(2)`, by the file system's usual name. FUSE is refused whole: sshfs and the cloud drives are
/// FUSE, and the kernel does not say which one is behind it.
const NETWORK_FILESYSTEMS: [(u64, &str); 23] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE, such as sshfs"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "kAFS"),
    (0x7375_7245, "Coda"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x564c, "NCP"),
    (0xaad7_aaea, "PanFS"),
    (0x2003_0528, "OrangeFS"),
    (0x0131_11a8, "IBRIX"),
    (0xbeef_dead, "StorNext"),
    (0x786f_4256, "VirtualBox shared folder"),
    (0xbacb_acbc, "VMware shared folder"),
    (0x7c7c_6673, "Parallels shared folder"),
];

/// The name of the network file system with this `statfs` magic, or `None` for any other file system.
pub fn network_filesystem(magic: u64) -> Option<&'static str> {
    NETWORK_FILESYSTEMS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// Refuses a folder on a network file system.
///
/// # Errors
/// `Network` with the file system's name; `Unknown` when the question fails, which is no permission either.
pub fn refuse_network_filesystem(path: &Path) -> Result<(), NetworkFsError> {
    let found =
        rustix::fs::statfs(path).map_err(|source| NetworkFsError::Unknown { path: path.to_path_buf(), source: source.into() })?;
    // The kernel's number has 32 bits; where the C type is signed and narrower it arrives with its sign extended.
    let magic = (found.f_type as u64) & 0xffff_ffff;
    match network_filesystem(magic) {
        Some(name) => Err(NetworkFsError::Network { path: path.to_path_buf(), name }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_magic() {
        for (magic, name) in
            [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x6573_5546, "FUSE, such as sshfs"), (0x0bd0_0bd0, "Lustre")]
        {
            assert_eq!(network_filesystem(magic), Some(name));
        }
    }

    #[test]
    fn local_file_systems_pass() {
        let (ext4, xfs, btrfs, tmpfs, zfs, overlay) = (0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1, 0x794c_7630);
        for magic in [ext4, xfs, btrfs, tmpfs, zfs, overlay] {
            assert_eq!(network_filesystem(magic), None);
        }
    }

    #[test]
    fn a_missing_folder_is_not_permission() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(refuse_network_filesystem(&home.path().join("none")), Err(NetworkFsError::Unknown { .. })));
    }

    #[test]
    fn the_refusal_names_the_file_system() {
        let error = NetworkFsError::Network { path: "/mnt/x".into(), name: "NFS" };
        assert!(error.to_string().starts_with("/mnt/x lies on a network file system (NFS)"));
    }
}
