//! Answering for a copy (R4): yes only if everything holds at once, and nothing weaker ever stands in for it.

use super::attempt::Attempts;
use super::question::{Purpose, Why, Word};
use crate::id::BlobFact;

/// How the node that is asked stands to the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether the asker is a member, as far as is known here.
    pub asker_is_member: bool,
    /// Why this node says yes to nobody now, if so: it has just started, was rolled back, drains, or may not write.
    pub refuses: Option<Why>,
    /// Whether what is *persisted* here includes what the asker had applied when it flagged the blobs.
    pub includes_asker: bool,
}

/// What the node that is asked has of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// What is recorded of it: durable and counted. Neither trash nor what is only linked.
    pub recorded: Option<BlobFact>,
    /// Whether its bytes passed the check that was made for this question.
    pub is_whole: bool,
    /// Whether a ref reaches it in what is persisted here.
    pub is_live: bool,
    /// Whether this node keeps it rather than the asker: see `place::rank`.
    pub keeps_rather: bool,
}

/// The word on `asked`. Saying yes to somebody who keeps it less than we do ends an attempt of our own on it (R10).
pub fn answer(asked: &BlobFact, purpose: Purpose, standing: &Standing, copy: &Copy, attempts: &mut Attempts) -> Word {
    if let Some(why) = refusal(asked, standing, copy) {
        return Word::No(why);
    }
    if !attempts.is_flagged(&asked.sha1) {
        return Word::Yes;
    }
    if purpose == Purpose::Drop && copy.keeps_rather {
        attempts.end(&asked.sha1);
        return Word::Yes;
    }
    Word::No(Why::Dropping)
}

fn refusal(asked: &BlobFact, standing: &Standing, copy: &Copy) -> Option<Why> {
    if !standing.asker_is_member {
        return Some(Why::NotAMember);
    }
    match copy.recorded {
        _ if standing.refuses.is_some() => standing.refuses,
        None => Some(Why::NotHeld),
        Some(recorded) if recorded != *asked => Some(Why::OtherBytes),
        Some(_) if !copy.is_whole => Some(Why::Damaged),
        Some(_) if !standing.includes_asker => Some(Why::Behind),
        Some(_) if !copy.is_live => Some(Why::NotLive),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{B3, BlobId, BootId, Nonce};

    const BLOB: BlobFact = BlobFact { sha1: BlobId([1; 20]), b3: B3([1; 32]), size_bytes: 1 };
    const STANDING: Standing = Standing { asker_is_member: true, refuses: None, includes_asker: true };
    const COPY: Copy = Copy { recorded: Some(BLOB), is_whole: true, is_live: true, keeps_rather: false };

    fn word(purpose: Purpose, standing: Standing, copy: Copy, attempts: &mut Attempts) -> Word {
        answer(&BLOB, purpose, &standing, &copy, attempts)
    }

    fn flagged() -> Attempts {
        let mut attempts = Attempts::default();
        attempts.flag(Nonce([1; 16]), BootId([1; 16]), [(BLOB, 0)]);
        attempts
    }

    #[test]
    fn yes_only_if_everything_holds() {
        let mut none = Attempts::default();
        assert_eq!(word(Purpose::Drop, STANDING, COPY, &mut none), Word::Yes);
        let other = BlobFact { b3: B3([9; 32]), ..BLOB };
        for (standing, copy, why) in [
            (Standing { asker_is_member: false, ..STANDING }, COPY, Why::NotAMember),
            (Standing { refuses: Some(Why::Draining), ..STANDING }, COPY, Why::Draining),
            (Standing { includes_asker: false, ..STANDING }, COPY, Why::Behind),
            (STANDING, Copy { recorded: None, ..COPY }, Why::NotHeld),
            (STANDING, Copy { recorded: Some(other), ..COPY }, Why::OtherBytes),
            (STANDING, Copy { is_whole: false, ..COPY }, Why::Damaged),
            (STANDING, Copy { is_live: false, ..COPY }, Why::NotLive),
        ] {
            for purpose in [Purpose::Drop, Purpose::Confirm] {
                assert_eq!(word(purpose, standing, copy, &mut none), Word::No(why));
            }
        }
    }

    #[test]
    fn what_is_being_given_up_is_not_vouched_for() {
        let mut attempts = flagged();
        assert_eq!(word(Purpose::Drop, STANDING, COPY, &mut attempts), Word::No(Why::Dropping));
        let keeps = Copy { keeps_rather: true, ..COPY };
        assert_eq!(word(Purpose::Confirm, STANDING, keeps, &mut attempts), Word::No(Why::Dropping));
        assert!(attempts.is_flagged(&BLOB.sha1));
    }

    #[test]
    fn whoever_keeps_it_rather_ends_its_own_attempt_and_vouches_if_it_can() {
        let keeps = Copy { keeps_rather: true, ..COPY };
        let mut attempts = flagged();
        let behind = Standing { includes_asker: false, ..STANDING };
        assert_eq!(word(Purpose::Drop, behind, keeps, &mut attempts), Word::No(Why::Behind));
        assert!(attempts.is_flagged(&BLOB.sha1), "a no ends nothing");
        assert_eq!(word(Purpose::Drop, STANDING, keeps, &mut attempts), Word::Yes);
        assert!(!attempts.is_flagged(&BLOB.sha1));
    }
}
