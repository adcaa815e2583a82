//! The one error at the human edge: a kind, a message, and what to do next. Exit code and HTTP status follow from the kind.

use std::error::Error;
use std::io;

use keepwell_protocol::catalog::authority::AuthorityError;
use keepwell_protocol::directory::DirectoryError;
use keepwell_protocol::json::{FilterError, JsonError, LinkError};
use keepwell_protocol::name::NameError;
use keepwell_protocol::units::{TimeMs, UnitError};
use keepwell_protocol::uri::UriError;
use keepwell_store::error::{StoreError, is_no_space};
use keepwell_store::ingest::IngestError;
use keepwell_store::place::PlaceError;
use serde_json::{Value, json};

use crate::engine::{LeaseRefusal, OpenError, RefRefusal, Reply};

/// The kinds of failure. The words, and the numbers they stand for, are frozen: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A fault of this program, or of the machine under it.
    Internal,
    /// The request makes no sense.
    Usage,
    /// A name that stands for nothing.
    NotFound,
    /// Some items of the request failed.
    Partial,
    /// Nobody answers.
    Unreachable,
    /// Another process is using the home.
    HomeBusy,
    /// The caller may not do this.
    Denied,
    /// The disk or the quota is full.
    NoSpace,
    /// The lot's limit is reached.
    OverLot,
    /// Too many requests.
    Rate,
    /// Nobody has this blob.
    NoProvider,
    /// It took too long.
    Timeout,
    /// Bytes that are not what their name says.
    Integrity,
    /// Another blob of the same SHA-1.
    Collision,
    /// It could lose data.
    Unsafe,
    /// It is there already.
    Exists,
    /// Somebody wrote it meanwhile.
    RevMismatch,
}

impl Code {
    /// Every code, for tests and tables.
    pub const ALL: [Code; 17] = [
        Code::Internal,
        Code::Usage,
        Code::NotFound,
        Code::Partial,
        Code::Unreachable,
        Code::HomeBusy,
        Code::Denied,
        Code::NoSpace,
        Code::OverLot,
        Code::Rate,
        Code::NoProvider,
        Code::Timeout,
        Code::Integrity,
        Code::Collision,
        Code::Unsafe,
        Code::Exists,
        Code::RevMismatch,
    ];

    /// The code that this word stands for.
    pub fn named(word: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.word() == word)
    }

    /// The word for it in JSON.
    pub const fn word(self) -> &'static str {
        self.facts().0
    }

    /// The exit code of a command that fails so.
    pub const fn exit(self) -> u8 {
        self.facts().1
    }

    /// The HTTP status of an answer that fails so.
    pub const fn http_status(self) -> u16 {
        self.facts().2
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub const fn retryable(self) -> bool {
        self.facts().3
    }

    /// Word, exit code, HTTP status, retryable: the one table.
    const fn facts(self) -> (&'static str, u8, u16, bool) {
        match self {
            Code::Internal => ("INTERNAL", 1, 500, false),
            Code::Usage => ("USAGE", 2, 400, false),
            Code::NotFound => ("NOT_FOUND", 3, 404, false),
            Code::Partial => ("PARTIAL", 4, 200, false),
            Code::Unreachable => ("UNREACHABLE", 5, 503, true),
            Code::HomeBusy => ("HOME_BUSY", 5, 503, true),
            Code::Denied => ("DENIED", 6, 403, false),
            Code::NoSpace => ("NO_SPACE", 7, 507, false),
            Code::OverLot => ("OVER_LOT", 7, 507, false),
            Code::Rate => ("RATE", 7, 429, true),
            Code::NoProvider => ("NO_PROVIDER", 8, 404, true),
            Code::Timeout => ("TIMEOUT", 8, 503, true),
            Code::Integrity => ("INTEGRITY", 9, 422, false),
            Code::Collision => ("COLLISION", 9, 422, false),
            Code::Unsafe => ("UNSAFE", 10, 409, false),
            Code::Exists => ("EXISTS", 10, 409, false),
            Code::RevMismatch => ("REV_MISMATCH", 10, 409, true),
        }
    }
}

