//! One node on a disk that fails.

use keepwell_node::sim::one_node::{Case, Fault, Hands, run};
use keepwell_protocol::gc::permit::{Ground, Permit};

fn hands() -> Hands {
    Hands::honest(|blob| Permit::mint_for_test(blob, Ground::Purge))
}

#[test]
fn measure() {
    for seed in 0..6 {
        let t = std::time::Instant::now();
        match run(Case { check_each: false, ..Case::short(seed, Fault::None) }, &hands()) {
            Ok(ran) => println!("{seed}: {ran:?} {:?}", t.elapsed()),
            Err(f) => println!("{f}"),
        }
        match run(Case { check_each: true, ..Case::short(seed, Fault::None) }, &hands()) {
            Ok(ran) => println!("{seed}: {ran:?} {:?}", t.elapsed()),
            Err(f) => println!("{f}"),
        }
    }
}
