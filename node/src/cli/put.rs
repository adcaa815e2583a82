//! `keepwell put`

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keepwell_protocol::id::{BlobId, LeaseId};
use keepwell_protocol::json::Json;
use keepwell_protocol::name::{Label, OwnerName, RefName};
use keepwell_protocol::uri::{BlobUri, Target};

use super::context::Context;
use super::output::{Stop, Tally};
use super::refs::set_note;
use crate::engine::LeaseUse;
use crate::failure::Failure;
use crate::home::owner;
use crate::service::backend::Backend;
use crate::service::bring::bring_closure;
use crate::service::put::{Outcome, PutOptions, label_of};
use crate::service::refs::SetRef;
use crate::service::tree::put_tree;
use crate::service::types::PutLine;

/// Store files and print a URI for each
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// Files to store; `-` is standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Store directories: every file in them, and one directory object that links to them
    #[arg(short, long)]
    recursive: bool,
    /// What the URI calls it, instead of the file's own name
    #[arg(long, value_name = "TEXT")]
    label: Option<Label>,
    /// A blob that it refers to; what is not here of that and of all it leads to is fetched first. May be given more than once
    #[arg(long, value_name = "URI")]
    link: Vec<Target>,
    /// Read what is stored for the URIs in it, and link to those blobs
    #[arg(long, value_name = "FORMAT")]
    scan: Option<Scan>,
    /// Write directory objects as kachery does, without BLAKE3
    #[arg(long, value_name = "PROGRAM", requires = "recursive")]
    compat: Option<Compat>,
    /// Keep it on this node until this lease ends
    #[arg(long, value_name = "ID")]
    lease: Option<LeaseId>,
    /// Whose lease that is [default: USER@HOST]
    #[arg(long, value_name = "NAME", requires = "lease")]
    owner: Option<OwnerName>,
    /// Name it: the ref's object gets a field for each path, or, with #FIELD, this one beside those it has
    #[arg(long = "ref", value_name = "GROUP/KEY[#FIELD]")]
    reference: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scan {
    /// One JSON value
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compat {
    /// kachery and kachery-p2p
    Kachery,
}

/// What was stored, as it will stand in a ref: label and URI.
type Stored = (String, String);

pub(super) fn run(args: PutArgs, context: &mut Context) -> Result<u8, Stop> {
    check(&args)?;
    let reference = args.reference.as_deref().map(|text| parse_reference(text, args.paths.len())).transpose()?;
    let links: Vec<BlobId> = args.link.iter().map(linked).collect::<Result<_, _>>()?;
    let owner = || args.owner.clone().unwrap_or_else(owner::of_this_process);
    let lease = args.lease.map(|lease| LeaseUse { lease, owner: owner() });
    let backend = context.backend()?;
    // A link needs all that it leads to here. Standard input can be read once, so that comes first.
    bring_closure(&links, &mut |blobs, extent| context.out.fetch(&*backend, blobs, extent))?;
    let options = PutOptions { links, scan_json: args.scan.is_some(), expected: None, lease };
    let mut run = Run { args: &args, backend: &*backend, context, tally: Tally::default(), stored: Vec::new() };
    if args.recursive {
        run.trees(&options)?
    } else {
        run.files(options)?
    }
    let Run { tally, stored, .. } = run;
    match reference {
        Some((name, field)) if tally.all_done() => name_it(&*backend, context, &name, field, stored)?,
        Some((name, _)) => context.out.note(&format!("ref {name} was not set, since not everything was stored"))?,
        None => {}
    }
    Ok(tally.exit())
}

fn check(args: &PutArgs) -> Result<(), Failure> {
    let streams = args.paths.iter().filter(|path| is_stdin(path)).count();
    if args.label.is_some() && args.paths.len() > 1 {
        return Err(Failure::usage("--label names one thing, and there are several").hint("put them one by one"));
    }
    if streams > 1 {
        return Err(Failure::usage("standard input can be read once").hint("give `-` once"));
    }
    if streams > 0 && args.recursive {
        return Err(Failure::usage("standard input is no directory").hint("leave -r out, or name a directory"));
    }
    Ok(())
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The blob that a link leads to.
pub(super) fn linked(target: &Target) -> Result<BlobId, Failure> {
    match target {
        Target::Blob(uri) => Ok(uri.sha1),
        Target::Dir(uri) if uri.path.is_empty() => Ok(uri.blob.sha1),
        other => Err(Failure::usage(format!("{other} is not the URI of a blob")).hint("write it as `sha1://HASH`")),
    }
}

fn parse_reference(text: &str, paths: usize) -> Result<(RefName, Option<String>), Failure> {
    match text.rsplit_once('#') {
        Some((_, "")) => Err(Failure::usage("the field after # is empty").hint("write it as GROUP/KEY#FIELD")),
        Some(_) if paths > 1 => Err(Failure::usage("one field names one path").hint("leave #FIELD out, or put one path")),
        Some((name, field)) => Ok((name.parse()?, Some(field.to_owned()))),
        None => Ok((text.parse()?, None)),
    }
}

/// A put that is under way.
struct Run<'a> {
    args: &'a PutArgs,
    backend: &'a dyn Backend,
    context: &'a mut Context,
    tally: Tally,
    stored: Vec<Stored>,
}

impl Run<'_> {
    fn files(&mut self, options: PutOptions) -> Result<(), Stop> {
        let bar = self.context.out.bar(total_bytes(&self.args.paths));
        let mut progress = |bytes| bar.inc(bytes);
        let mut putter = self.backend.putter(options, &mut progress);
        for (number, path) in self.args.paths.iter().enumerate() {
            let outcomes = match is_stdin(path) {
                true => putter.put_stream(number, &mut io::stdin().lock())?,
                false => putter.put_path(number, path)?,
            };
            self.print(outcomes)?;
        }
        self.print(putter.finish()?)?;
        bar.finish_and_clear();
        Ok(())
    }

    fn trees(&mut self, options: &PutOptions) -> Result<(), Stop> {
        for path in &self.args.paths {
            let bar = self.context.out.bar(0);
            let mut progress = |bytes| bar.inc(bytes);
            let (label, compat) = (self.args.label.clone(), self.args.compat.is_some());
            let outcome = put_tree(self.backend, path, label, compat, options.clone(), &mut progress);
            bar.finish_and_clear();
            match outcome {
                Ok(line) => {
                    let label = label_of(path).map_or_else(|| line.sha1.clone(), |label| label.to_string());
                    self.stored(self.args.label.as_ref().map_or(label, ToString::to_string), line)?;
                }
                Err(failure) if failure.ends_all() => return Err(failure.into()),
                Err(failure) => self.failed(&failure)?,
            }
        }
        Ok(())
    }

    fn print(&mut self, outcomes: Vec<Outcome>) -> Result<(), Stop> {
        let many = outcomes.len();
        for outcome in outcomes {
            match outcome {
                Ok(held) => {
                    let path = self.args.paths.get(held.number).map(PathBuf::as_path).unwrap_or(Path::new("-"));
                    let own = || if is_stdin(path) { None } else { label_of(path) };
                    let uri = BlobUri::labelled(held.fact.sha1, self.args.label.clone().or_else(own));
                    let label = uri.label.as_ref().map_or_else(|| uri.sha1.to_string(), ToString::to_string);
                    let line = PutLine {
                        path: path.display().to_string(),
                        uri: uri.to_string(),
                        sha1: held.fact.sha1.to_string(),
                        b3: held.fact.b3.to_string(),
                        size_bytes: held.fact.size_bytes,
                        existed: held.existed,
                        files: None,
                    };
                    self.stored(label, line)?;
                }
                Err((number, failure)) => {
                    let path = self.args.paths.get(number).map(|path| path.display().to_string());
                    self.failed(&failure.about("path", path))?;
                }
            }
        }
        // What was recorded is told at once, not when the last of many files is done.
        if many > 0 { self.context.out.flush() } else { Ok(()) }
    }

    fn stored(&mut self, label: String, line: PutLine) -> Result<(), Stop> {
        self.tally.done();
        self.context.out.line(&line, || line.uri.clone())?;
        self.stored.push((label, line.uri));
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) -> Result<(), Stop> {
        self.tally.failed(failure);
        self.context.out.failure(failure)
    }
}

/// Sizes of what is to be read, for the progress bar alone.
fn total_bytes(paths: &[PathBuf]) -> u64 {
    if paths.len() > 1_000 { 0 } else { paths.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum() }
}

fn name_it(
    backend: &dyn Backend,
    context: &mut Context,
    name: &RefName,
    field: Option<String>,
    stored: Vec<Stored>,
) -> Result<(), Stop> {
    let line = match field {
        Some(field) => {
            let fields = stored.into_iter().map(|(_, uri)| (field.clone(), uri)).collect();
            backend.set_fields(name, fields)?
        }
        None => {
            let mut members: Vec<(String, Json)> = Vec::new();
            for (label, uri) in stored {
                if members.iter().any(|(known, _)| *known == label) {
                    return Err(Failure::usage(format!("two of the paths are called {label:?}"))
                        .hint(format!("all is stored; name it with `keepwell ref set {name} FIELD=URI…`"))
                        .into());
                }
                members.push((label, Json::String(uri)));
            }
            let obj = Json::Object(members).to_compact_sorted();
            backend.set_ref(SetRef::new(name.clone(), obj))?
        }
    };
    context.out.note(&set_note(&line))
}
