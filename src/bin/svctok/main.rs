//! `svctok`: service tokens from the command line.

fn main() {}