/// A failure as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub code: Code,
    /// What happened, in lower case and without a full stop.
    pub message: String,
    /// What to do next; empty when there is nothing to do.
    pub hint: String,
    /// What a program may want to know, an object.
    pub details: Value,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), hint: String::new(), details: json!({}) }
    }

    /// A request that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// The same with what to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: hint.into(), ..self }
    }

    /// The same with what a program may want to know.
    #[must_use]
    pub fn details(self, details: Value) -> Self {
        Failure { details, ..self }
    }

    /// The same about one of several things that were asked for.
    #[must_use]
    pub fn about(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Some(details) = self.details.as_object_mut() {
            details.insert(key.to_owned(), value.into());
        }
        self
    }

    /// A failed operation on a file outside the store.
    pub fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let message = format!("{what} {}: {error}", path.display());
        match error.kind() {
            _ if is_no_space(error) => no_space(message),
            io::ErrorKind::PermissionDenied => {
                Self::new(Code::Denied, message).hint("check who owns the path and what its permissions allow")
            }
            io::ErrorKind::AlreadyExists => Self::new(Code::Exists, message).hint("choose another path, or pass --force"),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Self::usage(message).hint("check the path")
            }
            _ => Self::new(Code::Internal, message).hint("check the disk, then try again"),
        }
    }

    /// A blob that is not stored on any node that was asked.
    pub fn no_provider(what: impl std::fmt::Display, missing: &[keepwell_protocol::id::BlobId]) -> Self {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        Self::new(Code::NoProvider, format!("{what}"))
            .hint("store it here with `keepwell put`, or ask for it on a node that has it")
            .details(json!({ "missing": missing }))
    }

    /// Whether going on to the next item is of no use: what failed is not the item.
    pub fn ends_all(&self) -> bool {
        matches!(self.code, Code::Internal | Code::NoSpace | Code::HomeBusy)
    }

    /// The object that stands for it in JSON.
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "code": self.code.word(),
            "message": self.message,
            "hint": self.hint,
            "retryable": self.code.retryable(),
            "details": self.details,
        }})
    }

    /// The failure that this object stands for; none if it is not one.
    pub fn from_json(json: &Value) -> Option<Failure> {
        let error = json.get("error")?;
        let text = |key: &str| Some(error.get(key)?.as_str()?.to_owned());
        let code = Code::named(&text("code")?)?;
        let details = error.get("details").cloned().unwrap_or_else(|| json!({}));
        Some(Failure { code, message: text("message")?, hint: text("hint").unwrap_or_default(), details })
    }

    /// The lines that stand for it on a terminal.
    pub fn to_text(&self) -> String {
        if self.hint.is_empty() {
            format!("error: {}", self.message)
        } else {
            format!("error: {}\nhint: {}", self.message, self.hint)
        }
    }
}

fn no_space(message: impl Into<String>) -> Failure {
    Failure::new(Code::NoSpace, message).hint("free some space on that disk, or raise its quota, then try again")
}

/// An error and its sources, each once: many of our messages already end with their source.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = with_sources(&error);
        match error {
            StoreError::NoSpace => no_space(message),
            StoreError::Format { .. } => {
                Failure::new(Code::Internal, message).hint("use a newer version of keepwell on this home")
            }
            StoreError::Unreadable { .. } | StoreError::Inconsistent(_) => {
                Failure::new(Code::Internal, message).hint("run `keepwell fsck` on this home")
            }
            StoreError::Damaged(_) => Failure::new(Code::Integrity, message)
                .hint("make a new home, join and put anew; what a member holds as files is below `blobs` in the old one"),
            StoreError::File { .. } | StoreError::Index(_) => {
                Failure::new(Code::Internal, message).hint("check the disk of the home, then try again")
            }
        }
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        let message = with_sources(&error);
        match error {
            IngestError::Missing { .. } => Failure::new(Code::NotFound, message).hint("check the path"),
            IngestError::Directory { .. } => {
                Failure::usage(message).hint("store a directory and everything in it with `keepwell put -r`")
            }
            IngestError::NotRegular { .. } => Failure::usage(message).hint("pipe its bytes in: `keepwell put - < PATH`"),
            IngestError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Failure::new(Code::Denied, message).hint("check who owns the file and what its permissions allow")
            }
            IngestError::Unreadable { .. } | IngestError::Read(_) => {
                Failure::usage(message).hint("check that the input can be read, for example with `cat`")
            }
            IngestError::DiskFull(_) => no_space(message),
            IngestError::Write(_) | IngestError::Thread(_) => {
                Failure::new(Code::Internal, message).hint("check the machine and the disk of the home, then try again")
            }
        }
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        let message = with_sources(&error);
        match error {
            PlaceError::DiskFull(_) => no_space(message),
            PlaceError::Records(error) => error.into(),
            PlaceError::Io(_) => Failure::new(Code::Internal, message).hint("check the disk of the home, then try again"),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let message = with_sources(&error);
        match error {
            OpenError::NotMade => Failure::usage(message).hint("run `keepwell init` on it once more"),
            OpenError::WrongKey { .. } => {
                Failure::new(Code::Integrity, message).hint("put back the identity.key that belongs to this home")
            }
            OpenError::Store(error) => error.into(),
        }
    }
}

