//! A fetch that the daemon makes for us, watched as it goes.

use axum::http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use keepwell_protocol::id::BlobId;
use serde::Serialize;
use serde_json::Value;

use super::{Client, full, gone, not_understood, request};
use crate::api::fetch::NDJSON;
use crate::failure::{Code, Failure};
use crate::limits::MAX_FETCH_ROOTS;
use crate::service::backend::{Extent, Fetched, Watch};
use crate::service::types::{FetchLine, FetchingLine};

#[derive(Serialize)]
struct FetchRequest {
    sha1: Vec<String>,
    flat: bool,
}

impl Client {
    /// Has blobs fetched, one outcome each, and tells `watch` how far all of them are.
    pub(super) fn fetch_watched(&self, blobs: &[BlobId], extent: Extent, watch: &mut Watch<'_>) -> Result<Vec<Fetched>, Failure> {
        let mut run = Run { outcomes: Vec::with_capacity(blobs.len()), done_bytes: 0, watch };
        for part in blobs.chunks(MAX_FETCH_ROOTS) {
            let wanted = run.outcomes.len() + part.len();
            let body = FetchRequest { sha1: part.iter().map(ToString::to_string).collect(), flat: extent == Extent::Flat };
            let body = serde_json::to_vec(&body).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
            let accept = (header::ACCEPT, HeaderValue::from_static(NDJSON));
            let answer = self.send(request(Method::POST, "/fetch", &[accept], full(body))?)?;
            self.lines(answer.into_body(), &mut |line| run.take(line))?;
            if run.outcomes.len() != wanted {
                return Err(not_understood("a fetch that does not answer for each blob"));
            }
        }
        Ok(run.outcomes)
    }

    /// Reads a body of JSON line by line, each one as it comes.
    fn lines(&self, body: Incoming, take: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure> {
        self.text_lines(body, &mut |line| take(serde_json::from_slice(line).map_err(|error| not_understood(&error.to_string()))?))
    }

    /// Reads a body line by line, each one as it comes, with its end.
    pub(super) fn text_lines(
        &self,
        mut body: Incoming,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // What is not read to its end leaves the connection of no use.
        self.is_broken.set(true);
        let mut rest = Vec::new();
        while let Some(frame) = self.runtime.block_on(body.frame()) {
            let Ok(piece) = frame.map_err(|error| gone(&error))?.into_data() else { continue };
            rest.extend_from_slice(&piece);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                take(&line)?;
            }
        }
        self.is_broken.set(false);
        Ok(())
    }
}

/// A fetch that is under way.
struct Run<'a, 'w> {
    outcomes: Vec<Fetched>,
    /// Bytes of the blobs that are done.
    done_bytes: u64,
    watch: &'a mut Watch<'w>,
}

impl Run<'_, '_> {
    /// How far the present blob is, or what became of it: a line, or a failure in its place.
    fn take(&mut self, line: Value) -> Result<(), Failure> {
        if line.get("progress").is_some() {
            let FetchingLine { progress } = understood(line)?;
            (self.watch)(self.done_bytes + progress.done_bytes, self.done_bytes + progress.wanted_bytes);
            return Ok(());
        }
        let outcome = match Failure::from_json(&line) {
            Some(failure) => Err(failure),
            None => Ok(understood::<FetchLine>(line)?),
        };
        self.done_bytes += outcome.as_ref().map_or(0, |line| line.received_bytes);
        (self.watch)(self.done_bytes, self.done_bytes);
        self.outcomes.push(outcome);
        Ok(())
    }
}

fn understood<T: serde::de::DeserializeOwned>(line: Value) -> Result<T, Failure> {
    serde_json::from_value(line).map_err(|error| not_understood(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_blobs_of_one_fetch_are_counted_together() {
        let progress = |done: u64, wanted: u64| json!({ "progress": { "sha1": "", "done_bytes": done, "wanted_bytes": wanted } });
        let here = |received: u64| json!({ "sha1": "", "size_bytes": received, "received_bytes": received, "from": ["ada"], "existed": false });
        let mut seen = Vec::new();
        let mut watch = |done, wanted| seen.push((done, wanted));
        let mut run = Run { outcomes: Vec::new(), done_bytes: 0, watch: &mut watch };
        let nobody = Failure::no_provider("nobody here has it", &[]);
        for line in [progress(5, 10), here(10), progress(2, 4), nobody.to_json(), here(1)] {
            run.take(line).unwrap();
        }
        assert!(run.take(json!({ "something": "else" })).is_err());
        let outcomes = run.outcomes;
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(outcomes[1], Err(nobody));
        assert_eq!(seen, [(5, 10), (10, 10), (12, 14), (10, 10), (11, 11)]);
    }
}
