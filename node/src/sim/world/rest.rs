//! The end of a world's activity: nobody is dead any more, and what was written at the very end is heard of.

use super::{Violation, World};

/// For so many seconds more a world may go on whose nodes have not all heard what one of them has just written by itself.
const LAST_WORDS_S: usize = 5;

impl World {
    /// The quiet time. Who is declared dead deletes nothing, and in the end no garbage may be left.
    pub(super) fn rest(&mut self, from_ms: u64) -> Result<(), Violation> {
        self.make_peace()?;
        self.revive_all()?;
        self.go_on_until(from_ms + self.plan.quiet_ms / 2)?;
        // The admin may have been down, and a branch of a fork that was heard since may have said it anew.
        self.revive_all()?;
        self.go_on_until(from_ms + self.plan.quiet_ms)
    }

    /// Lets what a node wrote by itself in the last moment arrive.
    pub(super) fn let_last_words_arrive(&mut self) -> Result<(), Violation> {
        for _ in 0..LAST_WORDS_S {
            if self.all_have_heard_the_same()? {
                break;
            }
            self.go_on_until(self.now_ms + 1_000)?;
        }
        Ok(())
    }

    fn all_have_heard_the_same(&self) -> Result<bool, Violation> {
        let mut vectors = Vec::new();
        for engine in self.honest().filter_map(|(_, node)| node.engine()) {
            let vector = engine.store().snapshot().and_then(|snapshot| snapshot.vector());
            vectors.push(vector.map_err(|error| self.violation(error.to_string()))?);
        }
        Ok(vectors.windows(2).all(|pair| pair[0] == pair[1]))
    }
}