impl From<RefRefusal> for Failure {
    fn from(refusal: RefRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            RefRefusal::NotFound(name) => Failure::new(Code::NotFound, message)
                .hint("list what there is with `keepwell ref ls`")
                .about("ref", name.as_str()),
            RefRefusal::RevMismatch { name, expected, found } => Failure::new(Code::RevMismatch, message)
                .hint(format!("look at it with `keepwell ref get {name}`, then decide again"))
                .details(json!({ "ref": name.as_str(), "expected": expected, "found": found })),
            RefRefusal::Missing { name, missing } => Failure::no_provider(message, &missing)
                .hint("store them here first with `keepwell put`, or pass --allow-missing")
                .about("ref", name.as_str()),
        }
    }
}

impl From<LeaseRefusal> for Failure {
    fn from(refusal: LeaseRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            LeaseRefusal::Ended(lease) => Failure::new(Code::NotFound, message)
                .hint("take a new one with `keepwell lease add`; `keepwell lease ls` lists those that live")
                .about("lease", lease.to_string()),
            LeaseRefusal::Foreign { lease, owner, expires_ms } => {
                let until = TimeMs::from_unix_ms(expires_ms).map_or_else(|_| expires_ms.to_string(), |time| time.to_string());
                Failure::new(Code::Unsafe, format!("{message} until {until}"))
                    .hint("wait until it ends, ask its owner, or pass --owner if that is you")
                    .details(json!({ "lease": lease.to_string(), "owner": owner, "expires_ms": expires_ms }))
            }
            LeaseRefusal::Missing(missing) => {
                Failure::no_provider(message, &missing).hint("bring them here with `keepwell fetch` or `keepwell put` first")
            }
            LeaseRefusal::UploadExists(name) => Failure::new(Code::Exists, message)
                .hint("go on with it, or give it up first with `keepwell upload rm`")
                .about("upload", name.as_str()),
            LeaseRefusal::TooManyUploads => Failure::new(Code::Rate, message)
                .hint("commit some, or give some up with `keepwell upload rm`; `keepwell upload ls` lists them"),
            LeaseRefusal::TooMany => {
                Failure::new(Code::Rate, message).hint("end some with `keepwell lease rm`, or try again when one has ended")
            }
        }
    }
}

/// The forms that what was named can have.
pub(crate) fn uri_hint(error: &UriError) -> &'static str {
    match error {
        UriError::WrongScheme { expected: "sha1://", .. } => {
            "write it as `sha1://HASH`; what a ref names, `keepwell ref get` shows"
        }
        _ => "write it as `sha1://HASH`, `sha1dir://HASH/path`, `keepwell://group/key` or `group/key`",
    }
}

impl From<UriError> for Failure {
    fn from(error: UriError) -> Self {
        Failure::usage(with_sources(&error)).hint(uri_hint(&error))
    }
}

/// What its user wrote is not legal; the message says what would be.
macro_rules! usage_from {
    ($($error:ty => $hint:expr,)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::usage(with_sources(&error)).hint($hint)
            }
        })*
    };
}

