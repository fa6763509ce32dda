use super::*;
use crate::reject::Realm;

#[test]
fn prepared_challenges_equal_those_of_another_realm() {
    let mut other = Challenges::DEFAULT;
    other.set_schemes(true, true);
    let default = other.clone();
    other.set_realm(Realm::new("other").expect("a realm"));
    let id = "7Hq2mX9bTe".parse().ok();
    let reasons = [
        RejectionReason::MissingToken,
        RejectionReason::UnknownToken,
        RejectionReason::ExpiredToken,
        RejectionReason::RevokedToken,
    ];
    for (reason, token_id) in reasons.into_iter().zip([None, None, id, id]) {
        let rejection = Rejection::new(reason).with_token_id(token_id);
        let values = |challenges| {
            let response = rejection
                .clone()
                .with_challenges(challenges)
                .to_response(());
            let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let values = values.map(|value| value.to_str().expect("ASCII").to_owned());
            values.collect::<Vec<_>>()
        };
        let expected: Vec<_> = values(&other)
            .iter()
            .map(|value| value.replace("\"other\"", "\"api\""))
            .collect();
        assert_eq!(expected.len(), 2);
        for _ in 0..2 {
            assert_eq!(values(&default), expected);
        }
    }
}

#[test]
fn store_errors_convert_with_their_time_to_retry_and_source() {
    let seconds = Duration::from_secs;
    let unavailable = StoreError::unavailable("refused").with_retry_after(seconds(3));
    for (error, reason, retry_after, source) in [
        (
            unavailable,
            RejectionReason::StoreUnavailable,
            seconds(3),
            "the token store is unavailable",
        ),
        (
            StoreError::rate_limited(seconds(7)),
            RejectionReason::RateLimited,
            seconds(7),
            "the token store rejects further requests",
        ),
        (
            StoreError::corrupt("a row"),
            RejectionReason::CorruptRecord,
            Duration::ZERO,
            "the token store has a corrupt record",
        ),
    ] {
        let rejection = Rejection::from(error);
        assert_eq!(rejection.reason(), reason);
        assert_eq!(rejection.retry_after(), Some(retry_after), "{reason:?}");
        assert_eq!(rejection.source().expect("a cause").to_string(), source);
    }
}
