//! A check of a daemon's home, told as it goes.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Client, full, not_understood, request};
use crate::failure::{Code, Failure};
use crate::service::types::{FsckLine, ProblemLine};

impl Client {
    /// Has the daemon compare its records with the disk; what came of it.
    pub(super) fn fsck_running(&self, verify: bool, each: &mut dyn FnMut(ProblemLine)) -> Result<FsckLine, Failure> {
        let body = json!({ "verify": verify }).to_string().into_bytes();
        let answer = self.send(request(Method::POST, "/fsck", &[], full(body))?)?;
        let mut sum = None;
        self.text_lines(answer.into_body(), &mut |line| {
            let line: Value = understood(serde_json::from_slice(line))?;
            if let Some(failure) = Failure::from_json(&line) {
                return Err(failure);
            }
            match line.get("checked") {
                Some(_) => sum = Some(understood(serde_json::from_value(line))?),
                None => each(understood(serde_json::from_value(line))?),
            }
            Ok(())
        })?;
        let gone = || Failure::new(Code::Unreachable, "the daemon ended before the check did");
        sum.ok_or_else(|| gone().hint("start it again with `keepwell up`, or check without it"))
    }
}

fn understood<T>(read: Result<T, serde_json::Error>) -> Result<T, Failure> {
    read.map_err(|error| not_understood(&error.to_string()))
}
