use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What `read` answers is tested against a model of the contract, in `tests/middleware/credential_sources.rs`.
    #[test]
    fn marking_does_not_change_what_is_read_and_marks_only_credential_headers(
        lines in vec((
            select(vec!["authorization", "x-api-key", "accept", "x-other"]),
            select(vec!["ApiKey a-token", "a-token", "another", "Basic Zm9v", "", "two words"]),
        ), 0..5),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let text = |token: Option<PresentedToken<'_>>| {
            token.map(|token| token.expose_secret().to_owned())
        };
        let sources = CredentialSources::default();
        let read = sources.read(&headers).map(text);
        prop_assert_eq!(sources.read_and_mark_sensitive(&mut headers).map(text), read);
        for (name, value) in &headers {
            let is_ours = *name == AUTHORIZATION || *name == X_API_KEY;
            prop_assert_eq!(value.is_sensitive(), is_ours, "{}", name);
        }
    }
}
