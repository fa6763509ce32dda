//! One accepted request with a number of tokens, sent in random order.

use std::sync::Arc;

use benches::results::{Goal, Results, counted};
use criterion::Criterion;
use http::StatusCode;
use tower::Layer;
use tower_service_token::token::MintedToken;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use crate::baseline::{BareWithPrincipal, Floor, Trivial};
use crate::case::{Case, Times, bench, requests_with};
use crate::request::request_with;

/// The cases of one number of tokens.
pub(crate) struct Size {
    count: usize,
    cases: [Case; 3],
}

impl Size {
    /// Creates the cases. `store` has these tokens.
    pub(crate) fn new(tokens: &Arc<[MintedToken]>, store: MemoryStore) -> Self {
        let ok = StatusCode::OK;
        let requests = || requests_with(tokens, request_with);
        let memory = ServiceTokenLayer::new(store).without_cache_headers();
        Self {
            count: tokens.len(),
            cases: [
                Case::new(
                    "bare_with_principal",
                    ok,
                    requests(),
                    BareWithPrincipal::new(),
                ),
                Case::new("floor", ok, requests(), Floor::new(tokens)),
                Case::new("memory", ok, requests(), memory.layer(Trivial)),
            ],
        }
    }

    /// Runs the cases as one criterion group.
    pub(crate) fn bench(&mut self, criterion: &mut Criterion) {
        bench(criterion, &self.group(), &mut self.cases);
    }

    /// Measures the ratio of an accepted request to the floor.
    pub(crate) fn measure(&mut self, results: &mut Results) {
        let tokens = counted(self.count, "token");
        println!("\n{tokens}");
        let times = Times::measure(&mut self.cases);
        times.add_to(results, &self.group());
        let over_bare = |id| times.of(id) - times.of("bare_with_principal");
        results.ratio(
            format!("accepted request to floor, over no authentication, {tokens}"),
            over_bare("memory") / over_bare("floor"),
            Goal::AtMost(1.2),
        );
    }

    fn group(&self) -> String {
        format!("scale/{}", self.count)
    }
}
