//! The text of a directory object.

use super::{Directory, DirectoryError, FileEntry, Folder, join};
use crate::id::{B3, BlobId};
use crate::json::{Json, parse_limited, write_string};
use crate::limits::{MAX_DIRECTORY_BYTES, MAX_DIRECTORY_DEPTH, MAX_DIRECTORY_ENTRIES, MAX_DIRECTORY_JSON_DEPTH};
use crate::name::FileName;

pub(super) fn parse(bytes: &[u8]) -> Result<Directory, DirectoryError> {
    // Unknown keys may nest too; the reader's own limit of depth holds for them.
    let json = parse_limited(bytes, MAX_DIRECTORY_BYTES, MAX_DIRECTORY_JSON_DEPTH)?;
    let mut reader = Reader { path: Vec::new(), entries: 0 };
    if json.get("files").is_none() && json.get("dirs").is_none() {
        return Err(reader.shape("a directory object such as {\"files\":{},\"dirs\":{}}"));
    }
    let top = reader.folder(&json)?;
    Ok(Directory { top, entries: reader.entries })
}

/// The descent: where it is, and what it has counted.
struct Reader {
    path: Vec<FileName>,
    entries: usize,
}

impl Reader {
    /// Kachery lists folders that it did not enter as `{}`, so both keys may be missing below the top.
    fn folder(&mut self, json: &Json) -> Result<Folder, DirectoryError> {
        let mut folder = Folder::default();
        for (name, value) in self.members(json, "files")? {
            self.enter(name)?;
            let file = self.file(value)?;
            folder.files.extend(self.path.pop().map(|name| (name, file)));
        }
        for (name, value) in self.members(json, "dirs")? {
            self.enter(name)?;
            let inner = self.folder(value)?;
            let path = join(&self.path);
            let name = self.path.pop().filter(|name| !folder.files.contains_key(name)).ok_or(DirectoryError::Twice { path })?;
            folder.dirs.insert(name, inner);
        }
        Ok(folder)
    }

    fn members<'a>(&self, json: &'a Json, key: &str) -> Result<&'a [(String, Json)], DirectoryError> {
        json.as_object().ok_or_else(|| self.shape("an object with `files` and `dirs`"))?;
        let Some(members) = json.get(key) else { return Ok(&[]) };
        members.as_object().ok_or_else(|| self.shape("an object of names under `files` and under `dirs`"))
    }

    fn enter(&mut self, name: &str) -> Result<(), DirectoryError> {
        let name = FileName::parse(name).map_err(|source| DirectoryError::Name { folder: join(&self.path), source })?;
        self.path.push(name);
        self.entries += 1;
        if self.path.len() > MAX_DIRECTORY_DEPTH {
            return Err(DirectoryError::TooDeep { path: join(&self.path) });
        }
        if self.entries > MAX_DIRECTORY_ENTRIES { Err(DirectoryError::TooMany) } else { Ok(()) }
    }

    fn file(&self, json: &Json) -> Result<FileEntry, DirectoryError> {
        let sha1 = json.get("sha1").and_then(Json::as_str).and_then(|text| text.parse::<BlobId>().ok());
        let sha1 = sha1.ok_or_else(|| self.shape("a file with the 40 hexadecimal digits of its `sha1`"))?;
        let b3 = json.get("b3").map(|value| value.as_str().and_then(|text| text.parse::<B3>().ok()));
        let size_bytes = json.get("size").map(Json::as_u64);
        Ok(FileEntry {
            sha1,
            b3: b3.map(|b3| b3.ok_or_else(|| self.shape("64 hexadecimal digits as `b3`"))).transpose()?,
            size_bytes: size_bytes.map(|size| size.ok_or_else(|| self.shape("a number of bytes as `size`"))).transpose()?,
        })
    }

    fn shape(&self, expected: &'static str) -> DirectoryError {
        DirectoryError::Shape { path: join(&self.path), expected }
    }
}

pub(super) fn to_json(directory: &Directory, compat_kachery: bool) -> Result<String, DirectoryError> {
    let mut text = String::new();
    write_folder(&mut text, &directory.top, compat_kachery);
    check_bytes(text.len())?;
    Ok(text)
}

