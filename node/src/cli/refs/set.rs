//! `keepwell ref set`

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::Args;
use keepwell_protocol::json::{self, Json};
use keepwell_protocol::limits::MAX_OBJ_META_BYTES;
use keepwell_protocol::name::RefName;
use keepwell_protocol::units::{DurationMs, parse_expires};
use keepwell_protocol::uri::{BlobUri, DirUri, Target};

use super::super::context::{Context, now_ms};
use super::super::output::Stop;
use super::set_note;
use crate::failure::Failure;
use crate::limits::MAX_CONFIRM_WAIT_MS;
use crate::service::bring::with_blobs;
use crate::service::durable::too_few;
use crate::service::refs::{SetRef, rev_of};

/// Give a ref a value; all blobs that it needs are stored here first: a daemon fetches what is missing
#[derive(Debug, Args)]
pub(in super::super) struct SetArgs {
    /// The ref
    #[arg(value_name = "GROUP/KEY")]
    name: RefName,
    /// A field of the object, and the blob or directory that it names
    #[arg(value_name = "FIELD=URI", required_unless_present = "obj")]
    fields: Vec<String>,
    /// The whole object, as JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE", conflicts_with = "fields")]
    obj: Option<String>,
    /// Notes on it, as JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    meta: Option<String>,
    /// When it lapses: a time such as 2030-01-31T12:00:00Z, or from now on, such as 30d
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// How long it lives after its last use, such as 7d
    #[arg(long, value_name = "DURATION")]
    ttl_access: Option<DurationMs>,
    /// On how many nodes its blobs shall be
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    copies: u32,
    /// Return when so many copies are proven
    #[arg(long)]
    wait: bool,
    /// For how long to wait for them
    #[arg(long, value_name = "DURATION", default_value = "10m", requires = "wait")]
    timeout: DurationMs,
    /// Only if this is its rev; `none`: only if there is no such ref
    #[arg(long, value_name = "REV")]
    if_rev: Option<String>,
    /// Also if blobs that it needs are not stored here: the value is then `unbacked`, and nothing is promised
    #[arg(long)]
    allow_missing: bool,
}

pub(super) fn run(args: SetArgs, context: &mut Context) -> Result<u8, Stop> {
    let obj = match &args.obj {
        Some(text) => json_argument(text)?,
        None => object_of(&args.fields)?,
    };
    let meta = args.meta.as_deref().map(json_argument).transpose()?;
    let backend = context.backend()?;
    let expires = args.expires.as_deref().map(|text| parse_expires(text, now_ms())).transpose()?;
    let set = SetRef {
        meta,
        expires_ms: expires.map(|time| time.unix_ms()),
        ttl_access_ms: args.ttl_access.map(|ttl| ttl.0),
        copies: args.copies,
        if_rev: args.if_rev.map(rev_of),
        allow_missing: args.allow_missing,
        ..SetRef::new(args.name, obj)
    };
    // Own copy first: what it names and is not here is fetched, and then it is set.
    let named = || {
        let links = json::direct_links(&json::parse_object(&set.obj)?)?;
        Ok(links.into_iter().map(|(_, uri)| uri.sha1).collect())
    };
    let line =
        with_blobs(&mut |blobs, extent| context.out.fetch(&*backend, blobs, extent), named, || backend.set_ref(set.clone()))?;
    let line = if args.wait { backend.confirm_ref(&set.name, args.timeout.0.min(MAX_CONFIRM_WAIT_MS))? } else { line };
    context.out.line(&line, || set_note(&line))?;
    if args.wait && line.durable < line.copies {
        return Err(too_few(&line).into());
    }
    Ok(0)
}

/// JSON as it stands, or from the file after `@`.
fn json_argument(text: &str) -> Result<String, Failure> {
    let Some(path) = text.strip_prefix('@').map(Path::new) else { return Ok(text.to_owned()) };
    let failed = |error: std::io::Error| Failure::file("cannot read", path, &error);
    // A larger file is not the object of a ref, and need not be read to say so.
    let size_bytes = fs::metadata(path).map_err(failed)?.len();
    if size_bytes > MAX_OBJ_META_BYTES as u64 {
        return Err(Failure::usage(format!(
            "{} has {size_bytes} bytes, at most {MAX_OBJ_META_BYTES} are allowed",
            path.display()
        ))
        .hint("store it with `keepwell put --scan json`, and let the ref name that blob"));
    }
    fs::read_to_string(path).map_err(failed)
}

/// The object with these fields.
fn object_of(fields: &[String]) -> Result<String, Failure> {
    let (mut members, mut seen) = (Vec::new(), BTreeSet::new());
    for text in fields {
        let split = text.split_once('=').filter(|(field, _)| !field.is_empty());
        let (field, uri) = split.ok_or_else(|| Failure::usage(format!("{text:?} is not of the form FIELD=URI")))?;
        if !seen.insert(field) {
            return Err(Failure::usage(format!("the field {field:?} is given twice")).hint("give each field once"));
        }
        members.push((field.to_owned(), Json::String(link(uri)?)));
    }
    Ok(Json::Object(members).to_compact_sorted())
}

/// A URI as it shall stand in an object.
fn link(text: &str) -> Result<String, Failure> {
    match text.parse::<Target>()? {
        Target::Blob(uri) => Ok(BlobUri::to_full_string(&uri)),
        Target::Dir(uri) => Ok(DirUri::to_string(&uri)),
        Target::Ref(_) => Err(Failure::usage(format!("{text:?} is not the URI of a blob or a directory"))
            .hint("write it as `sha1://HASH`; to use what a ref names, look at it with `keepwell ref get`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "d9e989f651cdd269d7f9bb8a215d024d8d283688";

    #[test]
    fn fields_make_an_object_with_sorted_keys() {
        let fields = [format!("b=sha1://{HEX}?label=x"), format!("a={HEX}")];
        let expected = format!("{{\"a\":\"sha1://{HEX}\",\"b\":\"sha1://{HEX}?label=x\"}}");
        assert_eq!(object_of(&fields).unwrap(), expected);
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for field in ["a", "=x", "a=", "a=group/key", "a=sha1://12"] {
            assert!(object_of(&[field.to_owned()]).is_err(), "{field}");
        }
        assert!(object_of(&[format!("a={HEX}"), format!("a={HEX}")]).is_err());
    }
}
