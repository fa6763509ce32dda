//! The JSON of the management API, defined once.
//!
//! The router of `api::management`, its OpenAPI document, the
//! [client](crate#features) and `svctok` read and write these types.
//!
//! 1. Requests are strict. A member given twice or broken syntax is 400, an unknown member or a
//!    member of the wrong type is 422 with a JSON pointer (RFC 6901), and a broken rule is 422 with
//!    all of them.
//! 2. Responses may gain members. A reader skips members that it does not know.
//! 3. Times are RFC 3339 in UTC. A member without a value is `null`.

#[cfg(any(feature = "api", feature = "client"))]
mod bulk;
mod field;
#[cfg(any(feature = "api", feature = "client"))]
mod filter;
#[cfg(any(feature = "api", feature = "client"))]
mod integer;
mod json;
mod new_token;
mod problem;
#[cfg(feature = "api")]
mod schema;
#[cfg(any(feature = "api", feature = "client"))]
mod secret;
mod token_info;
#[cfg(feature = "api")]
mod token_json;
mod token_request;

#[cfg(any(feature = "api", feature = "client"))]
pub(crate) use self::bulk::BulkRequest;
#[cfg(any(feature = "api", feature = "client"))]
pub use self::bulk::{BulkPreviewResponse, BulkRevocationResponse};
#[cfg(feature = "api")]
pub(crate) use self::field::FieldProblems;
#[cfg(any(feature = "api", feature = "client"))]
pub(crate) use self::filter::{Filter, ListResponse};
#[cfg(feature = "api")]
pub(crate) use self::integer::SaturatingInteger;
#[cfg(feature = "api")]
pub(crate) use self::json::{JsonError, from_members, from_slice};
pub(crate) use self::problem::{Problem, RequiredNames};
#[cfg(any(feature = "api", feature = "client"))]
pub(crate) use self::secret::{IssuedResponse, RotateRequest};
#[cfg(feature = "api")]
pub(crate) use self::secret::{ReplayedResponse, RotatedResponse};
pub use self::token_info::TokenInfo;
#[cfg(feature = "api")]
pub(crate) use self::token_info::time::serialize as rfc_3339_or_null;
#[cfg(feature = "api")]
pub(crate) use self::token_json::list_json;
#[cfg(feature = "client")]
pub(crate) use self::token_request::replaces_labels;
#[cfg(any(feature = "api", feature = "client"))]
pub(crate) use self::token_request::{CreateRequest, UpdateRequest};
