use std::sync::Arc;

use super::super::activity::Activity;
use super::super::exchange::{
    BASE_COST, EndReason, Exchange, HEADER_COST, STALL_TIMEOUT, head_size,
};
use super::super::in_flight::{Evict, InFlight};

fn exchange() -> Arc<Exchange> {
    let in_flight = InFlight::with_limit(2 * BASE_COST, metrics::Gauge::noop());
    let activity = Arc::new(Activity::new(None));
    Exchange::begin(&in_flight, &activity, 0, true).unwrap()
}

#[tokio::test]
async fn does_not_evict_a_resumed_exchange() {
    let exchange = exchange();
    exchange.wait_for_body();
    exchange.resume_work().unwrap();
    exchange.evict();
    assert_eq!(exchange.end_reason(), None);
}

#[tokio::test]
async fn evicted_exchange_cannot_resume_or_respond() {
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
async fn unread_response_stalls_while_its_request_body_is_held() {
    let exchange = exchange();
    exchange.wait_for_body();
    exchange.begin_response(None).unwrap();
    // As if a task still held the request's body.
    exchange.wait_for_body();
    exchange.start_sending();
    exchange.resume_work().unwrap();
    tokio::time::advance(STALL_TIMEOUT).await;
    exchange.evict_if_stalled();
    assert_eq!(exchange.end_reason(), Some(EndReason::Stalled));
}

#[test]
fn head_size_counts_target_and_headers() {
    let request = http::Request::get("http://a/bc").header("x-d", "ef");
    let (head, ()) = request.body(()).unwrap().into_parts();
    assert_eq!(head_size(&head), 1 + 3 + HEADER_COST + 3 + 2);
}
