use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const PER_SECOND: u32 = 4_000;
const MAX_RUNNING: NonZeroUsize = NonZeroUsize::new(32).unwrap();
const LIMITS: QueueLimits = QueueLimits {
    total: 4_000,
    per_client: 2_000,
};

fn v4(number: u32) -> Client {
    Client::Network(Ipv4Addr::from(number).into())
}

/// Lookups by number, with a manual clock.
struct Simulation {
    admission: AdmissionQueue<u64>,
    now: Duration,
    names: u64,
    arrived: HashMap<u64, Duration>,
    /// The time that each admitted lookup waited.
    waited: HashMap<u64, Duration>,
    refused: Vec<u64>,
    granted: u64,
    /// The duration of each lookup, and the ends of the running ones.
    latency: Duration,
    ends: VecDeque<Duration>,
}

impl Simulation {
    /// Creates a simulation whose lookups end immediately.
    fn new() -> Self {
        Self::with_latency(Duration::ZERO)
    }

    fn with_latency(latency: Duration) -> Self {
        let per_second = NonZeroU32::new(PER_SECOND).unwrap();
        Self {
            admission: AdmissionQueue::new(per_second, MAX_RUNNING, LIMITS),
            now: Duration::from_secs(1_000),
            names: 0,
            arrived: HashMap::new(),
            waited: HashMap::new(),
            refused: Vec::new(),
            granted: 0,
            latency,
            ends: VecDeque::new(),
        }
    }

    fn arrive(&mut self, client: Client, class: Class) -> u64 {
        let name = self.names;
        self.names += 1;
        self.arrived.insert(name, self.now);
        match self
            .admission
            .admit_or_enqueue(client, class, self.now, || name)
        {
            Decision::Admitted => self.admitted(name),
            Decision::Queued { evicted, .. } => self.refused.extend(evicted),
            Decision::Full => self.refused.push(name),
        }
        assert!(self.admission.waiting() <= LIMITS.total);
        name
    }

    fn admitted(&mut self, name: u64) {
        self.granted += 1;
        self.waited
            .insert(name, self.now.saturating_sub(self.arrived[&name]));
        self.ends.push_back(self.now + self.latency);
        assert!(self.admission.running() <= MAX_RUNNING.get());
        self.end_lookups();
    }

    fn end_lookups(&mut self) {
        while self.ends.front().is_some_and(|end| *end <= self.now) {
            self.ends.pop_front();
            self.admission.release();
        }
    }

    fn tick(&mut self) {
        self.now += MILLISECOND;
        self.end_lookups();
        while let Ok(Some(name)) = self.admission.grant(self.now) {
            self.admitted(name);
        }
    }

    /// Returns the longest wait of these lookups, all of which must have been admitted.
    fn longest_wait(&self, names: &[u64]) -> Duration {
        let waits = names.iter().map(|name| self.waited.get(name));
        let waits = waits.map(|wait| *wait.expect("a lookup that was admitted"));
        waits.max().unwrap_or_default()
    }
}

/// Runs `attack` each millisecond for three seconds, and returns the lookups of 100 newcomers.
fn newcomers_during(
    simulation: &mut Simulation,
    class: Class,
    mut attack: impl FnMut(&mut Simulation, u32),
) -> Vec<u64> {
    let mut newcomers = Vec::new();
    let before = simulation.granted;
    for millisecond in 0..3_000 {
        attack(simulation, millisecond);
        if millisecond % 30 == 0 {
            // Each in a network of its own.
            let newcomer = v4(0xc000_0000 + ((millisecond / 30) << 16));
            newcomers.push(simulation.arrive(newcomer, class));
        }
        simulation.tick();
    }
    let granted = simulation.granted - before;
    assert!(granted <= 3 * u64::from(PER_SECOND) + 400, "{granted}");
    assert!(granted >= 3 * u64::from(PER_SECOND) - 100, "{granted}");
    for _ in 0..1_000 {
        simulation.tick();
    }
    newcomers
}

#[test]
fn flood_from_one_address_does_not_delay_others() {
    for (class, attacker) in [
        (Class::InBudget, Class::OverBudget),
        (Class::OverBudget, Class::OverBudget),
        (Class::InBudget, Class::InBudget),
    ] {
        let mut simulation = Simulation::new();
        let newcomers = newcomers_during(&mut simulation, class, |simulation, _| {
            for _ in 0..20 {
                simulation.arrive(v4(1), attacker);
            }
        });
        let longest = simulation.longest_wait(&newcomers);
        assert!(longest <= 3 * MILLISECOND, "{longest:?}");
    }
}

#[test]
fn rate_below_the_limit_does_not_delay_clients_of_the_same_address() {
    let mut simulation = Simulation::new();
    let mut good = Vec::new();
    for millisecond in 0..3_000 {
        for _ in 0..3 {
            simulation.arrive(v4(1), Class::OverBudget);
        }
        if millisecond % 30 == 0 {
            good.push(simulation.arrive(v4(1), Class::OverBudget));
        }
        simulation.tick();
    }
    let longest = simulation.longest_wait(&good);
    assert!(longest <= 3 * MILLISECOND, "{longest:?}");
    assert!(simulation.refused.is_empty());
}