fn check_bytes(bytes: usize) -> Result<(), DirectoryError> {
    if bytes > MAX_DIRECTORY_BYTES { Err(DirectoryError::TooLong { bytes }) } else { Ok(()) }
}

/// Keys are written in their order: the names by the map, the others by hand.
fn write_folder(out: &mut String, folder: &Folder, compat_kachery: bool) {
    out.push_str("{\"dirs\":");
    write_members(out, &folder.dirs, |out, inner| write_folder(out, inner, compat_kachery));
    out.push_str(",\"files\":");
    write_members(out, &folder.files, |out, file| write_file(out, file, compat_kachery));
    out.push('}');
}

fn write_members<'a, T: 'a>(
    out: &mut String,
    members: impl IntoIterator<Item = (&'a FileName, &'a T)>,
    mut write: impl FnMut(&mut String, &'a T),
) {
    out.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, name.as_str());
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

fn write_file(out: &mut String, file: &FileEntry, compat_kachery: bool) {
    let pairs = [
        file.b3.filter(|_| !compat_kachery).map(|b3| format!("\"b3\":\"{b3}\"")),
        Some(format!("\"sha1\":\"{}\"", file.sha1)),
        file.size_bytes.map(|size| format!("\"size\":{size}")),
    ];
    out.push('{');
    out.push_str(&pairs.into_iter().flatten().collect::<Vec<_>>().join(","));
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JsonError;
    use crate::json::parse_document;
    use crate::name::NameFault;
    use proptest::prelude::*;

    const HEX: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";

    fn parse_text(text: &str) -> Result<Directory, DirectoryError> {
        Directory::parse(text.as_bytes())
    }

    fn names(path: &[&str]) -> Vec<FileName> {
        path.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn kacherys_own_form_is_read_and_written_back() {
        // As `simplejson.dumps` wrote it: spaces, the order of the folder, no b3, folders not entered.
        let text =
            format!(r#"{{"files": {{"b": {{"size": 12, "sha1": "{HEX}"}}, "a": {{"sha1": "{HEX}"}}}}, "dirs": {{"d": {{}}}}}}"#);
        let directory = parse_text(&text).unwrap();
        assert_eq!(directory.entries(), 3);
        let expected = format!(
            r#"{{"dirs":{{"d":{{"dirs":{{}},"files":{{}}}}}},"files":{{"a":{{"sha1":"{HEX}"}},"b":{{"sha1":"{HEX}","size":12}}}}}}"#
        );
        assert_eq!(directory.to_json(true).unwrap(), expected);
        assert_eq!(directory.to_json(false).unwrap(), expected);
    }

    #[test]
    fn our_form_has_b3_unless_kachery_is_to_read_it() {
        let mut directory = Directory::new();
        let entry = FileEntry { sha1: HEX.parse().unwrap(), b3: Some(B3([0xab; 32])), size_bytes: Some(12) };
        directory.insert(&names(&["ü\"\n"]), entry).unwrap();
        let b3 = "ab".repeat(32);
        let ours = format!(r#"{{"dirs":{{}},"files":{{"ü\"\n":{{"b3":"{b3}","sha1":"{HEX}","size":12}}}}}}"#);
        assert_eq!(directory.to_json(false).unwrap(), ours);
        assert_eq!(directory.to_json(true).unwrap(), ours.replace(&format!("\"b3\":\"{b3}\","), ""));
        assert_eq!(parse_text(&ours), Ok(directory));
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc", "a\\u0000", "../x"] {
            for text in [
                format!(r#"{{"files":{{"{name}":{{"sha1":"{HEX}"}}}}}}"#),
                format!(r#"{{"dirs":{{"ok":{{"dirs":{{"{name}":{{}}}}}}}}}}"#),
            ] {
                assert!(matches!(parse_text(&text), Err(DirectoryError::Name { .. })), "{text}");
            }
        }
        let error = parse_text(r#"{"dirs":{"ok":{"dirs":{"..":{}}}}}"#).expect_err("..");
        assert!(
            matches!(&error, DirectoryError::Name { folder, source } if folder == "ok" && source.why == NameFault::DotSegment)
        );
        assert_eq!(error.to_string(), "in folder `ok`: `..` is not a file name: `.` and `..` cannot be names");
    }

    #[test]
    fn a_name_stands_once() {
        let both = format!(r#"{{"files":{{"a":{{"sha1":"{HEX}"}}}},"dirs":{{"a":{{}}}}}}"#);
        assert_eq!(parse_text(&both), Err(DirectoryError::Twice { path: "a".to_owned() }));
        let duplicate = DirectoryError::Json(JsonError::DuplicateKey { key: "a".to_owned() });
        assert_eq!(parse_text(r#"{"dirs":{"a":{},"a":{}}}"#), Err(duplicate));
    }

    #[test]
    fn other_shapes_say_what_is_expected() {
        let file = |body: &str| format!(r#"{{"files":{{"f":{body}}}}}"#);
        let texts = [
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"files":[]}"#.to_owned(),
            r#"{"dirs":{"d":1}}"#.to_owned(),
            file("1"),
            file("{}"),
            file(r#"{"sha1":"12"}"#),
            file(&format!(r#"{{"sha1":"{HEX}","b3":1}}"#)),
            file(&format!(r#"{{"sha1":"{HEX}","size":-1}}"#)),
            file(&format!(r#"{{"sha1":"{HEX}","size":"1"}}"#)),
        ];
        for text in texts {
            assert!(matches!(parse_text(&text), Err(DirectoryError::Shape { .. })), "{text}");
        }
        let error = parse_text(&file("{}")).expect_err("no sha1").to_string();
        assert_eq!(error, "at `f`: expected a file with the 40 hexadecimal digits of its `sha1`");
        assert!(matches!(parse_text("x"), Err(DirectoryError::Json(_))));
    }

    #[test]
    fn depth_ends_at_its_limit() {
        let nested = |names: usize| format!("{}{{}}{}", r#"{"dirs":{"d":"#.repeat(names), "}}".repeat(names));
        assert!(parse_text(&nested(MAX_DIRECTORY_DEPTH)).is_ok());
        assert!(matches!(
            parse_text(&nested(MAX_DIRECTORY_DEPTH + 1)),
            Err(DirectoryError::TooDeep { .. } | DirectoryError::Json(_))
        ));
    }

    #[test]
    fn entries_and_bytes_end_at_their_limits() {
        let mut reader = Reader { path: Vec::new(), entries: MAX_DIRECTORY_ENTRIES - 1 };
        assert_eq!(reader.enter("a"), Ok(()));
        assert_eq!(reader.enter("b"), Err(DirectoryError::TooMany));
        // What is not JSON from its first byte on is refused at once, but only after its length was accepted.
        let mut text = vec![b'x'; MAX_DIRECTORY_BYTES];
        assert!(matches!(Directory::parse(&text), Err(DirectoryError::Json(JsonError::Syntax(_)))));
        text.push(b'x');
        assert!(matches!(Directory::parse(&text), Err(DirectoryError::Json(JsonError::TooLong { .. }))));
    }

    #[test]
    fn what_is_printed_ends_at_the_same_limit() {
        assert_eq!(check_bytes(MAX_DIRECTORY_BYTES), Ok(()));
        let bytes = MAX_DIRECTORY_BYTES + 1;
        assert_eq!(check_bytes(bytes), Err(DirectoryError::TooLong { bytes }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            files in prop::collection::vec((prop::collection::vec("[^/\0]{1,6}", 1..5), any::<([u8; 20], Option<[u8; 32]>, Option<u64>)>()), 0..20)
        ) {
            let mut directory = Directory::new();
            for (path, (sha1, b3, size_bytes)) in files {
                let path: Result<Vec<FileName>, _> = path.iter().map(|name| name.parse()).collect();
                if let Ok(path) = path {
                    // Refused if the name is taken, which changes nothing.
                    let _taken = directory.insert(&path, FileEntry { sha1: BlobId(sha1), b3: b3.map(B3), size_bytes });
                }
            }
            let text = directory.to_json(false).unwrap();
            prop_assert_eq!(parse_text(&text), Ok(directory.clone()));
            prop_assert_eq!(parse_document(text.as_bytes()).unwrap().to_compact_sorted(), text, "sorted and compact");
            prop_assert_eq!(directory.files().count() <= directory.entries(), true);
        }
    }
}
