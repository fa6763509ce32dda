use std::sync::Arc;

use super::activity::Activity;
use super::exchange::{COST, EndReason, Exchange, HEADER_COST, STALL_TIMEOUT, head_size};
use super::in_flight::{Evict, InFlight};

fn exchange() -> Arc<Exchange> {
    let in_flight = InFlight::with_limit(2 * COST, metrics::Gauge::noop());
    let activity = Arc::new(Activity::new());
    Exchange::begin(&in_flight, &activity, None, 0, true).unwrap()
}

#[tokio::test]
async fn does_not_evict_what_the_service_works_on_again() {
    let exchange = exchange();
    exchange.wait_for_body();
    exchange.resume_work().unwrap();
    exchange.evict();
    assert_eq!(exchange.has_ended(), None);
}

#[tokio::test]
async fn an_evicted_exchange_is_not_worked_on_or_answered() {
    let exchange = exchange();
    exchange.wait_for_body();
    exchange.evict();
    assert_eq!(exchange.resume_work(), Err(EndReason::Overload));
    assert_eq!(
        exchange.begin_response(None).err(),
        Some(EndReason::Overload)
    );
}

#[tokio::test(start_paused = true)]
async fn an_unread_response_stalls_although_its_request_is_kept() {
    let exchange = exchange();
    exchange.wait_for_body();
    exchange.begin_response(None).unwrap();
    // As if a task still held the request's body.
    exchange.wait_for_body();
    exchange.start_sending();
    exchange.resume_work().unwrap();
    tokio::time::advance(STALL_TIMEOUT).await;
    exchange.evict_if_stalled();
    assert_eq!(exchange.has_ended(), Some(EndReason::Stalled));
}

#[test]
fn counts_the_target_and_the_headers_of_a_head() {
    let request = http::Request::get("http://a/bc").header("x-d", "ef");
    let (head, ()) = request.body(()).unwrap().into_parts();
    assert_eq!(head_size(&head), 1 + 3 + HEADER_COST + 3 + 2);
}
