//! Tickets: what a new machine is told so that it can join, and what it and its inviter say to each other.
//!
//! A ticket is one line of text. Whoever holds it may join, once; it travels by any way that people trust. The secret in it is shown
//! only to the inviter, over a connection that proves the inviter's key.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use data_encoding::BASE32_NOPAD_NOCASE;

use crate::catalog::member::NodeBody;
use crate::id::{NetworkId, NodeId};
use crate::limits::{MAX_TICKET_ADDRESSES, MAX_TICKET_BYTES};
use crate::name::NetworkName;
use crate::wire;

/// What every ticket begins with, so that people and programs know one when they see it.
const PREFIX: &str = "keepwell1";

/// An invitation.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ticket {
    /// Into which network.
    pub network: NetworkId,
    /// What its members call it.
    pub network_name: NetworkName,
    /// Who invites.
    pub inviter: NodeId,
    /// Where the inviter listens.
    pub addresses: Vec<String>,
    /// What proves the invitation.
    pub secret: [u8; 16],
    /// When it lapses, by the inviter's clock, in Unix milliseconds.
    pub expires_ms: u64,
}

/// A ticket is a secret: it does not show in logs.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket(into {} by {})", self.network, self.inviter)
    }
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It begins with something else.
    #[error("not a ticket: a ticket begins with `{PREFIX}`")]
    NotATicket,
    /// It was cut or changed on its way.
    #[error("the ticket is damaged: copy all of it, in one piece")]
    Damaged,
    /// It names more addresses than any node has.
    #[error("the ticket names {count} addresses; the limit is {MAX_TICKET_ADDRESSES}")]
    TooManyAddresses {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = wire::encode(self);
        let sum = checksum(&body);
        let text = BASE32_NOPAD_NOCASE.encode(&[&body[..], &sum].concat()).to_lowercase();
        write!(f, "{PREFIX}{text}")
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        if text.len() > MAX_TICKET_BYTES {
            return Err(TicketError::Damaged);
        }
        let bytes = BASE32_NOPAD_NOCASE.decode(encoded.as_bytes()).map_err(|_| TicketError::Damaged)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(TicketError::Damaged)?;
        if checksum(body) != *sum {
            return Err(TicketError::Damaged);
        }
        let ticket: Ticket = wire::decode(body).map_err(|_| TicketError::Damaged)?;
        match ticket.addresses.len() {
            count if count > MAX_TICKET_ADDRESSES => Err(TicketError::TooManyAddresses { count }),
            _ => Ok(ticket),
        }
    }
}

/// What a new machine asks of its inviter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinRequest {
    /// Of which network.
    pub network: NetworkId,
    /// The ticket's secret.
    pub secret: [u8; 16],
    /// How it wants to be recorded. The inviter decides about the role.
    pub body: NodeBody,
}

/// What the inviter answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JoinReply {
    /// It is a member, durably.
    Welcome,
    /// It is not, for this reason.
    Refused(JoinRefusal),
}

/// Why a machine may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum JoinRefusal {
    /// No ticket with this secret was ever given, or it was forged.
    #[error("the ticket is not one of this node's")]
    Unknown,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// Another machine has joined by it.
    #[error("the ticket has been used")]
    Used,
    /// It is for another network.
    #[error("the ticket is for another network")]
    OtherNetwork,
    /// The inviter cannot write at the moment.
    #[error("the inviting node cannot take members in right now")]
    NotNow,
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(body);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            network: NetworkId([1; 32]),
            network_name: NetworkName::parse("lab").unwrap(),
            inviter: NodeId([2; 32]),
            addresses: vec!["/ip4/127.0.0.1/tcp/4077".into()],
            secret: [3; 16],
            expires_ms: 1_800_000_000_000,
        }
    }

    #[test]
    fn a_ticket_survives_being_copied_in_any_case_with_blanks_around() {
        let text = ticket().to_string();
        assert_eq!(text.parse(), Ok(ticket()));
        let shouted = text.replace(PREFIX, "").to_uppercase();
        assert_eq!(format!("  {PREFIX}{shouted}\n").parse(), Ok(ticket()));
    }

    #[test]
    fn a_ticket_with_any_letter_changed_or_lost_is_damaged() {
        let text = ticket().to_string();
        for at in PREFIX.len()..text.len() {
            let other = if &text[at..=at] == "a" { "b" } else { "a" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(changed.parse::<Ticket>(), Err(TicketError::Damaged), "letter {at}");
            assert_eq!(text[..at].parse::<Ticket>(), Err(TicketError::Damaged), "cut at {at}");
        }
        assert_eq!("sha1://".parse::<Ticket>(), Err(TicketError::NotATicket));
    }

    #[test]
    fn a_ticket_is_bounded_at_max_ticket_addresses_and_max_ticket_bytes() {
        let with = |count: usize| Ticket { addresses: vec!["/ip4/1.1.1.1/tcp/1".into(); count], ..ticket() }.to_string();
        assert!(with(MAX_TICKET_ADDRESSES).parse::<Ticket>().is_ok());
        assert!(matches!(with(MAX_TICKET_ADDRESSES + 1).parse::<Ticket>(), Err(TicketError::TooManyAddresses { .. })));
        let long = format!("{PREFIX}{}", "a".repeat(MAX_TICKET_BYTES + 1 - PREFIX.len()));
        assert_eq!(long.parse::<Ticket>(), Err(TicketError::Damaged));
    }

    #[test]
    fn a_ticket_does_not_show_its_secret_when_it_is_logged() {
        assert!(!format!("{:?}", ticket()).contains("3, 3"));
    }
}