usage_from! {
    NameError => "choose another name",
    UnitError => "write it as in the examples",
    FilterError => "write it like `age>30`, `name=mouse 7`, `/rig/laser` or `\"a=b\"=1`",
    JsonError => "check the JSON, for example with `python3 -m json.tool`",
    LinkError => "check the URIs in the object",
    DirectoryError => "a directory object is made with `keepwell put -r`",
}

/// An answer that is none to what was asked.
impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::NotAMember => Failure::new(Code::Denied, "this node is not a member of its network, as far as it knows")
                .hint("let it reach another member; if it was removed, ask an admin to invite it again"),
            Reply::MayNotAdmit(refused @ AuthorityError::Creator) => Failure::new(Code::Denied, refused.to_string())
                .hint("all that admins may do rests on it; a machine that is lost is declared dead with `keepwell node dead`"),
            Reply::MayNotAdmit(refused) => Failure::new(Code::Denied, refused.to_string())
                .hint("ask an admin of the network to do it, on the admin's own machine"),
            Reply::NotConnected(node) => Failure::new(Code::Unreachable, format!("{node} is not connected"))
                .hint("see `keepwell node ls`; start its daemon, or look for what parts it from this machine"),
            Reply::Late(node) => {
                Failure::new(Code::Timeout, format!("{node} has not answered in time")).hint("try again: what went there is gone")
            }
            Reply::LeaseRefused(refused) => refused.into(),
            _ => StoreError::Inconsistent("a request got the answer of another".into()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn who_names_a_ref_where_a_blob_is_wanted_is_told_how_to_find_it() {
        let failure = Failure::from("lab/day1".parse::<keepwell_protocol::uri::BlobUri>().unwrap_err());
        assert!(failure.hint.contains("keepwell ref get"), "{}", failure.hint);
    }

    #[test]
    fn the_frozen_table_of_codes() {
        let exits: Vec<Vec<&str>> =
            (0..=10).map(|exit| Code::ALL.iter().filter(|code| code.exit() == exit).map(|code| code.word()).collect()).collect();
        let expected: [&[&str]; 11] = [
            &[],
            &["INTERNAL"],
            &["USAGE"],
            &["NOT_FOUND"],
            &["PARTIAL"],
            &["UNREACHABLE", "HOME_BUSY"],
            &["DENIED"],
            &["NO_SPACE", "OVER_LOT", "RATE"],
            &["NO_PROVIDER", "TIMEOUT"],
            &["INTEGRITY", "COLLISION"],
            &["UNSAFE", "EXISTS", "REV_MISMATCH"],
        ];
        assert_eq!(exits, expected);
        assert_eq!(Code::Rate.http_status(), 429);
        assert_eq!(Code::NoProvider.http_status(), 404);
    }

    #[test]
    fn a_failure_is_an_object_with_every_key() {
        let failure = Failure::usage("no").hint("yes").about("path", "a");
        let json = failure.to_json();
        let keys: Vec<&str> = json["error"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "details", "hint", "message", "retryable"]);
        assert_eq!(json["error"]["details"]["path"], "a");
        assert_eq!(failure.to_text(), "error: no\nhint: yes");
        assert_eq!(Failure::from_json(&json), Some(failure));
        assert_eq!(Failure::from_json(&json!({ "error": { "code": "NEW", "message": "" } })), None);
    }

    #[test]
    fn a_source_is_told_once() {
        let source = io::Error::other("the disk is on fire");
        let error = IngestError::Unreadable { path: "a".into(), source };
        assert_eq!(with_sources(&error), "cannot open a: the disk is on fire");
        let error = StoreError::file("cannot open", "a", io::Error::other("gone"));
        assert_eq!(with_sources(&error), "cannot open a: gone");
    }

    #[test]
    fn a_full_disk_is_no_space_wherever_it_is_met() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let failures: [Failure; 4] = [
            StoreError::NoSpace.into(),
            IngestError::DiskFull(full()).into(),
            PlaceError::DiskFull(full()).into(),
            Failure::file("cannot write", Path::new("a"), &full()),
        ];
        assert!(failures.iter().all(|failure| failure.code == Code::NoSpace && failure.ends_all()));
    }
}
