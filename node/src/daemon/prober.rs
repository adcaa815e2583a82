//! Looking at the copies that others ask about, one question after the other, on a thread of its own: a slow disk holds up no step.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use keepwell_protocol::gc::question::Question;
use keepwell_protocol::id::NodeId;
use keepwell_store::store::Store;

use super::driver::now_ms;
use crate::engine::Probed;
use crate::failure::{Code, Failure};
use crate::limits::VERIFIED_FOR_MS;

/// A question of a member, and what the choice of what is read comes from.
type Questioned = (NodeId, Question, u64);

/// The running thread. It ends, after the question under way, when this is dropped.
pub(super) struct Prober {
    questions: Option<Sender<Questioned>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts it on this disk. What it finds goes to `report`, until that takes no more.
    pub(super) fn start(store: Arc<Store>, report: impl Fn(Probed) -> bool + Send + 'static) -> Result<Prober, Failure> {
        let (questions, queue) = channel();
        let spawned = std::thread::Builder::new().name("probe".into()).spawn(move || work(&store, &queue, &report));
        let thread = spawned
            .map_err(|error| Failure::new(Code::Internal, format!("cannot start the thread that looks at copies: {error}")))?;
        Ok(Prober { questions: Some(questions), thread: Some(thread) })
    }

    /// Has the copies looked at. If the thread has ended, whoever asked hears nothing, and keeps its copy.
    pub(super) fn look(&self, from: NodeId, question: Question, seed: u64) {
        if let Some(questions) = &self.questions {
            questions.send((from, question, seed)).ok();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        drop(self.questions.take());
        // The home is free for others only when nobody reads it here any more. A thread that panicked reads nothing.
        self.thread.take().map(JoinHandle::join);
    }
}

fn work(store: &Store, queue: &Receiver<Questioned>, report: &dyn Fn(Probed) -> bool) {
    while let Ok((from, question, seed)) = queue.recv() {
        let probes = store.probe_all(&question.blobs, seed, now_ms().saturating_sub(VERIFIED_FOR_MS));
        if !report(Probed { from, question, probes }) {
            return;
        }
    }
}
