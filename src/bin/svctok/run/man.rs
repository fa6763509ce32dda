use clap_mangen::{Man, generate_to};

use crate::args::{ManArgs, command};
use crate::failure::{Failure, FailureKind};
use crate::output::print;

pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    if let Some(directory) = &args.dir {
        return generate_to(command(), directory).map_err(|error| {
            let tried = format_args!("cannot write into {}", directory.display());
            Failure::context(FailureKind::Refused, tried, &error)
        });
    }
    let mut page = Vec::new();
    let rendered = Man::new(command()).render(&mut page);
    rendered
        .map_err(|error| Failure::context(FailureKind::Refused, "cannot write the page", &error))?;
    print(&String::from_utf8_lossy(&page))
}
