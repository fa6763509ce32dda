use std::fs::DirBuilder;

use etcetera::BaseStrategy;

use crate::failure::{Failure, FailureKind};
use crate::store_url::StoreUrl;

/// The SQLite file in the user's data directory, whose folder is made for its owner alone.
pub(super) fn make() -> Result<StoreUrl, Failure> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        Failure::of(FailureKind::Usage, "there is no data directory", &error)
            .with_hint("name a store with --store or SVCTOK_STORE")
    })?;
    let folder = strategy.data_dir().join("svctok");
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).map_err(|error| {
        let tried = format!("cannot make {}", folder.display());
        Failure::of(FailureKind::Unreachable, tried, &error)
            .with_hint("name a store with --store or SVCTOK_STORE")
    })?;
    Ok(StoreUrl::Sqlite(folder.join("tokens.db")))
}
