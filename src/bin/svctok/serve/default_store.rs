use std::fs::DirBuilder;

use etcetera::BaseStrategy;

use crate::failure::{Failure, FailureKind};
use crate::store_url::StoreUrl;

/// Returns the SQLite file in the user's data directory. Creates its folder with mode 0700.
pub(super) fn create() -> Result<StoreUrl, Failure> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        Failure::context(FailureKind::Usage, "cannot find the data directory", &error)
            .with_hint("specify a store by --store or SVCTOK_STORE")
    })?;
    let folder = strategy.data_dir().join("svctok");
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).map_err(|error| {
        let tried = format!("cannot create {}", folder.display());
        Failure::context(FailureKind::Unreachable, tried, &error)
            .with_hint("specify a store by --store or SVCTOK_STORE")
    })?;
    Ok(StoreUrl::Sqlite(folder.join("tokens.db")))
}
