//! Memory that peers may fill with their data: of one client, and of all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on memory, shared by the connections of one client, and by all of them through the one above.
///
/// Bytes are counted from the moment in which a peer is allowed to send them until their command is done with.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
    /// The budget of everybody, and what this one gets of it however many others there are.
    shared: Option<(Arc<Budget>, usize)>,
}

/// Bytes taken from a budget; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
            shared: None,
        }
    }

    /// A budget of `limit` bytes within another one, of which it gets `assured` bytes even if others have used it up.
    pub fn within(shared: Arc<Self>, limit: usize, assured: usize) -> Self {
        Self {
            shared: Some((shared, assured)),
            ..Self::new(limit)
        }
    }

    /// Bytes taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True if no more should be taken by those who have something.
    pub fn is_full(&self) -> bool {
        let used = self.used();
        used >= self.limit
            || self
                .shared
                .as_ref()
                .is_some_and(|(shared, assured)| used >= *assured && shared.is_full())
    }

    fn try_take(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = used <= self.limit
            && match &self.shared {
                None => true,
                Some((shared, assured)) if used <= *assured => {
                    shared.used.fetch_add(bytes, Ordering::Relaxed);
                    true
                }
                Some((shared, _)) => shared.try_take(bytes),
            };
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some((shared, _)) = &self.shared {
            shared.take(bytes);
        }
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some((shared, _)) = &self.shared {
            shared.give(bytes);
        }
    }
}

impl Charge {
    /// Nothing yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The budget that it is taken from.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes more, if the budget has it.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let fits = self.budget.try_take(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Takes or gives back as many as are missing to `bytes`, even if the budget does not have them: for what is in
    /// memory already.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.budget.give(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_takes_is_missing_for_its_others_until_it_is_given_back() {
        let budget = Arc::new(Budget::new(100));
        let mut one = Charge::new(Arc::clone(&budget));
        let mut two = Charge::new(Arc::clone(&budget));
        assert!(one.try_grow(60) && !two.try_grow(41) && two.try_grow(40));
        assert!(budget.is_full());
        drop(one);
        assert_eq!(budget.used(), 40);
        assert!(two.try_grow(60));
        two.set(250);
        assert_eq!(budget.used(), 250);
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn nobody_is_kept_out_by_others() {
        let all = Arc::new(Budget::new(100));
        let client = || Arc::new(Budget::within(Arc::clone(&all), 80, 10));
        let (greedy, modest) = (client(), client());
        let mut much = Charge::new(Arc::clone(&greedy));
        assert!(much.try_grow(80) && !much.try_grow(1));
        let mut third = Charge::new(client());
        assert!(third.try_grow(20) && !third.try_grow(1));
        let mut little = Charge::new(Arc::clone(&modest));
        assert!(!modest.is_full() && little.try_grow(10) && !little.try_grow(1));
        assert!(modest.is_full() && greedy.is_full());
        assert_eq!(all.used(), 110);
        drop((much, third));
        assert!(!modest.is_full() && little.try_grow(70) && !little.try_grow(1));
        drop(little);
        assert_eq!((all.used(), modest.used(), greedy.used()), (0, 0, 0));
    }
}
