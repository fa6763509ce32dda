//! Changes of the file: polling, reloads, failures, notifications and concurrent readers.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use tower_service_token::store::file::{FileStoreError, FileStoreErrorKind};
use tower_service_token::store::{ChangeListener, TokenChange};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// Opens a store that polls its file every 10 ms.
fn open_with_polling(path: &Path) -> FileStore {
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(10));
    options.open(path).unwrap()
}

/// Waits until `condition` holds, such as for a store that polls its file.
fn wait_until(description: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "timed out: {description}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn has_token(store: &FileStore, token: &str) -> bool {
    find(store, token).is_some()
}

fn last_error_kind(store: &FileStore) -> Option<FileStoreErrorKind> {
    store.last_error().map(|error| error.kind())
}

#[derive(Default)]
struct RecordedChanges(Mutex<Vec<TokenChange>>);

impl RecordedChanges {
    fn subscribe(store: &FileStore) -> Arc<Self> {
        let changes = Arc::new(Self::default());
        store.subscribe(&(changes.clone() as Arc<dyn ChangeListener>));
        changes
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl ChangeListener for RecordedChanges {
    fn changed(&self, change: &TokenChange) {
        self.0.lock().unwrap().push(change.clone());
    }
}

#[test]
fn detects_replacement_by_rename() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("old", ""));
    let store = open_with_polling(&path);
    replace(&path, &toml_with_token("new", ""));
    wait_until("the new token is known", || has_token(&store, "new"));
    assert!(!has_token(&store, "old"));
}

#[test]
fn detects_rewrite_in_place() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("old", ""));
    let store = open_with_polling(&path);
    write(
        &path,
        &toml_with_token("new", "name = \"of another length\""),
    );
    wait_until("the new token is known", || has_token(&store, "new"));
    assert!(!has_token(&store, "old"));
}

#[cfg(unix)]
#[test]
fn detects_kubernetes_symlink_switch() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let version = |name: &str, token: &str| {
        fs::create_dir(folder.path(name)).unwrap();
        write(
            &folder.path(name).join("t.toml"),
            &toml_with_token(token, ""),
        );
    };
    version("..2026_1", "old");
    symlink("..2026_1", folder.path("..data")).unwrap();
    symlink("..data/t.toml", folder.path("t.toml")).unwrap();
    let store = open_with_polling(&folder.path("t.toml"));
    assert!(has_token(&store, "old"));

    version("..2026_2", "new");
    symlink("..2026_2", folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    fs::remove_dir_all(folder.path("..2026_1")).unwrap();
    wait_until("the new token is known", || has_token(&store, "new"));
    assert!(!has_token(&store, "old"));
}

#[test]
fn without_polling_only_reload_reads_the_file() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("old", ""));
    let store = open_without_polling(&path);
    let clone = store.clone();
    replace(&path, &toml_with_token("new", ""));
    assert!(has_token(&store, "old") && !has_token(&store, "new"));
    store.reload().unwrap();
    for store in [store, clone] {
        assert!(has_token(&store, "new") && !has_token(&store, "old"));
    }
}

#[test]
fn reload_applies_revocation_and_removal() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("a", ""));
    let store = open_without_polling(&path);
    assert_eq!(verdict_for(&store, "a", at(0)), Ok(()));
    replace(&path, &toml_with_token("a", "state = \"revoked\""));
    store.reload().unwrap();
    assert_eq!(verdict_for(&store, "a", at(0)), Err(DenialKind::Revoked));
    replace(&path, "tokens = []");
    store.reload().unwrap();
    assert_eq!(verdict_for(&store, "a", at(0)), Err(DenialKind::Unknown));
}

