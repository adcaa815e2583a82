//! A blob that the daemon has open for us.

use std::io;
use std::ops::Range;

use axum::http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use keepwell_protocol::id::BlobId;
use keepwell_protocol::uri::BlobUri;
use keepwell_store::limits::GROUP_BYTES;

use super::{Client, empty, gone, not_understood, request};
use crate::failure::Failure;
use crate::service::backend::{OpenBlob, Sink};
use crate::service::read::ReadError;

const GROUP: u64 = GROUP_BYTES as u64;

/// A blob that the daemon said it has.
pub(super) struct RemoteBlob<'a> {
    client: &'a Client,
    id: BlobId,
    path: String,
    size_bytes: u64,
}

impl Client {
    /// Asks whether the daemon has a blob, and how large it is.
    pub(super) fn open_blob(&self, uri: &BlobUri) -> Result<RemoteBlob<'_>, Failure> {
        let b3 = uri.b3.map(|b3| format!("&b3={b3}")).unwrap_or_default();
        // A command decides itself what is to be fetched, and shows how far it is.
        let path = format!("/blobs/{}?local=1{b3}", uri.sha1);
        let head = request(Method::HEAD, &path, &[], empty())?;
        let response = match self.send(head) {
            Ok(response) => response,
            // The answer to a HEAD has no room for the reason; ask as if for one byte.
            Err(head) => return Err(self.reason(&path)?.unwrap_or(head)),
        };
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let size_bytes = length.ok_or_else(|| not_understood("a blob without its size"))?;
        Ok(RemoteBlob { client: self, id: uri.sha1, path, size_bytes })
    }

    fn reason(&self, path: &str) -> Result<Option<Failure>, Failure> {
        let range = (header::RANGE, HeaderValue::from_static("bytes=0-0"));
        Ok(self.send(request(Method::GET, path, &[range], empty())?).err())
    }
}

impl OpenBlob for RemoteBlob<'_> {
    fn id(&self) -> BlobId {
        self.id
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// After an answer that is broken off, the rest is asked for group by group: a group is verified before its answer begins, so
    /// that the answer to the bad one says what is wrong with it.
    fn copy_range(&self, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let (mut at, mut by_group) = (range.start, false);
        while at < range.end {
            let end = if by_group { range.end.min((at / GROUP + 1) * GROUP) } else { range.end };
            match self.copy_some(&mut at, end, sink)? {
                Some(failure) if by_group => return Err(failure.into()),
                Some(_) => by_group = true,
                None => {}
            }
        }
        Ok(())
    }
}

impl RemoteBlob<'_> {
    /// Copies what one answer gives, and moves `at` on. How it broke off, if it did.
    fn copy_some(&self, at: &mut u64, end: u64, sink: &mut Sink<'_>) -> Result<Option<Failure>, ReadError> {
        let text = format!("bytes={at}-{}", end - 1);
        let range = HeaderValue::from_str(&text).map_err(|error| not_understood(&error.to_string()))?;
        let asked = request(Method::GET, &self.path, &[(header::RANGE, range)], empty())?;
        let mut body = self.client.send(asked)?.into_body();
        self.client.runtime.block_on(async {
            while let Some(frame) = body.frame().await {
                match frame.map(hyper::body::Frame::into_data) {
                    Ok(Ok(piece)) => {
                        sink(&piece).map_err(ReadError::Sink)?;
                        *at += piece.len() as u64;
                    }
                    Ok(Err(_trailers)) => {}
                    Err(error) => {
                        self.client.is_broken.set(true);
                        return Ok(Some(gone(&error)));
                    }
                }
            }
            Ok((*at < end).then(|| gone(&io::Error::from(io::ErrorKind::UnexpectedEof))))
        })
    }
}
