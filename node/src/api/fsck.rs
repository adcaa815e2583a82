//! `POST /fsck`: records and disk of the home are compared while it works, and the index with its checksums. A line for each thing that is wrong, as it is found, and one at the
//! end that sums up. When the client goes, the check ends.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Sender, channel};

use super::Api;
use super::answer::{Answer, read_json};
use super::fetch::NDJSON;
use super::gate::Slot;
use crate::limits::PIECES_AHEAD;
use crate::service::fsck::fsck_running;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FsckRequest {
    /// Every byte, not only whether files are there and how long they are.
    #[serde(default)]
    verify: bool,
}

/// `POST /fsck`
pub(super) async fn fsck(State(api): State<Arc<Api>>, slot: Slot, body: Body) -> Answer {
    let FsckRequest { verify } = read_json(body).await?;
    let (lines, told) = channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let closing = api.closing.subscribe();
        let told = lines.clone();
        let pace = move |_| match told.is_closed() || *closing.borrow() {
            true => Err(io::Error::other("nobody waits for it")),
            false => Ok(()),
        };
        let (index_pace, mut pace) = (Box::new(pace.clone()), pace);
        let done = fsck_running(&*api.node, &api.home, verify, index_pace, &mut pace, &mut |line| tell(&lines, &line));
        match done {
            Ok(sum) => tell(&lines, &sum),
            Err(failure) => tell(&lines, &failure.to_json()),
        }
        drop(slot);
    });
    let lines = stream::unfold(told, |mut told| async move { Some((Ok::<_, io::Error>(told.recv().await?), told)) });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

/// Whether anybody is left to hear it, the pace asks.
fn tell(lines: &Sender<Bytes>, line: &impl Serialize) {
    if let Ok(mut bytes) = serde_json::to_vec(line) {
        bytes.push(b'\n');
        lines.blocking_send(bytes.into()).ok();
    }
}