#[test]
fn invalid_file_keeps_last_valid_tokens_and_reports_error() {
    let folder = Folder::new();
    let valid = toml_with_token("a", "");
    let path = folder.write("t.toml", &valid);
    let store = open_with_polling(&path);
    let invalid_files: [(&str, FileStoreErrorKind); 4] = [
        ("[[tokens]]\ndigest = \"sha2", FileStoreErrorKind::Malformed),
        ("", FileStoreErrorKind::Invalid),
        (
            "[[tokens]]\ndigest = \"hunter2\"",
            FileStoreErrorKind::Invalid,
        ),
        (
            "[[tokens]]\ntoken = \"hunter2\"",
            FileStoreErrorKind::ContainsToken,
        ),
    ];
    for (text, kind) in invalid_files {
        for replace in [write, replace] {
            replace(&path, text);
            wait_until(text, || last_error_kind(&store) == Some(kind));
            assert!(has_token(&store, "a"), "{text}");
            assert_eq!(store.reload().unwrap_err().kind(), kind, "{text}");
            assert_eq!(store.status().tokens(), 1);
            assert_eq!(store.status().error().map(FileStoreError::kind), Some(kind));

            // The file recovers with the same content as before, then with other content.
            replace(&path, &valid);
            wait_until("the error is cleared", || store.last_error().is_none());
            replace(&path, text);
            wait_until(text, || last_error_kind(&store) == Some(kind));
            replace(&path, &(toml_with_token("b", "") + &valid));
            // The error is cleared as soon as the new tokens are in use.
            wait_until("the new token is known", || {
                has_token(&store, "b") && store.last_error().is_none()
            });
            assert!(has_token(&store, "a"));
            assert_eq!(store.status().tokens(), 2);
            replace(&path, &valid);
            wait_until("the new token is removed", || !has_token(&store, "b"));
        }
    }
}

#[test]
fn reports_missing_file_and_recovers() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("old", ""));
    let store = open_with_polling(&path);
    fs::remove_file(&path).unwrap();
    let unreadable = Some(FileStoreErrorKind::Unreadable);
    wait_until("the status changes", || {
        last_error_kind(&store) == unreadable
    });
    assert!(has_token(&store, "old"));
    replace(&path, &toml_with_token("new", ""));
    wait_until("the new token is known", || has_token(&store, "new"));
    wait_until("the error is cleared", || store.last_error().is_none());
}

#[cfg(unix)]
#[test]
fn ignores_insecure_file_until_permissions_are_fixed() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("old", ""));
    let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let store = open_with_polling(&path);
    chmod(0o666);
    let insecure = Some(FileStoreErrorKind::Insecure);
    wait_until("the status changes", || last_error_kind(&store) == insecure);
    write(&path, &toml_with_token("new", ""));
    assert_eq!(
        store.reload().unwrap_err().kind(),
        FileStoreErrorKind::Insecure
    );
    assert!(has_token(&store, "old") && !has_token(&store, "new"));
    chmod(0o644);
    wait_until("the new token is known", || has_token(&store, "new"));
    wait_until("the error is cleared", || store.last_error().is_none());
}

#[test]
fn notifies_listeners_once_per_reload() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("a", ""));
    let store = open_without_polling(&path);
    let changes = RecordedChanges::subscribe(&store);
    store.reload().unwrap();
    assert_eq!(changes.count(), 0, "the content is unchanged");
    replace(&path, &toml_with_token("b", ""));
    store.reload().unwrap();
    assert_eq!(changes.count(), 1);
    assert!(matches!(
        changes.0.lock().unwrap()[0],
        TokenChange::Everything
    ));
    replace(&path, "broken");
    store.reload().unwrap_err();
    assert_eq!(changes.count(), 1, "the loaded tokens stay in use");
    replace(&path, &toml_with_token("b", ""));
    store.reload().unwrap();
    assert_eq!(
        changes.count(),
        1,
        "the new content equals the loaded tokens"
    );
    replace(&path, &toml_with_token("a", ""));
    store.reload().unwrap();
    assert_eq!(changes.count(), 2);
}

#[test]
fn notifies_listeners_after_new_tokens_are_active() {
    struct ReentrantListener(FileStore, AtomicBool);

    impl ChangeListener for ReentrantListener {
        fn changed(&self, _: &TokenChange) {
            let status = self.0.status();
            let is_in_use = has_token(&self.0, "new") && status.error().is_none();
            self.1.store(is_in_use, Ordering::SeqCst);
        }
    }

    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("old", ""));
    let store = open_with_polling(&path);
    let listener = Arc::new(ReentrantListener(store.clone(), AtomicBool::new(false)));
    store.subscribe(&(listener.clone() as Arc<dyn ChangeListener>));
    replace(&path, &toml_with_token("new", ""));
    wait_until("the listener is notified", || {
        listener.1.load(Ordering::SeqCst)
    });
}

#[test]
fn panicking_listener_does_not_stop_polling() {
    struct PanickingListener;

    impl ChangeListener for PanickingListener {
        fn changed(&self, _: &TokenChange) {
            panic!("the scripted panic");
        }
    }

    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("0", ""));
    let store = open_with_polling(&path);
    let listener: Arc<dyn ChangeListener> = Arc::new(PanickingListener);
    store.subscribe(&listener);
    for token in ["1", "2", "3"] {
        replace(&path, &toml_with_token(token, ""));
        wait_until("the new token is known", || has_token(&store, token));
    }
}

