//! Fair queueing: deficit round robin (Shreedhar and Varghese, 1995) by cost.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items of several flows, taken out so that flows which all have work get equal cost over time.
///
/// A flow that comes late waits for at most one round: a quantum of each flow that has work. A flow
/// that is alone gets everything.
#[derive(Debug)]
pub(crate) struct FairQueue<K, T> {
    flows: HashMap<K, Flow<T>>,
    /// The flows that have items, in the order of their turns.
    turns: VecDeque<K>,
    quantum: u64,
}

#[derive(Debug)]
struct Flow<T> {
    items: VecDeque<(u64, T)>,
    /// Cost that it may still use in its turn.
    deficit: u64,
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue. `quantum` is the cost that a flow may use per round, at least 1.
    pub(crate) fn new(quantum: u64) -> Self {
        Self {
            flows: HashMap::new(),
            turns: VecDeque::new(),
            quantum: quantum.max(1),
        }
    }

    /// True if no item waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds an item to the end of its flow.
    pub(crate) fn push(&mut self, flow: K, cost: u64, item: T) {
        let (turns, quantum) = (&mut self.turns, self.quantum);
        let flow = self.flows.entry(flow).or_insert_with_key(|&key| {
            turns.push_back(key);
            Flow {
                items: VecDeque::new(),
                deficit: quantum,
            }
        });
        flow.items.push_back((cost, item));
    }

    /// The next item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        loop {
            let key = *self.turns.front()?;
            let flow = self.flows.get_mut(&key)?;
            let cost = flow.items.front().map_or(0, |(cost, _)| *cost);
            if cost > flow.deficit {
                flow.deficit += self.quantum;
                self.turns.rotate_left(1);
                continue;
            }
            flow.deficit -= cost;
            let item = flow.items.pop_front();
            if flow.items.is_empty() {
                // What it did not use is lost: an idle flow saves nothing up.
                self.flows.remove(&key);
                self.turns.pop_front();
            }
            return item.map(|(_, item)| item);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const QUANTUM: u64 = 100;

    #[test]
    fn a_latecomer_waits_for_one_quantum_of_a_greedy_flow_not_for_its_queue() {
        let mut queue = FairQueue::new(QUANTUM);
        for number in 0..1000 {
            queue.push("greedy", 50, number);
        }
        queue.push("late", 10, 5000);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).take(4).collect();
        assert_eq!(order, [0, 1, 5000, 2]);
    }

    #[test]
    fn a_flow_alone_gets_everything_in_order_whatever_it_costs() {
        let mut queue = FairQueue::new(QUANTUM);
        for number in 0..10 {
            queue.push((), number * 1000, number);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
        assert!(queue.flows.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn sixty_four_small_flows_are_served_between_any_two_turns_of_a_greedy_one() {
        let mut queue = FairQueue::new(QUANTUM);
        for _ in 0..64 {
            queue.push(0, QUANTUM, 0);
        }
        for flow in 1..=64 {
            queue.push(flow, 10, flow);
        }
        // Each small flow asks again as soon as it is served.
        let mut since_greedy = Vec::new();
        for _ in 0..10 * 65 {
            let flow = queue.pop().unwrap();
            if flow == 0 {
                queue.push(0, QUANTUM, 0);
                since_greedy.clear();
            } else {
                assert!(!since_greedy.contains(&flow) || since_greedy.len() >= 64);
                since_greedy.push(flow);
                queue.push(flow, 10, flow);
            }
        }
    }

    proptest! {
        /// Flows that always have work get the same cost but for one quantum and one item, from any
        /// moment to any other.
        #[test]
        fn busy_flows_get_equal_cost(costs in vec(vec(1u64..400, 1..8), 2..6)) {
            let mut queue = FairQueue::new(QUANTUM);
            let mut served = vec![0u64; costs.len()];
            let mut next = vec![0usize; costs.len()];
            let push = |queue: &mut FairQueue<usize, (usize, u64)>, next: &mut Vec<usize>, flow: usize| {
                let cost = costs[flow][next[flow] % costs[flow].len()];
                next[flow] += 1;
                queue.push(flow, cost, (flow, cost));
            };
            for flow in 0..costs.len() {
                // Two, so that no flow ever runs empty.
                push(&mut queue, &mut next, flow);
                push(&mut queue, &mut next, flow);
            }
            let mut mark = served.clone();
            for step in 0..2000 {
                let (flow, cost) = queue.pop().unwrap();
                served[flow] += cost;
                push(&mut queue, &mut next, flow);
                if step == 777 {
                    mark.clone_from(&served);
                }
            }
            let got: Vec<u64> = served.iter().zip(&mark).map(|(now, then)| now - then).collect();
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            prop_assert!(most - least <= 2 * (QUANTUM + 400), "{got:?}");
        }

        /// Nothing is lost or made up, and each flow's items stay in order.
        #[test]
        fn every_item_comes_out_once_and_in_its_flows_order(
            items in vec((0u8..5, 0u64..1000), 0..300),
        ) {
            let mut queue = FairQueue::new(QUANTUM);
            for (number, &(flow, cost)) in items.iter().enumerate() {
                queue.push(flow, cost, (flow, number));
            }
            let out: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(out.len(), items.len());
            for flow in 0..5 {
                let numbers: Vec<_> = out.iter().filter(|(of, _)| *of == flow).collect();
                prop_assert!(numbers.is_sorted());
            }
        }
    }
}
