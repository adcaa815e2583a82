//! One node on a disk that fails.

use keepwell_node::sim::one_node::{Case, Fault, Hands, run};
use keepwell_protocol::gc::permit::{Ground, Permit};

fn hands() -> Hands {
    Hands::honest(|blob| Permit::mint_for_test(blob, Ground::Purge))
}

#[test]
fn measure() {
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let bad = (0..n).filter_map(|seed| run(Case { check_each: true, ..Case::short(seed, Fault::None) }, &hands()).err());
    for f in bad.take(3) {
        println!("{f}");
    }
}

#[test]
fn sweep() {
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in std::env::var("F").ok().and_then(|n| n.parse().ok()).unwrap_or(0)..n {
        let t = std::time::Instant::now();
        let Ok(ran) = run(Case::short(seed, Fault::None), &hands()) else {
            println!("{seed} bad");
            continue;
        };
        for (name, make) in [
            ("crash", (|call| Fault::Crash { call, again: None }) as fn(u64) -> Fault),
            ("crash2", |call| Fault::Crash { call, again: Some(call * 7 % 61 + 1) }),
            ("io", |call| Fault::Io { call }),
            ("full", |call| Fault::Full { call }),
        ] {
            let bad: Vec<_> = (1..=ran.calls).filter_map(|call| run(Case::short(seed, make(call)), &hands()).err()).collect();
            println!("{seed} {name}: {} of {} bad", bad.len(), ran.calls);
            let mut kinds = std::collections::BTreeMap::new();
            for f in &bad {
                kinds.entry(f.violation.to_string().chars().take(40).collect::<String>()).or_insert(f);
            }
            for f in kinds.values() {
                println!("{}", f.to_string().lines().rev().take(4).collect::<Vec<_>>().join("\n"));
                println!("{:?} {}", f.case.fault, f.violation);
            }
        }
        println!("{seed}: {:?}", t.elapsed());
    }
}
