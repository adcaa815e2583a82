//! How a control channel begins: the greeting, until it works both ways or cannot be.
//!
//! libp2p may lose a stream or never give one, so that every step is under a timeout and worth another try.

use keepwell_protocol::id::{NetworkId, NodeId};
use libp2p::PeerId;
use libp2p_stream::Control;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::bulk::{self, OpenError, Wire};
use super::frame::{self, FrameError, Kind};
use super::jitter;
use super::limits::{LINK_TIMEOUT, STREAM_RETRY, STREAM_TIMEOUT, UNSUPPORTED_PATIENCE};
use super::link::{Ending, EndingKind, PROTOCOL, say_bye};

/// A stream that both have greeted on; none when it took too long, or cannot be. `trouble` says why.
pub(super) async fn establish(
    incoming: &mut mpsc::Receiver<Wire>,
    control: &Control,
    (local, node): (NodeId, NodeId),
    peer: PeerId,
    network: &NetworkId,
    trouble: &mut Ending,
) -> Option<Wire> {
    let trying = async {
        let begun = Instant::now();
        loop {
            let tried = if local < node { open(control, peer, network).await } else { accept(incoming, network).await };
            match tried {
                Ok(wire) => return Some(wire),
                Err(Trouble::Passing(ending)) => {
                    let is_lasting = ending.kind == EndingKind::Fault && begun.elapsed() >= UNSUPPORTED_PATIENCE;
                    *trouble = ending;
                    if is_lasting {
                        return None;
                    }
                }
                Err(Trouble::Final(ending)) => {
                    *trouble = ending;
                    return None;
                }
            }
            sleep(STREAM_RETRY.mul_f64(jitter())).await;
        }
    };
    timeout(LINK_TIMEOUT, trying).await.unwrap_or(None)
}

enum Trouble {
    /// Worth another try.
    Passing(Ending),
    /// Not.
    Final(Ending),
}

impl From<FrameError> for Trouble {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Broken(_) | FrameError::Later => Trouble::Passing(Ending::new(EndingKind::Broken, error.to_string())),
            _ => Trouble::Final(Ending::new(EndingKind::Fault, error.to_string())),
        }
    }
}

async fn open(control: &Control, peer: PeerId, network: &NetworkId) -> Result<Wire, Trouble> {
    let mut wire = bulk::open_stream(control.clone(), peer, PROTOCOL).await.map_err(|error| {
        let kind = if matches!(error, OpenError::Unsupported(_)) { EndingKind::Fault } else { EndingKind::Broken };
        let reason = match error {
            OpenError::Unsupported(_) => format!("{error}: it is of another version, or it may not know this node as a member"),
            _ => error.to_string(),
        };
        Trouble::Passing(Ending::new(kind, reason))
    })?;
    in_time(frame::write(&mut wire, Kind::Hello, network.as_bytes())).await?;
    let theirs = in_time(frame::read(&mut wire, Kind::Hello)).await?;
    same_network(&theirs, network)?;
    in_time(frame::write(&mut wire, Kind::Ready, &[])).await?;
    Ok(wire)
}

async fn accept(incoming: &mut mpsc::Receiver<Wire>, network: &NetworkId) -> Result<Wire, Trouble> {
    let Some(mut wire) = incoming.recv().await else {
        return Err(Trouble::Final(Ending::new(EndingKind::Broken, "the network of this node was restarted")));
    };
    let theirs = in_time(frame::read(&mut wire, Kind::Hello)).await?;
    if let Err(trouble) = same_network(&theirs, network) {
        let (mut reader, mut writer) = tokio::io::split(wire);
        say_bye(&mut writer, "this node is of another network", reader.read_u8()).await;
        return Err(trouble);
    }
    in_time(frame::write(&mut wire, Kind::Hello, network.as_bytes())).await?;
    in_time(frame::read(&mut wire, Kind::Ready)).await?;
    Ok(wire)
}

fn same_network(theirs: &[u8], ours: &NetworkId) -> Result<(), Trouble> {
    if theirs == ours.as_bytes() {
        return Ok(());
    }
    let named = <[u8; NetworkId::LEN]>::try_from(theirs).map(|id| NetworkId(id).to_string());
    let reason = format!("it is of another network, {}", named.as_deref().unwrap_or("unnamed"));
    Err(Trouble::Final(Ending::new(EndingKind::Fault, reason)))
}

async fn in_time<T, E: Into<FrameError>>(step: impl Future<Output = Result<T, E>>) -> Result<T, Trouble> {
    match timeout(STREAM_TIMEOUT, step).await {
        Ok(done) => done.map_err(|error| Trouble::from(error.into())),
        Err(_) => Err(Trouble::Passing(Ending::new(EndingKind::Fault, "it did not greet in time"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_network_is_named_in_the_reason() {
        let Err(Trouble::Final(ending)) = same_network(&[7; 32], &NetworkId([8; 32])) else { panic!("same") };
        assert!(ending.reason.contains(&NetworkId([7; 32]).to_string()) && ending.kind == EndingKind::Fault);
        assert!(same_network(&[8; 32], &NetworkId([8; 32])).is_ok() && same_network(&[], &NetworkId([8; 32])).is_err());
    }
}
