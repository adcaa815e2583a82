//! A path inside the home, legal by construction: it cannot leave the home, whatever a caller writes.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a text is no path inside a home.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path inside the home")]
pub struct HomePathError {
    text: String,
}

/// A path relative to the home: names separated by single slashes, none of them `.` or `..`. The home itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomePath(String);

impl HomePath {
    /// The home itself.
    pub const fn home() -> Self {
        Self(String::new())
    }

    /// Reads a path such as `blobs/ab/cd`.
    ///
    /// # Errors
    /// For absolute paths, empty names, `.`, `..` and NUL.
    pub fn parse(text: &str) -> Result<Self, HomePathError> {
        let legal = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('\0');
        if text.split('/').all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(HomePathError { text: text.chars().take(200).collect() })
        }
    }

    /// The path of a name in this folder.
    ///
    /// # Errors
    /// As for [`HomePath::parse`].
    pub fn join(&self, name: &str) -> Result<Self, HomePathError> {
        if self.0.is_empty() { Self::parse(name) } else { Self::parse(&format!("{}/{name}", self.0)) }
    }

    /// The folder that this is in; `None` for the home.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some((folder, _)) => Some(Self(folder.into())),
            None if self.0.is_empty() => None,
            None => Some(Self::home()),
        }
    }

    /// The last name; empty for the home.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The names from the home down; none for the home.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The real path, given the home's.
    pub fn under(&self, home: &Path) -> PathBuf {
        // Joining an empty path would add a slash at the end.
        if self.0.is_empty() { home.to_path_buf() } else { home.join(&self.0) }
    }
}

impl fmt::Display for HomePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_home_cannot_be_made() {
        for text in ["", "/", "/etc", "..", "a/../b", "a//b", "a/", ".", "./a", "a\0b"] {
            assert!(HomePath::parse(text).is_err(), "{text:?}");
        }
        assert!(HomePath::home().join("../x").is_err());
        assert!(HomePath::home().join("/x").is_err());
    }

    #[test]
    fn a_path_knows_its_folder_and_name() {
        let path = HomePath::parse("blobs/ab").unwrap().join("cd").unwrap();
        assert_eq!((path.as_str(), path.name()), ("blobs/ab/cd", "cd"));
        assert_eq!(path.names().collect::<Vec<_>>(), ["blobs", "ab", "cd"]);
        assert_eq!(path.parent().unwrap().as_str(), "blobs/ab");
        assert_eq!(HomePath::parse("a").unwrap().parent(), Some(HomePath::home()));
        assert_eq!((HomePath::home().parent(), HomePath::home().names().count()), (None, 0));
        assert_eq!(HomePath::home().under(Path::new("/h")), Path::new("/h"));
        assert_eq!(path.under(Path::new("/h")), Path::new("/h/blobs/ab/cd"));
    }
}
