use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For how long a store uses fewer connections after the server had no slot for another one.
const WITHHELD_TIME: Duration = Duration::from_secs(10);

/// How many connections a store uses at a time: its limit, or for a while as many as the server has
/// slots for.
///
/// Operations beyond that wait here for a connection to be returned. In sqlx's pool they would wait
/// for the server instead, and not notice the connections that become idle.
pub(super) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Slots, whether or not they are in use.
    slots: usize,
    /// Slots in use beyond the limit.
    excess: usize,
    withheld: usize,
    withheld_at: Instant,
    /// Slots with a connection.
    connected: usize,
}

/// Permission to use one connection.
pub(super) struct Slot {
    limit: Arc<ConnectionLimit>,
    permit: Option<OwnedSemaphorePermit>,
    is_connected: bool,
}

impl ConnectionLimit {
    pub(super) fn new(max_connections: u32) -> Self {
        let limit = Self {
            permits: Arc::new(Semaphore::new(0)),
            inner: Mutex::new(Inner {
                slots: 0,
                excess: 0,
                withheld: 0,
                withheld_at: Instant::now(),
                connected: 0,
            }),
        };
        limit.set_max(max_connections);
        limit
    }

    /// Changes the limit, which is at least 1.
    pub(super) fn set_max(&self, max_connections: u32) {
        let max = usize::try_from(max_connections).unwrap_or(usize::MAX);
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let mut inner = self.inner();
        inner.withheld = 0;
        if let Some(excess) = inner.slots.checked_sub(max) {
            inner.excess += excess - self.permits.forget_permits(excess);
        } else {
            let more = max - inner.slots;
            let kept = more.min(inner.excess);
            inner.excess -= kept;
            self.permits.add_permits(more - kept);
        }
        inner.slots = max;
    }

    /// Waits for a slot.
    pub(super) async fn acquire(self: &Arc<Self>) -> Slot {
        self.restore();
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        Slot {
            limit: Arc::clone(self),
            permit: Some(permit.expect("the semaphore is never closed")),
            is_connected: false,
        }
    }

    /// Returns whether a connection is in use, which will be returned.
    pub(super) fn is_in_use(&self) -> bool {
        self.inner().connected > 0
    }

    /// Restores the slots that were withheld for long enough.
    fn restore(&self) {
        let mut inner = self.inner();
        if inner.withheld > 0 && inner.withheld_at.elapsed() > WITHHELD_TIME {
            let withheld = std::mem::take(&mut inner.withheld);
            inner.slots += withheld;
            self.permits.add_permits(withheld);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Counts the slot as one with a connection.
    pub(super) fn connect(mut self) -> Self {
        self.limit.inner().connected += 1;
        self.is_connected = true;
        self
    }

    /// Takes the slot out of use for a while, unless it is the last one. Returns whether it did.
    pub(super) fn withhold(self) -> bool {
        let mut inner = self.limit.inner();
        if inner.slots == 1 {
            return false;
        }
        inner.slots -= 1;
        inner.excess += 1;
        inner.withheld += 1;
        inner.withheld_at = Instant::now();
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut inner = self.limit.inner();
        if self.is_connected {
            inner.connected -= 1;
        }
        if inner.excess > 0 {
            inner.excess -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn acquire(limit: &Arc<ConnectionLimit>) -> Option<Slot> {
        limit.acquire().now_or_never()
    }

    #[test]
    fn withheld_slots_are_out_of_use_except_for_the_last() {
        let limit = Arc::new(ConnectionLimit::new(3));
        let used = acquire(&limit).expect("one of three").connect();
        assert!(limit.is_in_use());
        assert!(acquire(&limit).expect("one of three").withhold());
        let second = acquire(&limit).expect("one of two");
        assert!(acquire(&limit).is_none(), "two of two are in use");
        assert!(second.withhold());
        assert!(acquire(&limit).is_none(), "one of one is in use");
        drop(used);
        assert!(!limit.is_in_use());
        assert!(!acquire(&limit).expect("the last one").withhold());
        assert!(acquire(&limit).is_some());
    }

    #[test]
    fn limit_changes_apply_to_slots_in_use() {
        let limit = Arc::new(ConnectionLimit::new(3));
        let [first, second, third] = [(); 3].map(|()| acquire(&limit).expect("one of three"));
        limit.set_max(1);
        drop((first, second));
        assert!(acquire(&limit).is_none(), "one of one is in use");
        limit.set_max(2);
        let fourth = acquire(&limit).expect("one of two");
        assert!(acquire(&limit).is_none(), "two of two are in use");
        limit.set_max(1);
        limit.set_max(2);
        assert!(acquire(&limit).is_none(), "two of two are in use");
        drop((third, fourth));
        let _both = [(); 2].map(|()| acquire(&limit).expect("one of two"));
        assert!(acquire(&limit).is_none());
        limit.set_max(0);
        assert!(acquire(&limit).is_none(), "zero is one");
    }
}
