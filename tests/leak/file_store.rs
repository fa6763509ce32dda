//! The output of a store whose file contains the digest of the secret, or the secret itself.

use super::public_types::Formatted;

#[cfg(not(feature = "file"))]
pub(super) fn formatted_types() -> Vec<Formatted> {
    let names = [
        "FileStatus",
        "FileStore",
        "FileStoreError",
        "FileStoreErrorKind",
        "FileStoreOptions",
        "TokenFile",
        "TokenFileError",
    ];
    names.map(|name| (name, Vec::new())).into()
}

#[cfg(feature = "file")]
pub(super) fn formatted_types() -> Vec<Formatted> {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower_service_token::digest::TokenDigest;
    use tower_service_token::store::file::{FileStoreError, FileStoreErrorKind, FileStoreOptions};

    use super::SECRET;
    use super::public_types::{debug_text, error_text};

    struct File(PathBuf);

    impl File {
        fn write(&self, text: &str) -> &Path {
            std::fs::write(&self.0, text).expect("a file");
            #[cfg(unix)]
            std::fs::set_permissions(&self.0, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("a mode");
            &self.0
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("leak-test-{}-{number}.toml", std::process::id());
    let file = File(std::env::temp_dir().join(name));
    let digest = TokenDigest::of(SECRET);
    let good = format!("[[tokens]]\ndigest = \"{digest}\"\n");
    let options = FileStoreOptions::new().with_poll_interval(None);
    let store = options.open(file.write(&good)).expect("a valid file");
    let mut formatted = vec![
        debug_text("FileStoreOptions", &options),
        debug_text("FileStore", &store),
        debug_text("FileStatus", &store.status()),
        debug_text("FileStoreErrorKind", &FileStoreErrorKind::ContainsToken),
    ];
    let hex = &digest.to_string()[7..];
    for text in [
        SECRET.to_owned(),
        format!("[[tokens]]\ndigest = \"{SECRET}\"\n"),
        format!("[[tokens]]\ndigest = \"{hex}\"\n"),
        format!("[[tokens]]\ndigest = {digest}\n"),
        format!("[[tokens]]\n\"{digest}\" = 1\n"),
        format!("{good}state = \"{}\"\n", &SECRET[18..]),
        format!("{good}{good}"),
    ] {
        file.write(&text);
        let error: FileStoreError = store.reload().expect_err(&text);
        formatted.push(error_text("FileStoreError", &error));
        formatted.push(debug_text("FileStore", &store));
        formatted.push(debug_text("FileStatus", &store.status()));
    }
    #[cfg(feature = "cli")]
    formatted.extend(token_file(file.write(&good)));
    #[cfg(not(feature = "cli"))]
    formatted.extend(["TokenFile", "TokenFileError"].map(|name| (name, Vec::new())));
    formatted
}

/// A registry whose file contains the digest, and its errors about records with the secret.
#[cfg(feature = "cli")]
fn token_file(path: &std::path::Path) -> Vec<Formatted> {
    use std::time::SystemTime;

    use futures::executor::block_on;
    use tower_service_token::audit::{AuditAction, AuditEvent};
    use tower_service_token::digest::TokenDigest;
    use tower_service_token::registry::{RegistryError, TokenRegistry, Write};
    use tower_service_token::store::TokenRecord;
    use tower_service_token::store::file::{TokenFile, TokenFileError};

    use super::SECRET;
    use super::public_types::{debug_text, error_text};

    let file = TokenFile::open(path).expect("a valid file");
    let mut formatted = vec![debug_text("TokenFile", &file)];
    let record = TokenRecord::new(super::token_id(), TokenDigest::of("other"));
    let previous = TokenDigest::of(SECRET);
    for record in [
        record.clone().with_description(SECRET),
        record.clone().with_name(format!("{SECRET}\n")),
        record.with_previous_digest((previous, SystemTime::now())),
    ] {
        let event = AuditEvent::new(SystemTime::now(), "a", AuditAction::Created, record.id());
        let error = block_on(file.insert(&Write::new(record, event)));
        let Err(RegistryError::Store(error)) = error else {
            panic!("no error of the store: {error:?}")
        };
        let error = TokenFileError::cause_of(&error).expect("an error of the file");
        formatted.push(error_text("TokenFileError", error));
    }
    formatted
}
