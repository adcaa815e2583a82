//! A running daemon, asked over its socket for what embedded commands do themselves.
//!
//! Absent from here: what is printed, and what a command means. One request at a time, on one connection.

mod backend;
mod events;
mod fetch;
mod fsck;
mod leases;
mod put;
mod read;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use keepwell_store::fs::{RealFs, SharedFs};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::api::socket::own_user;
use crate::failure::{Code, Failure};

/// What stands in a path or a query as it is.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The body of a request.
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A daemon that answers.
pub struct Client {
    socket: PathBuf,
    /// The home's files, to write what is put into `ingest/`; none if the daemon is another user's.
    files: Option<SharedFs>,
    /// One thread, which works on the connection while a request is waited for.
    runtime: Runtime,
    sender: RefCell<SendRequest<Body>>,
    /// Whether an answer was broken off: the connection is of no more use, whether or not it knows yet.
    is_broken: Cell<bool>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.socket.display())
    }
}

impl Client {
    /// The daemon of `home`, which listens on `socket`; none if nobody answers there.
    pub fn connect(home: &Path, socket: &Path) -> Result<Option<Client>, Failure> {
        let failed = |error: io::Error| Failure::file("cannot connect to", socket, &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let stream = match runtime.block_on(UnixStream::connect(socket)) {
            Err(error) if is_nobody(&error) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let is_ours = {
            let _entered = runtime.enter();
            stream.peer_cred().and_then(|peer| Ok(peer.uid() == own_user()?)).map_err(failed)?
        };
        let files = is_ours.then(|| Arc::new(RealFs::new(home)) as SharedFs);
        let sender = RefCell::new(runtime.block_on(begin(stream))?);
        Ok(Some(Client { socket: socket.to_owned(), files, runtime, sender, is_broken: Cell::new(false) }))
    }

    /// Sends a request and waits for the head of its answer. One that tells of a failure is one.
    fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        self.send_while(request, std::future::ready(()))
    }

    /// The same while something feeds the request's body.
    fn send_while(&self, request: Request<Body>, feed: impl Future<Output = ()>) -> Result<Response<Incoming>, Failure> {
        let mut sender = self.sender.borrow_mut();
        self.runtime.block_on(async {
            // What was not read to its end has closed the connection.
            if self.is_broken.take() || sender.ready().await.is_err() {
                let stream = UnixStream::connect(&self.socket).await.map_err(|error| gone(&error))?;
                *sender = begin(stream).await?;
            }
            let (response, ()) = futures::join!(sender.send_request(request), feed);
            let response = response.map_err(|error| gone(&error))?;
            let status = response.status();
            if status.is_success() { Ok(response) } else { Err(refused(status, response.into_body()).await) }
        })
    }

    /// Asks, with nothing in the body.
    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, headers: &[Header]) -> Result<T, Failure> {
        self.read(self.send(request(method, path, headers, empty())?)?.into_body())
    }

    /// Asks, with JSON in the body.
    fn ask_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[Header],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let bytes = serde_json::to_vec(body).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        self.read(self.send(request(method, path, headers, full(bytes))?)?.into_body())
    }

    fn read<T: DeserializeOwned>(&self, body: Incoming) -> Result<T, Failure> {
        let bytes = self.runtime.block_on(body.collect()).map_err(|error| gone(&error))?.to_bytes();
        serde_json::from_reader(&*bytes).map_err(|error| not_understood(&error.to_string()))
    }
}

/// A header of a request.
type Header = (HeaderName, HeaderValue);

async fn begin(stream: UnixStream) -> Result<SendRequest<Body>, Failure> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| gone(&error))?;
    // How it ends is told to whoever waits for an answer on it.
    drop(tokio::spawn(connection));
    Ok(sender)
}

fn request(method: Method, path: &str, headers: &[Header], body: Body) -> Result<Request<Body>, Failure> {
    let request = Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", "localhost");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(body).map_err(|error| Failure::usage(format!("this cannot be asked: {error}")))
}

fn empty() -> Body {
    full(Vec::new())
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// A text as it stands in a path or a query.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

/// Whether nobody listens. A daemon that ends with connections that it had not taken resets them.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | NotADirectory)
}

async fn refused(status: StatusCode, body: Incoming) -> Failure {
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let failure = serde_json::from_slice(&bytes).ok().and_then(|json| Failure::from_json(&json));
    failure.unwrap_or_else(|| not_understood(&format!("status {status}")))
}

fn gone(error: &dyn std::error::Error) -> Failure {
    let message = format!("the daemon went away: {}", crate::failure::with_sources(error));
    Failure::new(Code::Unreachable, message).hint("look at what it printed last, and start it again with `keepwell up`")
}

fn not_understood(what: &str) -> Failure {
    Failure::new(Code::Internal, format!("the daemon's answer is not understood: {what}"))
        .hint("run the daemon and this command in the same version")
}

#[cfg(test)]
mod tests;
