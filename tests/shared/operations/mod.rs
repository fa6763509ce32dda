//! Tests of the operations of `ServiceTokens`, which run on any empty registry.
//!
//! Each test uses a manual clock, and checks how an operation affects requests through the layer.

mod actors;
mod fixture;
mod idempotency;
mod lists;
mod revocation;
mod rotation;
mod updates;
mod validation;
mod workflows;

pub use self::actors::{
    audits_every_change_with_actor_and_without_secret, rejects_escalation_by_every_operation,
};
pub use self::fixture::Store;
pub use self::idempotency::{
    concurrent_creations_with_one_key_create_one_token,
    idempotency_key_identifies_one_token_per_actor, repeated_creation_creates_no_second_token,
};
pub use self::lists::{
    lists_filtered_pages_in_creation_order,
    paging_a_filter_skips_no_token_when_listed_ones_leave_it,
    paging_under_change_lists_each_remaining_token_once,
};
pub use self::revocation::{
    bulk_revocation_requires_expected_count_of_matching_tokens,
    disabling_and_revoking_apply_to_both_secrets,
    purge_deletes_tokens_that_ended_before_the_cutoff, revocation_is_final_and_idempotent,
};
pub use self::rotation::{
    grace_period_is_capped_at_expiry_and_rotation_does_not_extend_it,
    key_of_a_replaced_secret_is_not_a_replay, overflowing_grace_period_is_capped,
    rotation_caps_expiry_at_new_max_lifetime,
    rotation_keeps_id_and_accepts_old_secret_until_grace_period_ends,
    rotation_without_grace_rejects_old_secret_at_once, second_rotation_ends_first_grace_period,
};
pub use self::updates::{
    rejects_update_at_stale_revision, update_changes_expiry_in_both_directions,
    update_sets_and_clears_only_named_fields,
};
pub use self::validation::{
    policy_lifetimes_apply_to_every_operation, reports_every_invalid_field_and_creates_nothing,
    unique_names_and_max_tokens_apply_to_every_operation,
};
pub use self::workflows::{
    accepts_imported_token_and_rotates_it_to_own_format, creates_lists_and_deletes_a_token,
    creates_lists_gets_updates_and_revokes_a_token, reports_unknown_tokens_as_not_found,
};

/// Passes the name of each test to a macro.
#[macro_export]
macro_rules! every_test {
    ($then:ident) => {
        $then! {
            creates_lists_and_deletes_a_token,
            creates_lists_gets_updates_and_revokes_a_token,
            update_sets_and_clears_only_named_fields,
            update_changes_expiry_in_both_directions,
            rejects_update_at_stale_revision,
            rotation_keeps_id_and_accepts_old_secret_until_grace_period_ends,
            rotation_without_grace_rejects_old_secret_at_once,
            grace_period_is_capped_at_expiry_and_rotation_does_not_extend_it,
            overflowing_grace_period_is_capped,
            second_rotation_ends_first_grace_period,
            disabling_and_revoking_apply_to_both_secrets,
            revocation_is_final_and_idempotent,
            reports_unknown_tokens_as_not_found,
            accepts_imported_token_and_rotates_it_to_own_format,
            bulk_revocation_requires_expected_count_of_matching_tokens,
            purge_deletes_tokens_that_ended_before_the_cutoff,
            reports_every_invalid_field_and_creates_nothing,
            policy_lifetimes_apply_to_every_operation,
            rotation_caps_expiry_at_new_max_lifetime,
            unique_names_and_max_tokens_apply_to_every_operation,
            rejects_escalation_by_every_operation,
            audits_every_change_with_actor_and_without_secret,
            lists_filtered_pages_in_creation_order,
            paging_under_change_lists_each_remaining_token_once,
            paging_a_filter_skips_no_token_when_listed_ones_leave_it,
            repeated_creation_creates_no_second_token,
            idempotency_key_identifies_one_token_per_actor,
            concurrent_creations_with_one_key_create_one_token,
            key_of_a_replaced_secret_is_not_a_replay,
        }
    };
}

pub use crate::every_test;
