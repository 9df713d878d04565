//! Steps: the unit in which the work of automation is counted. The same input always takes the same number of steps.

use std::cell::Cell;

/// Bytes that one step copies, compares or searches.
pub const COPIED: usize = 64;
/// Bytes that one step reads character by character: escaping, JSON, upper case.
pub const READ: usize = 8;
/// Bytes that one step folds for a comparison without case.
pub const FOLDED: usize = 4;

/// Returns the steps for reading a text, of which one step reads `rate` bytes.
pub fn steps(bytes: usize, rate: usize) -> u64 {
    (bytes / rate) as u64
}

/// The steps that are left. One step is about as much work as a token of a template: a tenth of a microsecond.
#[derive(Debug)]
pub struct Steps(Cell<u64>);

/// No steps are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Steps {
    /// Starts with this number of steps.
    pub const fn new(limit: u64) -> Self {
        Self(Cell::new(limit))
    }

    /// Takes steps for work that is about to be done.
    ///
    /// # Errors
    /// [`Exhausted`] if fewer are left; then none are left from now on.
    pub fn spend(&self, steps: u64) -> Result<(), Exhausted> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or(Exhausted)
    }

    /// Returns the number of steps that are left.
    pub fn left(&self) -> u64 {
        self.0.get()
    }

    /// True if none are left.
    pub fn are_used_up(&self) -> bool {
        self.left() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_fit_uses_up_what_is_left() {
        let budget = Steps::new(10);
        assert_eq!(budget.spend(4), Ok(()));
        assert_eq!((budget.left(), budget.are_used_up()), (6, false));
        assert_eq!(budget.spend(7), Err(Exhausted));
        assert_eq!((budget.left(), budget.are_used_up()), (0, true));
        assert_eq!(budget.spend(0), Ok(()));
        assert_eq!(budget.spend(1), Err(Exhausted));
        assert_eq!([steps(0, READ), steps(7, READ), steps(8, READ), steps(1024, COPIED)], [0, 0, 1, 16]);
    }
}
