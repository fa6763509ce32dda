use std::mem::offset_of;

use super::{Inner, TokenRecord};
use crate::digest::TokenDigest;
use crate::token::{DisplayId, TokenId};

/// The counters of an `Arc`, which are in front of the fields.
const COUNTERS: usize = 2 * size_of::<usize>();

#[test]
fn verdict_reads_one_cache_line() {
    assert_eq!(COUNTERS + offset_of!(Inner, id), 64);
    assert_eq!(size_of::<Inner>(), 120);
    // Most tokens have no subject, label, displayed id and data.
    let record = TokenRecord::new(TokenId::derive("key"), TokenDigest::of("token"));
    assert!(record.0.attributes.is_none());
}

#[test]
fn changes_of_a_clone_keep_the_displayed_id_and_the_data() {
    let id = DisplayId::new("key-1").expect("visible");
    let record = TokenRecord::new(TokenId::derive("key-1"), TokenDigest::of("token"))
        .with_display_id(id.clone())
        .with_data(7_u8);
    let changed = record.clone().with_name("ci").with_data(8_u8);
    assert_eq!((record.data(), changed.data()), (Some(&7_u8), Some(&8_u8)));
    assert_eq!(changed.display_id(), id);
    let cleared = changed.with_display_id(None);
    assert_eq!(cleared.display_id(), cleared.id().into());
}

#[test]
fn the_text_of_another_token_id_is_not_displayed() {
    let other: TokenId = "7Hq2mX9bTe".parse().expect("ten digits");
    let displayed = DisplayId::new("7Hq2mX9bTe").expect("visible");
    let record = |id| TokenRecord::new(id, TokenDigest::of("token"));
    let own = record(other).with_display_id(displayed.clone());
    assert_eq!(own.display_id(), displayed);
    let derived = TokenId::derive("7Hq2mX9bTe");
    let foreign = record(derived).with_display_id(displayed.clone());
    assert_eq!(foreign.display_id(), derived.into());
    // It does not keep an earlier one either: the store asked to replace it.
    let key = DisplayId::new("key-1").expect("visible");
    let replaced = record(derived)
        .with_display_id(key)
        .with_display_id(displayed);
    assert_eq!(replaced.display_id(), derived.into());
}
