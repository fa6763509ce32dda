use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::principal::Principal;
use crate::token::TokenId;

/// Who shares the lookups: all tokens of an owner together, or a token without an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tenant {
    Owner(Arc<str>),
    Token(TokenId),
}

impl Tenant {
    pub(super) fn of(principal: &Principal) -> Self {
        let owner = principal.owner();
        owner.map_or(Self::Token(principal.id()), |it| Self::Owner(it.into()))
    }
}

/// Items that wait for one of a few slots. Tenants take turns, whatever the number of their items, and
/// no tenant has all slots at a time.
pub(super) struct FairQueue<T> {
    slots: usize,
    running: usize,
    shares: HashMap<Tenant, Share<T>>,
    /// The tenants whose items wait, each once.
    turns: VecDeque<Tenant>,
}

struct Share<T> {
    running: usize,
    waiting: VecDeque<T>,
}

impl<T> FairQueue<T> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            running: 0,
            shares: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, tenant: &Tenant, item: T) {
        let share = self.shares.entry(tenant.clone()).or_insert_with(|| Share {
            running: 0,
            waiting: VecDeque::new(),
        });
        if share.waiting.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        share.waiting.push_back(item);
    }

    /// Returns the next item and its tenant, if there is a slot for it. It has the slot until
    /// [`finish`](Self::finish).
    pub(super) fn start(&mut self) -> Option<(Tenant, T)> {
        if self.running == self.slots {
            return None;
        }
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            let share = self.shares.get_mut(&tenant)?;
            // The last slot is for others.
            let has_slot = share.running + 1 < self.slots;
            let item = has_slot.then(|| share.waiting.pop_front()).flatten();
            if !share.waiting.is_empty() {
                self.turns.push_back(tenant.clone());
            }
            if let Some(item) = item {
                share.running += 1;
                self.running += 1;
                return Some((tenant, item));
            }
        }
        None
    }

    /// Frees the slot of an item of this tenant.
    pub(super) fn finish(&mut self, tenant: &Tenant) {
        let Some(share) = self.shares.get_mut(tenant) else {
            return;
        };
        self.running -= 1;
        share.running -= 1;
        if share.running == 0 && share.waiting.is_empty() {
            self.shares.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Tenant {
        Tenant::Owner(name.into())
    }

    fn start<T>(queue: &mut FairQueue<T>) -> Option<T> {
        queue.start().map(|(_, item)| item)
    }

    #[test]
    fn tenants_take_turns() {
        let mut queue = FairQueue::new(4);
        for number in 0..1000 {
            queue.push(&owner("many"), ("many", number));
        }
        queue.push(&owner("few"), ("few", 0));
        queue.push(&owner("few"), ("few", 1));
        let mut served = Vec::new();
        for _ in 0..6 {
            let (tenant, item) = queue.start().expect("a free slot");
            queue.finish(&tenant);
            served.push(item);
        }
        let many = |number| ("many", number);
        let expected = [many(0), ("few", 0), many(1), ("few", 1), many(2), many(3)];
        assert_eq!(served, expected);
        queue.push(&owner("late"), ("late", 0));
        assert_eq!(start(&mut queue), Some(many(4)));
        assert_eq!(start(&mut queue), Some(("late", 0)));
    }

    #[test]
    fn one_tenant_never_has_all_slots() {
        let mut queue = FairQueue::new(4);
        for number in 0..9 {
            queue.push(&owner("hangs"), number);
        }
        assert_eq!(
            [0; 4].map(|_| start(&mut queue)),
            [Some(0), Some(1), Some(2), None]
        );
        queue.push(&owner("other"), 100);
        queue.push(&owner("third"), 200);
        assert_eq!([start(&mut queue), start(&mut queue)], [Some(100), None]);
        queue.finish(&owner("other"));
        assert_eq!([start(&mut queue), start(&mut queue)], [Some(200), None]);
        queue.finish(&owner("hangs"));
        assert_eq!([start(&mut queue), start(&mut queue)], [Some(3), None]);
    }

    #[test]
    fn a_tenant_without_items_is_forgotten() {
        let mut queue = FairQueue::new(2);
        for name in ["a", "b", "c"] {
            queue.push(&owner(name), ());
            start(&mut queue).expect("a free slot");
            queue.finish(&owner(name));
        }
        assert!(queue.shares.is_empty() && queue.turns.is_empty());
        assert_eq!(queue.running, 0);
    }
}