/// Returns a file with two tokens, which both have the number of the set as their name.
fn file_of_set(number: u64) -> String {
    let entry = |token| {
        let digest = TokenDigest::of(token);
        serde_json::json!({"digest": digest.to_string(), "name": number.to_string()})
    };
    serde_json::json!({"tokens": [entry("x"), entry("y")]}).to_string()
}

fn set_number(store: &FileStore, token: &str) -> u64 {
    let record = find(store, token).expect("each set contains both tokens");
    record.name().parse().unwrap()
}

/// Sets its flag when dropped, so that a failing test ends its threads too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Reads until `is_done`. Panics if a token is missing or if a set is older than the previous one.
/// Stores the number of the last set in `seen`.
fn read_sets(store: &FileStore, is_done: &AtomicBool, seen: &AtomicU64) {
    let mut last = 0;
    while !is_done.load(Ordering::SeqCst) {
        for token in ["x", "y"] {
            let now = set_number(store, token);
            assert!(
                now >= last,
                "{token} belongs to set {now}, after set {last}"
            );
            last = now;
        }
        seen.store(last, Ordering::SeqCst);
    }
}

#[test]
fn readers_see_complete_sets_during_replacement() {
    let folder = Folder::new();
    let path = folder.write("t.json", &file_of_set(0));
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(1));
    let store = options.open(&path).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let seen = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        for seen in seen.clone() {
            let (store, is_done) = (&store, &is_done);
            scope.spawn(move || read_sets(store, is_done, &seen));
        }
        let _end = SetOnDrop(&is_done);
        for set in 1..=300 {
            replace(&path, &file_of_set(set));
            store.reload().unwrap();
            assert_eq!(set_number(&store, "y"), set);
            // Waits for the readers, so that they read between changes too.
            if set % 50 == 0 {
                wait_until("the readers see the set", || {
                    seen.iter().all(|seen| seen.load(Ordering::SeqCst) == set)
                });
            }
        }
    });
}

#[test]
fn readers_see_complete_sets_during_rewrite_in_place() {
    let folder = Folder::new();
    let path = folder.write("t.json", &file_of_set(0));
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(1));
    let store = options.open(&path).unwrap();
    let is_done = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_sets(&store, &is_done, &seen));
        let _end = SetOnDrop(&is_done);
        let start = Instant::now();
        let mut set = 0;
        // Continues until the store has loaded many sets. Most polls see an incomplete file.
        while set_number(&store, "x") < 200 {
            assert!(start.elapsed() < DEADLINE, "the store loads too few sets");
            set += 1;
            let text = file_of_set(set);
            let (first, second) = text.split_at(text.len() / 2);
            write(&path, first);
            thread::yield_now();
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(second.as_bytes()).unwrap();
        }
        wait_until("the reader sees a set", || seen.load(Ordering::SeqCst) > 0);
        is_done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        wait_until("the last set is in use", || set_number(&store, "y") == set);
    });
    wait_until("the error is cleared", || store.last_error().is_none());
}

#[test]
fn loads_file_that_changes_continuously() {
    let folder = Folder::new();
    let path = folder.write("t.json", &file_of_set(0));
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(50));
    let store = options.open(&path).unwrap();
    let is_done = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let set = written.fetch_add(1, Ordering::SeqCst) + 1;
                replace(&path, &file_of_set(set));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let start = Instant::now();
        let mut last = 0;
        for _ in 0..3 {
            let newer = loop {
                let now = set_number(&store, "x");
                if now > last || start.elapsed() > DEADLINE {
                    break now;
                }
                thread::sleep(Duration::from_millis(1));
            };
            let is_newer = newer > last;
            last = newer;
            if !is_newer {
                break;
            }
        }
        let elapsed = start.elapsed();
        is_done.store(true, Ordering::SeqCst);
        assert!(
            last > 0 && elapsed < DEADLINE,
            "set {last} after {elapsed:?}"
        );
    });
}

#[test]
fn debug_shows_status_and_no_digest() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_with_token("a", ""));
    let store = open_without_polling(&path);
    write(&path, "broken");
    store.reload().unwrap_err();
    let debug = format!("{store:?}");
    assert!(
        debug.contains("tokens: 1") && debug.contains("Syntax"),
        "{debug}"
    );
    let digest = TokenDigest::of("a").to_string();
    assert!(!debug.contains(&digest[7..23]), "{debug}");
}
