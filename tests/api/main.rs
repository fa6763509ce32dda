//! The endpoints, asked as their contract has it and as nobody should ask them.

mod callers;
mod introspection;
mod kit;
mod limits;
mod revocation;
mod silence;
mod verification;
