//! Documents that roll: a shard that is written to for ever.

use keepwell_node::engine::{Input, RefOp, RequestId};
use keepwell_protocol::catalog::item::Item;
use keepwell_protocol::limits::EPOCH_OPS;

use super::lab::{Lab, a_set};

/// Writes one ref so often in one request that its shard's document must roll.
fn write_often(lab: &mut Lab, machine: usize, times: u32) {
    let ops = (0..times).map(|number| RefOp::Set(a_set("lab/busy", &number.to_string(), &[]))).collect();
    lab.give(machine, Input::WriteRefs { request: RequestId(1), ops });
}

fn epoch(lab: &Lab, machine: usize) -> u32 {
    let snapshot = lab.machines[machine].engine().store().snapshot().unwrap();
    snapshot.latest_epoch(Item::reference("lab/busy").shard()).unwrap()
}

#[test]
fn a_document_rolls_at_epoch_ops_and_values_replace_each_other_across() {
    let mut lab = Lab::new(2);
    write_often(&mut lab, 0, EPOCH_OPS);
    assert_eq!(epoch(&lab, 0), 0);
    lab.set(0, "lab/busy", "next", &[]);
    lab.settle();
    assert_eq!((epoch(&lab, 0), epoch(&lab, 1)), (1, 1));
    assert_eq!(lab.values(1, "lab/busy"), ["next"]);
    lab.set(1, "lab/busy", "from the other", &[]);
    assert_eq!(lab.values(0, "lab/busy"), ["from the other"]);
}

#[test]
fn two_nodes_that_roll_at_once_while_parted_agree_afterwards() {
    let mut lab = Lab::new(2);
    write_often(&mut lab, 0, EPOCH_OPS - 1);
    lab.settle();
    lab.parted = vec![(0, 1)];
    write_often(&mut lab, 0, 3);
    write_often(&mut lab, 1, 4);
    lab.parted.clear();
    lab.connect_all();
    assert_eq!(lab.values(0, "lab/busy"), lab.values(1, "lab/busy"));
    assert_eq!(lab.values(0, "lab/busy").len(), 2);
    lab.set(1, "lab/busy", "settled", &[]);
    assert_eq!(lab.values(0, "lab/busy"), ["settled"]);
    for machine in &lab.machines {
        assert_eq!(machine.engine().compare_rebuild().unwrap(), Vec::<&str>::new());
    }
}
