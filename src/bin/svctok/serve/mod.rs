//! A token service in one process.

use crate::args::ServeArgs;
use crate::failure::Failure;

pub(crate) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let store = args
        .store
        .ok_or_else(|| Failure::usage("name a store with --store"))?;
    store.open().await?;
    Ok(())
}
