//! Names on both sides of the border: node ids and peer ids, addresses and multiaddresses.

use keepwell_protocol::id::NodeId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::NetError;

/// The multihash code under which a peer id holds its public key itself.
const IDENTITY_HASH: u64 = 0;

/// The transport's key pair of a seed: the node's own, so that its peer id is its node id.
pub(super) fn keypair(mut seed: [u8; 32]) -> Result<Keypair, NetError> {
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed).map_err(|error| NetError::Start(error.to_string()))?;
    Ok(ed25519::Keypair::from(secret).into())
}

/// The peer id of a node; none if the id is no ed25519 key.
pub(super) fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node behind a peer id; none if its key is of another kind.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    let key = (hash.code() == IDENTITY_HASH).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok())??;
    Some(NodeId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// Reads an address that this node could dial, with the node that it names, if it names one.
pub(super) fn parse_address(text: &str) -> Result<(Multiaddr, Option<NodeId>), NetError> {
    let refused = |reason: &str| NetError::BadAddress { address: text.chars().take(200).collect(), reason: reason.to_owned() };
    let mut address: Multiaddr = text.parse().map_err(|error: libp2p::multiaddr::Error| refused(&error.to_string()))?;
    let mut node = None;
    if let Some(Protocol::P2p(peer)) = address.iter().last() {
        node = Some(node_id(&peer).ok_or_else(|| refused("its peer has no ed25519 key"))?);
        address.pop();
    }
    if !is_dialable(&address) {
        return Err(refused("expected /ip4/ADDRESS/tcp/PORT, /ip6/… or /dns/…"));
    }
    Ok((address, node))
}

/// Whether an address is a host and a TCP port, and nothing else.
pub(super) fn is_dialable(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    matches!(
        parts.as_slice(),
        [Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_), Protocol::Tcp(_)]
    )
}

/// The host of an address, without the port: strangers change their ports.
pub(super) fn host(address: &Multiaddr) -> String {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.to_string(),
        Some(Protocol::Ip6(ip)) => ip.to_string(),
        _ => address.to_string(),
    }
}

/// Whether an address means the machine that uses it.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// What to dial for an address: itself, or what its name stands for at the moment. The transport knows no names.
pub(super) async fn resolve(address: Multiaddr) -> Vec<Multiaddr> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let (name, port) = match parts.as_slice() {
        [Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name), Protocol::Tcp(port)] => (name.to_string(), *port),
        _ => return vec![address],
    };
    let wants_v4 = !matches!(parts.first(), Some(Protocol::Dns6(_)));
    let wants_v6 = !matches!(parts.first(), Some(Protocol::Dns4(_)));
    let Ok(found) = tokio::net::lookup_host((name, port)).await else { return Vec::new() };
    let wanted = found.filter(|at| if at.is_ipv4() { wants_v4 } else { wants_v6 });
    wanted.map(|at| Multiaddr::from(at.ip()).with(Protocol::Tcp(port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seed: u8) -> NodeId {
        node_id(&keypair([seed; 32]).unwrap().public().to_peer_id()).unwrap()
    }

    #[test]
    fn a_node_and_its_peer_are_one_key() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        assert_eq!(node(7), NodeId(key.verifying_key().to_bytes()));
        assert_eq!(node_id(&peer_id(&node(7)).unwrap()), Some(node(7)));
        assert_eq!(node_id(&PeerId::from_bytes(&[0x12, 0x20].into_iter().chain([1; 32]).collect::<Vec<u8>>()).unwrap()), None);
    }

    #[test]
    fn an_address_is_a_host_and_a_tcp_port_and_may_name_its_node() {
        let (address, none) = parse_address("/ip4/10.0.0.1/tcp/4077").unwrap();
        assert_eq!((address.to_string().as_str(), none), ("/ip4/10.0.0.1/tcp/4077", None));
        let named = format!("/dns/ada.lab/tcp/4077/p2p/{}", peer_id(&node(3)).unwrap());
        assert_eq!(parse_address(&named).unwrap().1, Some(node(3)));
        for bad in ["", "10.0.0.1:4077", "/ip4/10.0.0.1", "/ip4/10.0.0.1/udp/4077/quic-v1", "/ip4/10.0.0.1/tcp/4077/ws"] {
            assert!(matches!(parse_address(bad), Err(NetError::BadAddress { .. })), "{bad}");
        }
    }

    #[test]
    fn strangers_are_told_apart_by_host() {
        let at = |text: &str| text.parse::<Multiaddr>().unwrap();
        assert_eq!(host(&at("/ip4/10.0.0.1/tcp/4077")), host(&at("/ip4/10.0.0.1/tcp/999")));
        assert!(is_loopback(&at("/ip6/::1/tcp/1")) && !is_loopback(&at("/ip4/10.0.0.1/tcp/4077")));
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_an_address_stays() {
        let plain: Multiaddr = "/ip4/10.0.0.1/tcp/4077".parse().unwrap();
        assert_eq!(resolve(plain.clone()).await, [plain]);
        let local = resolve("/dns4/localhost/tcp/4077".parse().unwrap()).await;
        assert!(local.iter().all(|at| at.to_string() == "/ip4/127.0.0.1/tcp/4077"), "{local:?}");
    }
}
