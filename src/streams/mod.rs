//! WebSocket and Server-Sent Events: tickets that open a stream, and streams that end with their
//! token.
//!
//! A browser cannot set headers on a `WebSocket` or an `EventSource`, so it cannot present a service
//! token. It fetches a ticket with its token and opens the stream with that:
//!
//! 1. A handler behind [`ServiceTokenLayer`](crate::ServiceTokenLayer) [issues](Tickets::issue) a
//!    ticket for its [`Principal`](crate::Principal). A ticket is valid for 30 s and for one request.
//! 2. A [`TicketLayer`] around the routes of the streams accepts it as `?ticket=…` or as one of the
//!    protocols in `Sec-WebSocket-Protocol`. No other route accepts tickets, and no route accepts a
//!    token there.
//! 3. The layer removes the ticket from the request. The inner service sees neither the parameter nor
//!    the protocol, so its logs and its response do not contain them. A ticket anywhere else in the URL
//!    or in the protocols is rejected with 400: under another name, in the path, or in a source that is
//!    switched off.
//! 4. The token behind the ticket is looked up again, bypassing any cache. The ticket is rejected unless
//!    the token is still accepted with the secret and the rights it was issued for. The new record is in
//!    the `Principal` of the stream.
//! 5. A [`PrincipalWatcher`] ends the stream when the token is revoked, expires, is disabled, deleted,
//!    rotated beyond its grace period, or gets other rights.
//!
//! A ticket that is unknown, expired or used gets the same response: 401 with the code
//! `invalid_ticket`. So does one whose token got other rights. If the token is revoked, disabled or
//! expired, the response is that for the [token](crate::reject). A ticket that cannot be read, occurs
//! twice, or comes with a token is rejected with 400.
//!
//! The rights are the roles, scopes, subject, owner and labels of the token. The
//! [data](crate::store::TokenRecord::with_data) of your own store is none: see [`RightsDigest`].
//!
//! # Several nodes
//!
//! | store | a ticket is accepted by | used once |
//! |---|---|---|
//! | [`MemoryTicketStore`] | the process that issued it | yes |
//! | `SqlStore::ticket_store` (`SqliteStore`, `PostgresStore`) | every process on the database | yes |
//!
//! Tickets are not signed: a signature alone lets each node accept the same ticket once, and only a
//! shared store prevents that. A [store](TicketStore) of your own needs an atomic removal, such as
//! `GETDEL` of Redis.
//!
//! Stores keep the SHA-256 of a ticket. The number of unused tickets is [limited](TicketLimits), by
//! default to 16 for each token, 1,000 for each owner and 10,000 in total; beyond that
//! [`Tickets::issue`] returns 429. The number of open streams is [limited](StreamLimits), too, by default
//! to 1,000 for each token, 10,000 for each owner and 100,000 in total; beyond that
//! [`PrincipalWatcher::watch`] returns 429.
//!
//! An [owner](crate::store::TokenRecord::with_owner) is what these limits and the turns of a
//! [watcher](PrincipalWatcher#tenants) count as a tenant. Set it for the tokens of each tenant.
//!
//! # In the browser
//!
//! ```js
//! const ticket = async () => (await (await fetch("/ticket", { method: "POST", headers })).json()).ticket;
//! const events = new EventSource(`/events?ticket=${await ticket()}`);
//! const socket = new WebSocket("/socket", ["chat.v1", await ticket()]);
//! ```
//!
//! - `EventSource` connects again by itself, with the same ticket, which is used. Close it in `onerror`
//!   and open another with a new ticket. The code in the [guide](crate::guide::streams) does, until the
//!   token is rejected.
//! - A WebSocket client must offer a protocol of the application beside the ticket, and the application
//!   must select it, because browsers fail a connection whose response selects none.
//!
//! # Where a ticket may be seen
//!
//! A reverse proxy and a layer outside of [`TicketLayer`] see the ticket of a query in the URL. They log
//! a ticket that is used, or that expires within 30 s. [`without_query`](TicketLayer::without_query)
//! avoids that for WebSocket. axum's `OriginalUri` has the original query, with the ticket that is used:
//! log `uri()` instead.
//! The URL of a stream is no page, so no `Referer` has it; send `Referrer-Policy: no-referrer` if a page
//! can be opened with a ticket.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_service_token::lifecycle::NewToken;
//! use tower_service_token::streams::{MemoryTicketStore, TicketLayer, Tickets};
//! use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let issued = ServiceTokens::new(store.clone()).create(NewToken::new("dashboard")).await?;
//! let tickets = Tickets::new(MemoryTicketStore::new());
//!
//! // The route that issues tickets accepts tokens alone.
//! let issuer = tickets.clone();
//! let issue = ServiceTokenLayer::new(store.clone()).layer(service_fn(
//!     move |request: Request<String>| {
//!         let issuer = issuer.clone();
//!         async move {
//!             let caller = request.extensions().get::<Principal>().expect("behind the layer");
//!             let ticket = issuer.issue(caller).await.expect("the store is available");
//!             Ok::<_, std::convert::Infallible>(Response::new(ticket.expose_secret().to_owned()))
//!         }
//!     },
//! ));
//! // The route of the stream accepts tickets, too.
//! let stream = TicketLayer::new(ServiceTokenLayer::new(store), tickets).layer(service_fn(
//!     async |request: Request<String>| {
//!         let caller = request.extensions().get::<Principal>().expect("behind the layer");
//!         let text = format!("{} opened {}", caller.name(), request.uri());
//!         Ok::<_, std::convert::Infallible>(Response::new(text))
//!     },
//! ));
//!
//! let request = Request::post("/ticket").header("x-api-key", issued.expose_secret());
//! let ticket = issue.oneshot(request.body(String::new())?).await?.into_body();
//! let open = || Request::get(format!("/events?ticket={ticket}")).body(String::new());
//! assert_eq!(stream.clone().oneshot(open()?).await?.body(), "dashboard opened /events");
//! assert_eq!(stream.oneshot(open()?).await?.status(), 401);
//! # Ok(())
//! # }
//! ```

mod fair_queue;
mod layer;
mod principal_end;
mod redemption;
mod stream_limits;
mod ticket;
mod ticket_sources;
mod tickets;
mod watch_list;
mod watch_task;
mod watched;
mod watcher;

pub use self::layer::{TicketLayer, TicketService};
pub use self::principal_end::PrincipalEnd;
pub use self::stream_limits::{StreamLimits, TooManyStreams};
pub use self::ticket::Ticket;
pub use self::tickets::{Tickets, TicketsBuilder};
pub use self::watcher::{PrincipalWatch, PrincipalWatcher, PrincipalWatcherBuilder};
pub use crate::principal::RightsDigest;
pub use crate::ticket_store::{
    InsertTicketError, MemoryTicketStore, StoredTicket, TicketLimits, TicketStore,
};
