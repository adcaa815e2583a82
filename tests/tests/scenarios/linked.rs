//! A link that is written leads to blobs which may be garbage to everybody else by then: whoever writes it holds them all (R7).

use keepwell_node::engine::{Collect, Input, PutBlob, PutOutcome, Reply, RequestId, Stored};
use keepwell_protocol::id::BlobFact;

use super::lab::Lab;

const REQUEST: RequestId = RequestId(9);

/// Three machines. Machine 0 has a parent that a ref names, and a child that machine 1 linked to a grandchild, which machine 1 alone has
/// and nothing needs.
struct Family {
    lab: Lab,
    parent: BlobFact,
    child: BlobFact,
    grandchild: BlobFact,
}

impl Family {
    fn new() -> Family {
        let mut lab = Lab::new(3);
        let grandchild = lab.put(1, b"grandchild", &[]);
        let child = lab.put(1, b"child", &[grandchild.sha1]);
        let parent = lab.put(0, b"parent", &[]);
        lab.set(0, "lab/x", "1", &[parent.sha1]);
        lab.put(0, b"child", &[]);
        lab.settle();
        Family { lab, parent, child, grandchild }
    }

    /// Links the parent to the child on machine 0.
    fn link(&mut self) -> PutOutcome {
        let blobs = vec![PutBlob { blob: Stored::Known(self.parent), children: vec![self.child.sha1] }];
        let mut replies = self.lab.give(0, Input::Put { request: REQUEST, blobs, lease: None });
        match replies.pop() {
            Some(Reply::Put(mut outcomes)) => outcomes.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Machine 1, which hears nothing of it, purges what nothing needs, for good; then all meet.
    fn purge_and_meet(&mut self) {
        let how = Collect { grace_ms: Some(0), limit: 9 };
        self.lab.give(1, Input::Collect { request: REQUEST, how });
        assert!(!self.lab.holds(1, &self.grandchild.sha1));
        self.lab.machines[1].engine().store().empty_trash(u64::MAX, 9).unwrap();
        self.lab.parted.clear();
        self.lab.connect_all();
        self.lab.settle();
    }

    fn part(&mut self) {
        self.lab.parted.extend([(0, 1), (0, 2)]);
    }

    fn is_live(&self) -> bool {
        let snapshot = self.lab.machines[0].engine().store().snapshot().unwrap();
        snapshot.is_live(&self.grandchild.sha1).unwrap()
    }
}

#[test]
fn what_a_new_link_leads_to_is_held_by_whoever_writes_it_although_others_purge_it_at_that_moment() {
    let mut family = Family::new();
    family.part();
    let refused = PutOutcome::Missing { sha1: family.parent.sha1, children: vec![family.grandchild.sha1] };
    assert_eq!(family.link(), refused, "the child is here, and what it links to is not");
    family.purge_and_meet();
    assert!(!family.is_live(), "no ref reaches what nobody has");

    let mut family = Family::new();
    family.lab.bring(0, vec![family.grandchild.sha1]);
    family.lab.settle();
    family.part();
    assert!(matches!(family.link(), PutOutcome::Held { existed: true, .. }));
    family.purge_and_meet();
    assert!(family.is_live() && family.lab.holds(0, &family.grandchild.sha1));
}

#[test]
fn links_in_a_circle_need_nothing_that_is_being_put() {
    let mut lab = Lab::new(1);
    let first = lab.put(0, b"first", &[]);
    let second = lab.put(0, b"second", &[first.sha1]);
    let blobs = vec![PutBlob { blob: Stored::Known(first), children: vec![second.sha1] }];
    lab.give(0, Input::Put { request: REQUEST, blobs, lease: None });
    let how = Collect { grace_ms: Some(0), limit: 9 };
    lab.give(0, Input::Collect { request: REQUEST, how });
    assert!(!lab.holds(0, &first.sha1) && !lab.holds(0, &second.sha1), "its links are known when its bytes are not");
    lab.put(0, b"second", &[]);
    assert!(lab.holds(0, &second.sha1));
    lab.put(0, b"first", &[second.sha1]);
    assert!(lab.holds(0, &first.sha1), "what it leads to is itself");
}
