//! `POST /fetch`: blobs are brought here from other nodes, and whoever asked may watch.
//!
//! The answer is a list once all is done. To a client that takes `application/x-ndjson` it is a line for each blob as it is done, in the
//! order they were asked for, and in between lines that say how far the present one has come. When the client goes, the fetch ends;
//! what has come stays, and the next fetch goes on from there.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use futures::stream;
use keepwell_protocol::id::BlobId;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{MissedTickBehavior, interval};

use super::Api;
use super::answer::{Answer, ApiError, json_list, read_json};
use super::gate::Slot;
use super::network::daemon;
use crate::daemon::Daemon;
use crate::daemon::fetch::Progress;
use crate::failure::{Code, Failure};
use crate::limits::{MAX_FETCH_ROOTS, PIECES_AHEAD, PROGRESS_EVERY};
use crate::service::backend::Extent;
use crate::service::types::{FetchLine, FetchingLine, ProgressLine};

/// What a client says that it takes, and what the answer then is.
pub(crate) const NDJSON: &str = "application/x-ndjson";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FetchRequest {
    sha1: Vec<String>,
    /// The blobs alone, without what they refer to.
    #[serde(default)]
    flat: bool,
}

/// `POST /fetch`
pub(super) async fn fetch(State(api): State<Arc<Api>>, slot: Slot, headers: HeaderMap, body: Body) -> Answer {
    let request: FetchRequest = read_json(body).await?;
    if request.sha1.len() > MAX_FETCH_ROOTS {
        return Err(ApiError::too_large("blobs to fetch", MAX_FETCH_ROOTS));
    }
    let parsed: Result<Vec<BlobId>, _> = request.sha1.iter().map(|sha1| sha1.parse::<BlobId>()).collect();
    let roots = parsed.map_err(|error| Failure::usage(error.to_string()))?;
    let extent = if request.flat { Extent::Flat } else { Extent::Closure };
    let daemon = daemon(&api)?;
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains(NDJSON) {
        return Ok(watched(Arc::clone(daemon), slot, roots, extent));
    }
    let mut items = Vec::with_capacity(roots.len());
    for root in roots {
        items.push(item(daemon.fetch_one(root, extent, Progress::default()).await)?);
    }
    json_list("blobs", &items, None)
}

/// A blob's line, or its failure in the place of it.
fn item(outcome: Result<FetchLine, Failure>) -> Result<serde_json::Value, Failure> {
    match outcome {
        Ok(line) => serde_json::to_value(line).map_err(|error| Failure::new(Code::Internal, error.to_string())),
        Err(failure) => Ok(failure.to_json()),
    }
}

fn watched(daemon: Arc<Daemon>, slot: Slot, roots: Vec<BlobId>, extent: Extent) -> axum::response::Response {
    let (lines, told) = channel(PIECES_AHEAD);
    tokio::spawn(async move {
        let work = async {
            for root in roots {
                let progress = Progress::default();
                let fetching = daemon.fetch_one(root, extent, progress.clone());
                if watch(fetching, root, &progress, &lines).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = lines.closed() => {}
        }
        drop(slot);
    });
    let lines = stream::unfold(told, |mut told| async move { Some((Ok::<_, std::io::Error>(told.recv().await?), told)) });
    (StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

/// Nobody is left to be told.
struct Gone;

/// Tells how far the fetch of `root` is, whenever that has changed, and at last what became of it.
async fn watch(
    fetching: impl Future<Output = Result<FetchLine, Failure>>,
    root: BlobId,
    progress: &Progress,
    lines: &Sender<Bytes>,
) -> Result<(), Gone> {
    let mut fetching = std::pin::pin!(fetching);
    let mut tick = interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    let outcome = loop {
        tokio::select! {
            outcome = &mut fetching => break outcome,
            _ = tick.tick() => {
                let (done_bytes, wanted_bytes) = (progress.done_bytes(), progress.wanted_bytes());
                if done_bytes != told {
                    told = done_bytes;
                    let progress = ProgressLine { sha1: root.to_string(), done_bytes, wanted_bytes };
                    tell(lines, &FetchingLine { progress }).await?;
                }
            }
        }
    };
    match item(outcome) {
        Ok(line) => tell(lines, &line).await,
        Err(failure) => tell(lines, &failure.to_json()).await,
    }
}

async fn tell(lines: &Sender<Bytes>, line: &impl Serialize) -> Result<(), Gone> {
    // Our own lines are always JSON.
    let mut bytes = serde_json::to_vec(line).map_err(|_| Gone)?;
    bytes.push(b'\n');
    lines.send(bytes.into()).await.map_err(|_| Gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_fetch_is_told_of_when_it_has_come_further_and_at_its_end() {
        let (lines, mut told) = channel(PIECES_AHEAD);
        let (done, is_done) = oneshot::channel();
        let (root, progress) = (BlobId([1; 20]), Progress::default());
        progress.want(30);
        progress.add(10);
        let counts = progress.clone();
        let watching = tokio::spawn(async move {
            let fetching = async { is_done.await.unwrap_or_else(|_| Err(Failure::usage("broken off"))) };
            watch(fetching, root, &counts, &lines).await.is_ok()
        });
        let mut next = async || serde_json::from_slice::<serde_json::Value>(&told.recv().await.unwrap()).unwrap();
        let line =
            |done_bytes: u64| json!({ "progress": { "sha1": root.to_string(), "done_bytes": done_bytes, "wanted_bytes": 30 } });
        assert_eq!(next().await, line(10));
        let began = Instant::now();
        progress.add(5);
        assert_eq!(next().await, line(15));
        assert_eq!(began.elapsed().as_millis(), PROGRESS_EVERY.as_millis());
        done.send(Err(Failure::no_provider("nobody here has it", &[root]))).unwrap();
        assert_eq!(next().await["error"]["code"], "NO_PROVIDER");
        assert!(watching.await.unwrap());
    }
}
