//! Exploring a model: all of it, where it must hold; until the first fault, where it must not.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Visits every state that `model` can reach. None may break what always holds, and what sometimes happens must have happened in one,
/// or the model would show nothing. How many states there are.
pub(crate) fn holds<M>(what: &str, model: M) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => panic!("{what}: never reached: {}", property.name),
            (Expectation::Always, Some(path)) => {
                let fault = tell(path.into_vec());
                panic!("{what}: broken: {}\n{fault}", property.name);
            }
            _ => {}
        }
    }
    assert!(checker.is_done(), "{what}: not all states were visited");
    println!("{what}: holds in all of {} states", checker.unique_state_count());
    checker.unique_state_count()
}

/// Searches for a state that breaks what always holds, and prints how it comes about. In how many steps.
pub(crate) fn violated<M>(what: &str, model: M) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    // One thread visits the states in the order of their distance, so that the story found is a shortest one, and always the same.
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let always = checker.model().properties().into_iter().filter(|property| property.expectation == Expectation::Always);
    let Some(path) = always.into_iter().find_map(|property| checker.discovery(property.name)) else {
        panic!("{what}: no fault in any of {} states", checker.unique_state_count());
    };
    let steps = path.into_vec();
    let count = steps.len() - 1;
    println!("{what}: broken in {count} steps, found among {} states\n{}", checker.unique_state_count(), tell(steps));
    count
}

/// The story of a fault: what happens, step by step, and how the world is then.
fn tell<S: Debug, A: Debug>(steps: Vec<(S, Option<A>)>) -> String {
    let mut told = String::new();
    for (number, (state, action)) in steps.into_iter().enumerate() {
        match action {
            Some(action) => told += &format!("  {:>2}. {action:?}\n", number + 1),
            None => told += &format!("      {state:?}\n"),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use stateright::Property;

    use super::*;

    /// Two counters below `limit`, either of which may grow.
    struct Counters {
        limit: u8,
        forbidden: (u8, u8),
        awaited: (u8, u8),
    }

    impl Model for Counters {
        type State = (u8, u8);
        type Action = bool;
        fn init_states(&self) -> Vec<(u8, u8)> {
            vec![(0, 0)]
        }
        fn actions(&self, _: &(u8, u8), actions: &mut Vec<bool>) {
            actions.extend([false, true]);
        }
        fn next_state(&self, (one, two): &(u8, u8), first: bool) -> Option<(u8, u8)> {
            let next = if first { (one + 1, *two) } else { (*one, two + 1) };
            (next.0 < self.limit && next.1 < self.limit).then_some(next)
        }
        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always("is allowed", |model: &Counters, state| *state != model.forbidden),
                Property::sometimes("is there", |model: &Counters, state| *state == model.awaited),
            ]
        }
    }

    #[test]
    fn every_state_is_visited() {
        assert_eq!(holds("counters", Counters { limit: 200, forbidden: (200, 200), awaited: (7, 7) }), 200 * 200);
    }

    #[test]
    fn a_fault_is_found_by_a_shortest_way() {
        assert_eq!(violated("counters", Counters { limit: 50, forbidden: (3, 4), awaited: (0, 0) }), 7);
    }

    #[test]
    #[should_panic(expected = "broken: is allowed")]
    fn a_fault_in_the_last_state_is_found() {
        holds("counters", Counters { limit: 50, forbidden: (49, 49), awaited: (7, 7) });
    }

    #[test]
    #[should_panic(expected = "never reached: is there")]
    fn what_never_happens_is_told() {
        holds("counters", Counters { limit: 50, forbidden: (50, 50), awaited: (50, 0) });
    }

    #[test]
    #[should_panic(expected = "no fault in any of 2500 states")]
    fn where_there_is_no_fault_none_is_found() {
        violated("counters", Counters { limit: 50, forbidden: (50, 50), awaited: (7, 7) });
    }
}
