//! Creation and rotation: the only responses with a secret.

use std::time::Duration;
#[cfg(feature = "api")]
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

#[cfg(feature = "api")]
use super::schema;
use super::token_info::TokenInfo;
use crate::clock::duration::parse_duration;
use crate::lifecycle::FieldProblem;
use crate::token::PresentedToken;

/// The longest grace period that a client sends, in seconds: about 9,500 years, which servers of
/// earlier releases can parse.
const MAX_GRACE: u64 = 300_000_000_000;

/// The body of a rotation.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenRotateRequest))]
pub(crate) struct RotateRequest {
    /// How long the current secret stays valid: a duration in weeks, days or shorter units. The
    /// default is zero. A rotation with the token's previous secret ends the current one, which was
    /// lost, and keeps the previous one for at most the rest of its grace.
    #[cfg_attr(
        feature = "api",
        schema(pattern = "^(P[0-9]{1,3}[WD]|PT[0-9]{1,4}[HMS]|[0-9]{1,3}[wdhms])$")
    )]
    grace: Option<String>,
}

/// The response to a creation. A client reads a rotation with it as well.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenIssued))]
pub(crate) struct IssuedResponse {
    pub(crate) service_token: TokenInfo,
    /// The secret. It is shown once.
    #[serde(serialize_with = "expose", deserialize_with = "read")]
    #[cfg_attr(feature = "api", schema(required, value_type = String))]
    pub(crate) token: Option<PresentedToken<'static>>,
}

/// The response to a creation that repeats an earlier one.
#[cfg(feature = "api")]
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ServiceTokenReplayed)]
pub(crate) struct ReplayedResponse {
    pub(crate) service_token: TokenInfo,
    #[schema(schema_with = schema::no_secret)]
    pub(crate) token: (),
}

/// The response to a rotation.
#[cfg(feature = "api")]
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ServiceTokenRotated)]
pub(crate) struct RotatedResponse {
    /// When the previous secret stops working.
    #[serde(with = "super::token_info::time")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub(crate) grace_ends_at: Option<SystemTime>,
    pub(crate) service_token: TokenInfo,
    /// The secret. It is shown once.
    #[serde(serialize_with = "expose")]
    #[schema(required, value_type = String)]
    pub(crate) token: Option<PresentedToken<'static>>,
}

impl From<Duration> for RotateRequest {
    fn from(grace: Duration) -> Self {
        let grace = grace.min(Duration::from_secs(MAX_GRACE));
        let text = format!("PT{}.{:09}S", grace.as_secs(), grace.subsec_nanos());
        Self { grace: Some(text) }
    }
}

impl TryFrom<RotateRequest> for Duration {
    type Error = Vec<FieldProblem>;

    /// Returns the grace period. Days have 24 hours. A period that is out of range is a long one.
    fn try_from(request: RotateRequest) -> Result<Self, Vec<FieldProblem>> {
        let Some(grace) = request.grace else {
            return Ok(Self::ZERO);
        };
        let grace = parse_duration(&grace);
        grace.map_err(|error| vec![FieldProblem::new("/grace", error.to_string())])
    }
}

#[expect(clippy::ref_option, reason = "serde passes a field by reference")]
fn expose<S: Serializer>(
    secret: &Option<PresentedToken<'static>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let secret = secret.as_ref().map(PresentedToken::expose_secret);
    secret.serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PresentedToken<'static>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.map(Zeroizing::new);
    let token = |text: Zeroizing<String>| {
        let token = PresentedToken::new(&text).map(PresentedToken::into_owned);
        token.ok_or_else(|| de::Error::custom("not a token"))
    };
    text.map(token).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_grace_periods_to_the_nanosecond_and_within_the_range_of_spans() {
        let text = |grace: Duration| RotateRequest::from(grace).grace.expect("a grace period");
        assert_eq!(text(Duration::ZERO), "PT0.000000000S");
        assert_eq!(text(Duration::new(5_400, 7)), "PT5400.000000007S");
        let longest = parse_duration(&text(Duration::MAX));
        assert_eq!(longest, Ok(Duration::new(MAX_GRACE, 0)));
    }

    #[test]
    fn refused_grace_periods_have_one_text() {
        for text in ["", "soon", "1y", "-1h", "99999999999y", "-99999999999d"] {
            let request = RotateRequest {
                grace: Some(text.to_owned()),
            };
            let problems = Duration::try_from(request).expect_err(text);
            let detail = "not a duration of zero or more in weeks, days or shorter units, such as \
                          1h or PT1H";
            assert_eq!(problems, [FieldProblem::new("/grace", detail)], "{text}");
        }
    }
}