#[test]
fn flood_from_many_subnets_does_not_delay_other_networks() {
    for class in [Class::InBudget, Class::OverBudget] {
        let mut simulation = Simulation::new();
        let newcomers = newcomers_during(&mut simulation, class, |simulation, millisecond| {
            for number in 0..20_u16 {
                let site = u16::try_from(millisecond).unwrap();
                let client = Client::Network([0x2001, 0xdb8, site, number, 0, 0, 0, 0].into());
                simulation.arrive(client, class);
            }
        });
        let longest = simulation.longest_wait(&newcomers);
        assert!(longest <= 3 * MILLISECOND, "{longest:?}");
    }
}

#[test]
fn flood_from_a_thousand_networks_delays_newcomers_by_less_than_a_second() {
    let mut simulation = Simulation::new();
    let newcomers = newcomers_during(&mut simulation, Class::InBudget, |simulation, at| {
        for number in 0..20 {
            let network = (at * 20 + number) % 1_000;
            simulation.arrive(v4(0x0a00_0000 + (network << 16)), Class::InBudget);
        }
    });
    let longest = simulation.longest_wait(&newcomers);
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn clients_over_budget_get_a_quarter_of_lookups() {
    let mut simulation = Simulation::new();
    let mut over = Vec::new();
    for millisecond in 0..3_000 {
        for number in 0..20 {
            let network = (millisecond * 20 + number) % 100;
            simulation.arrive(v4(network << 16), Class::InBudget);
        }
        if millisecond % 2 == 0 {
            over.push(simulation.arrive(v4(0xc0a8_0001), Class::OverBudget));
        }
        simulation.tick();
    }
    let longest = simulation.longest_wait(&over);
    assert!(longest <= 5 * MILLISECOND, "{longest:?}");
}

#[test]
fn one_client_cannot_fill_the_queue() {
    let mut simulation = Simulation::new();
    for _ in 0..3_000 {
        simulation.arrive(v4(1), Class::OverBudget);
    }
    assert_eq!(simulation.granted, 400);
    assert_eq!(simulation.admission.waiting(), LIMITS.per_client);
    assert_eq!(simulation.refused.len(), 3_000 - 400 - LIMITS.per_client);
}

#[test]
fn full_queue_evicts_from_the_client_with_the_most_entries() {
    let mut simulation = Simulation::new();
    for address in 1..=5 {
        for _ in 0..2_000 {
            simulation.arrive(v4(address << 16), Class::OverBudget);
        }
    }
    assert_eq!(simulation.admission.waiting(), LIMITS.total);
    let refused = simulation.refused.len();
    let newcomer = simulation.arrive(v4(0xc0a8_0001), Class::OverBudget);
    assert_eq!(simulation.refused.len(), refused + 1);
    assert!(!simulation.refused.contains(&newcomer));
    for _ in 0..3 {
        simulation.tick();
    }
    assert!(simulation.waited.contains_key(&newcomer));
}

#[test]
fn canceled_lookups_leave_the_queue() {
    let mut admission = AdmissionQueue::new(NonZeroU32::MIN, MAX_RUNNING, LIMITS);
    let now = Duration::from_secs(1);
    let mut arrive = |name| admission.admit_or_enqueue(v4(1), Class::OverBudget, now, || name);
    assert_eq!(arrive(0), Decision::Admitted);
    let Decision::Queued { position, .. } = arrive(1) else {
        panic!("one per second");
    };
    assert!(matches!(arrive(2), Decision::Queued { .. }));
    admission.cancel(position);
    admission.cancel(position);
    assert_eq!(admission.waiting(), 1);
    let wait = Wait::For(Duration::from_secs(1));
    assert_eq!(admission.grant(now), Err(wait));
    assert_eq!(admission.grant(now + Duration::from_secs(1)), Ok(Some(2)));
    assert_eq!(admission.grant(now + Duration::from_secs(1)), Ok(None));
}

#[test]
fn slow_store_under_flood_does_not_delay_other_addresses() {
    // 32 at a time that take 16 ms are 2,000 per second.
    let mut simulation = Simulation::with_latency(16 * MILLISECOND);
    let mut others = Vec::new();
    for millisecond in 0..3_000 {
        for _ in 0..3 {
            simulation.arrive(v4(1), Class::OverBudget);
        }
        if millisecond % 30 == 0 {
            let other = v4(0xc000_0000 + ((millisecond / 30) << 16));
            others.push(simulation.arrive(other, Class::OverBudget));
        }
        simulation.tick();
    }
    let longest = simulation.longest_wait(&others);
    assert!(longest <= 17 * MILLISECOND, "{longest:?}");
    assert!(simulation.granted >= 5_800, "{}", simulation.granted);
    assert!(!simulation.refused.is_empty());
}

#[test]
fn grants_the_next_lookup_when_one_ends() {
    let per_second = NonZeroU32::new(PER_SECOND).unwrap();
    let mut admission = AdmissionQueue::new(per_second, NonZeroUsize::MIN, LIMITS);
    let now = Duration::from_secs(1);
    let mut arrive = |name| admission.admit_or_enqueue(v4(1), Class::InBudget, now, || name);
    assert_eq!(arrive(0), Decision::Admitted);
    for name in 1..3 {
        assert!(matches!(arrive(name), Decision::Queued { .. }));
    }
    let later = now + Duration::from_secs(9);
    assert_eq!(admission.grant(later), Err(Wait::UntilRelease));
    admission.release();
    assert_eq!(admission.grant(later), Ok(Some(1)));
    assert_eq!(admission.grant(later), Err(Wait::UntilRelease));
    admission.release();
    assert_eq!(admission.grant(later), Ok(Some(2)));
    admission.release();
    assert_eq!((admission.grant(later), admission.running()), (Ok(None), 0));
}
