use clap_complete::generate;

use crate::args::{CompletionsArgs, command};
use crate::failure::Failure;
use crate::output::print;

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command(), "svctok", &mut script);
    print(&String::from_utf8_lossy(&script))
}
