//! Killed processes and crashed servers: what was acknowledged is there, all of it, and of what was
//! not either all or nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::node::Process;
use crate::orders::{Orders, Role};
use crate::place::Place;
use crate::postgres::{Postgres, Stop};

const KILLS: usize = 15;
const CRASHES: usize = 5;

fn orders(place: &Place) -> Orders {
    Orders::new(Role::Mutator, &place.store("mutator"))
}

fn random(below: u32) -> u32 {
    getrandom::u32().unwrap() % below
}

/// Follows the mutator for some changes and a moment more, so that it ends in the midst of any.
async fn follow(mutator: &mut Process, ledger: &mut Ledger) {
    let enough = ledger.acknowledged + 1 + random(60) as usize;
    while ledger.acknowledged < enough {
        let line = mutator.line().await;
        let line = line.unwrap_or_else(|| panic!("given up: {:?}", ledger.errors));
        ledger.note(&line);
    }
    let moment = Duration::from_micros(random(8000).into());
    tokio::time::sleep(moment).await;
}

/// What was said before the end.
async fn hear_out(mutator: &mut Process, ledger: &mut Ledger) {
    while let Some(line) = mutator.line().await {
        ledger.note(&line);
    }
}

pub(crate) async fn what_a_killed_process_was_told_is_there_and_nothing_half_done(place: Place) {
    let mut ledger = Ledger::default();
    // Makes the tables, so that no round ends in the midst of that.
    drop(place.open().await);
    let tables = place.tables().await;
    for _ in 0..KILLS {
        let mut mutator = Process::spawn(&orders(&place));
        follow(&mut mutator, &mut ledger).await;
        mutator.kill().await;
        hear_out(&mut mutator, &mut ledger).await;
        tables.settle("mutator").await;
        ledger.check(&place).await;
    }
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    place.report(&format!("killed {KILLS} times: {}", ledger.show()));
}

pub(crate) async fn what_was_acknowledged_before_the_server_crashed_is_there(place: Place) {
    let mut ledger = Ledger::default();
    for _ in 0..CRASHES {
        // It gives up that long after the crash.
        let orders = orders(&place).with_deadline(Duration::from_secs(5));
        let mut mutator = Process::spawn(&orders);
        follow(&mut mutator, &mut ledger).await;
        let crash = {
            let server = Arc::clone(place.server());
            tokio::task::spawn_blocking(move || server.stop(Stop::Immediate))
        };
        hear_out(&mut mutator, &mut ledger).await;
        crash.await.unwrap();
        let server = Arc::clone(place.server());
        let start = tokio::task::spawn_blocking(move || Postgres::start(&server));
        start.await.unwrap();
        ledger.check(&place).await;
    }
    place.report(&format!("crashed {CRASHES} times: {}", ledger.show()));
}
