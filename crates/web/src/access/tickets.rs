//! What waits for a person's next step, such as the code after the password: held by the server,
//! named to the browser by a random ticket. Time is passed in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Token;

/// A ticket is good this long.
const VALID: Duration = Duration::from_secs(5 * 60);
/// A ticket is good for this many tries.
const TRIES_MAX: u32 = 5;
/// Most tickets at once; the oldest goes first.
const TICKETS_MAX: usize = 256;

/// Things that wait.
pub(crate) struct Tickets<T>(Mutex<HashMap<String, Waiting<T>>>);

struct Waiting<T> {
    thing: T,
    since: Instant,
    tries: u32,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Tickets<T> {
    /// Keeps a thing; answers its ticket.
    pub(crate) fn keep(&self, now: Instant, thing: T) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, waiting| now.saturating_duration_since(waiting.since) < VALID);
        if kept.len() >= TICKETS_MAX {
            let oldest = kept.iter().min_by_key(|(_, waiting)| waiting.since);
            if let Some(oldest) = oldest.map(|(ticket, _)| ticket.clone()) {
                kept.remove(&oldest);
            }
        }
        let ticket = Token::random().expose().to_owned();
        let waiting = Waiting {
            thing,
            since: now,
            tries: 0,
        };
        kept.insert(ticket.clone(), waiting);
        ticket
    }

    /// The thing of a ticket, for one try; none if the ticket is unknown, too old or used up.
    pub(crate) fn look(&self, now: Instant, ticket: &str) -> Option<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = kept.get_mut(ticket)?;
        waiting.tries += 1;
        let good =
            waiting.tries <= TRIES_MAX && now.saturating_duration_since(waiting.since) < VALID;
        if good {
            return Some(waiting.thing.clone());
        }
        kept.remove(ticket);
        None
    }

    /// Ends a ticket.
    pub(crate) fn forget(&self, ticket: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_ends_by_age_by_tries_and_by_use() {
        let tickets = Tickets::default();
        let start = Instant::now();
        let ticket = tickets.keep(start, "a");
        assert_eq!(tickets.look(start, &ticket), Some("a"));
        assert_eq!(tickets.look(start + VALID, &ticket), None);
        assert_eq!(tickets.look(start, &ticket), None, "gone for good");
        let ticket = tickets.keep(start, "b");
        for _ in 0..TRIES_MAX {
            assert_eq!(tickets.look(start, &ticket), Some("b"));
        }
        assert_eq!(tickets.look(start, &ticket), None);
        let ticket = tickets.keep(start, "c");
        tickets.forget(&ticket);
        assert_eq!(tickets.look(start, &ticket), None);
        assert_eq!(tickets.look(start, ""), None);
    }

    #[test]
    fn many_tickets_take_no_endless_memory() {
        let tickets = Tickets::default();
        let start = Instant::now();
        let first = tickets.keep(start, 0);
        for number in 1..1000 {
            tickets.keep(start + Duration::from_millis(number), number);
        }
        assert_eq!(tickets.look(start, &first), None);
        assert_eq!(tickets.0.lock().unwrap().len(), TICKETS_MAX);
    }
}
