//! Changes of the file: when they take effect, and which do not.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use tower_service_token::store::file::{FileStoreError, FileStoreErrorKind};
use tower_service_token::store::{ChangeListener, TokenChange};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// Polls the file every 10 ms.
fn followed(path: &Path) -> FileStore {
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(10));
    options.open(path).unwrap()
}

/// Waits for the store to detect a change of its file.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "timed out: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn knows(store: &FileStore, token: &str) -> bool {
    found(store, token).is_some()
}

fn kind_of_error(store: &FileStore) -> Option<FileStoreErrorKind> {
    store.last_error().map(|error| error.kind())
}

#[derive(Default)]
struct Changes(Mutex<Vec<TokenChange>>);

impl Changes {
    fn of(store: &FileStore) -> Arc<Self> {
        let changes = Arc::new(Self::default());
        store.subscribe(&(changes.clone() as Arc<dyn ChangeListener>));
        changes
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl ChangeListener for Changes {
    fn changed(&self, change: &TokenChange) {
        self.0.lock().unwrap().push(change.clone());
    }
}

#[test]
fn detects_replacement_by_rename() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("old", ""));
    let store = followed(&path);
    replace(&path, &toml_of("new", ""));
    until("the new token is known", || knows(&store, "new"));
    assert!(!knows(&store, "old"));
}

#[test]
fn detects_rewrite_in_place() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("old", ""));
    let store = followed(&path);
    write(&path, &toml_of("new", "name = \"of another length\""));
    until("the new token is known", || knows(&store, "new"));
    assert!(!knows(&store, "old"));
}

#[cfg(unix)]
#[test]
fn detects_kubernetes_symlink_switch() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let version = |name: &str, token: &str| {
        fs::create_dir(folder.path(name)).unwrap();
        write(&folder.path(name).join("t.toml"), &toml_of(token, ""));
    };
    version("..2026_1", "old");
    symlink("..2026_1", folder.path("..data")).unwrap();
    symlink("..data/t.toml", folder.path("t.toml")).unwrap();
    let store = followed(&folder.path("t.toml"));
    assert!(knows(&store, "old"));

    version("..2026_2", "new");
    symlink("..2026_2", folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    fs::remove_dir_all(folder.path("..2026_1")).unwrap();
    until("the new token is known", || knows(&store, "new"));
    assert!(!knows(&store, "old"));
}

#[test]
fn without_polling_only_reload_reads_the_file() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("old", ""));
    let store = opened(&path);
    let clone = store.clone();
    replace(&path, &toml_of("new", ""));
    assert!(knows(&store, "old") && !knows(&store, "new"));
    store.reload().unwrap();
    for store in [store, clone] {
        assert!(knows(&store, "new") && !knows(&store, "old"));
    }
}

#[test]
fn reload_applies_revocation_and_removal() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("a", ""));
    let store = opened(&path);
    assert_eq!(verdict_for(&store, "a", at(0)), Ok(()));
    replace(&path, &toml_of("a", "state = \"revoked\""));
    store.reload().unwrap();
    assert_eq!(verdict_for(&store, "a", at(0)), Err(DenialKind::Revoked));
    replace(&path, "tokens = []");
    store.reload().unwrap();
    assert_eq!(verdict_for(&store, "a", at(0)), Err(DenialKind::Unknown));
}

#[test]
fn unusable_file_keeps_last_good_tokens_and_reports_error() {
    let folder = Folder::new();
    let valid = toml_of("a", "");
    let path = folder.write("t.toml", &valid);
    let store = followed(&path);
    let broken: [(&str, FileStoreErrorKind); 4] = [
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
    for (text, kind) in broken {
        for replace in [write, replace] {
            replace(&path, text);
            until(text, || kind_of_error(&store) == Some(kind));
            assert!(knows(&store, "a"), "{text}");
            assert_eq!(store.reload().unwrap_err().kind(), kind, "{text}");
            assert_eq!(store.status().tokens(), 1);
            assert_eq!(store.status().error().map(FileStoreError::kind), Some(kind));

            // First the same content as before, then another.
            replace(&path, &valid);
            until("it recovers", || store.last_error().is_none());
            replace(&path, text);
            until(text, || kind_of_error(&store) == Some(kind));
            replace(&path, &(toml_of("b", "") + &valid));
            // The status matches the tokens in use.
            until("the new token is known", || {
                knows(&store, "b") && store.last_error().is_none()
            });
            assert!(knows(&store, "a"));
            assert_eq!(store.status().tokens(), 2);
            replace(&path, &valid);
            until("the new token is forgotten", || !knows(&store, "b"));
        }
    }
}

#[test]
fn reports_missing_file_and_recovers() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("old", ""));
    let store = followed(&path);
    fs::remove_file(&path).unwrap();
    let unreadable = Some(FileStoreErrorKind::Unreadable);
    until("the status changes", || kind_of_error(&store) == unreadable);
    assert!(knows(&store, "old"));
    replace(&path, &toml_of("new", ""));
    until("the new token is known", || knows(&store, "new"));
    until("it recovers", || store.last_error().is_none());
}

#[cfg(unix)]
#[test]
fn ignores_insecure_file_until_permissions_are_fixed() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("old", ""));
    let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let store = followed(&path);
    chmod(0o666);
    let insecure = Some(FileStoreErrorKind::Insecure);
    until("the status changes", || kind_of_error(&store) == insecure);
    write(&path, &toml_of("new", ""));
    assert_eq!(
        store.reload().unwrap_err().kind(),
        FileStoreErrorKind::Insecure
    );
    assert!(knows(&store, "old") && !knows(&store, "new"));
    chmod(0o644);
    until("the new token is known", || knows(&store, "new"));
    until("it recovers", || store.last_error().is_none());
}

#[test]
fn notifies_listeners_once_per_reload() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("a", ""));
    let store = opened(&path);
    let changes = Changes::of(&store);
    store.reload().unwrap();
    assert_eq!(changes.count(), 0, "the content is already in use");
    replace(&path, &toml_of("b", ""));
    store.reload().unwrap();
    assert_eq!(changes.count(), 1);
    assert!(matches!(
        changes.0.lock().unwrap()[0],
        TokenChange::Everything
    ));
    replace(&path, "broken");
    store.reload().unwrap_err();
    assert_eq!(changes.count(), 1, "the tokens are the same");
    replace(&path, &toml_of("b", ""));
    store.reload().unwrap();
    assert_eq!(changes.count(), 1, "the tokens are still the same");
    replace(&path, &toml_of("a", ""));
    store.reload().unwrap();
    assert_eq!(changes.count(), 2);
}

#[test]
fn notifies_listeners_after_new_tokens_are_active() {
    struct Asks(FileStore, AtomicBool);

    impl ChangeListener for Asks {
        fn changed(&self, _: &TokenChange) {
            let status = self.0.status();
            let is_in_use = knows(&self.0, "new") && status.error().is_none();
            self.1.store(is_in_use, Ordering::SeqCst);
        }
    }

    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("old", ""));
    let store = followed(&path);
    let listener = Arc::new(Asks(store.clone(), AtomicBool::new(false)));
    store.subscribe(&(listener.clone() as Arc<dyn ChangeListener>));
    replace(&path, &toml_of("new", ""));
    until("the listener is notified", || {
        listener.1.load(Ordering::SeqCst)
    });
}

#[test]
fn panicking_listener_does_not_stop_polling() {
    struct Panics;

    impl ChangeListener for Panics {
        fn changed(&self, _: &TokenChange) {
            panic!("on purpose");
        }
    }

    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("0", ""));
    let store = followed(&path);
    let listener: Arc<dyn ChangeListener> = Arc::new(Panics);
    store.subscribe(&listener);
    for token in ["1", "2", "3"] {
        replace(&path, &toml_of(token, ""));
        until("the new token is known", || knows(&store, token));
    }
}

/// Returns two tokens that both have the number of the set.
fn numbered(number: u64) -> String {
    let entry = |token| {
        let digest = TokenDigest::of(token);
        serde_json::json!({"digest": digest.to_string(), "name": number.to_string()})
    };
    serde_json::json!({"tokens": [entry("x"), entry("y")]}).to_string()
}

fn number(store: &FileStore, token: &str) -> u64 {
    let record = found(store, token).expect("each set has both tokens");
    record.name().parse().unwrap()
}

/// Sets its flag when dropped, so that a failing test ends its threads too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Fails if a reader sees a set without one of its tokens, or one token of a set before the other.
/// Stores the number of the last set in `seen`.
fn read_sets(store: &FileStore, is_done: &AtomicBool, seen: &AtomicU64) {
    let mut last = 0;
    while !is_done.load(Ordering::SeqCst) {
        for token in ["x", "y"] {
            let now = number(store, token);
            assert!(now >= last, "{token} is of set {now}, after set {last}");
            last = now;
        }
        seen.store(last, Ordering::SeqCst);
    }
}

#[test]
fn readers_see_complete_sets_during_replacement() {
    let folder = Folder::new();
    let path = folder.write("t.json", &numbered(0));
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
            replace(&path, &numbered(set));
            store.reload().unwrap();
            assert_eq!(number(&store, "y"), set);
            // Readers read between the changes, not only after the last one.
            if set % 50 == 0 {
                until("the readers see the set", || {
                    seen.iter().all(|seen| seen.load(Ordering::SeqCst) == set)
                });
            }
        }
    });
}

#[test]
fn readers_see_complete_sets_during_rewrite_in_place() {
    let folder = Folder::new();
    let path = folder.write("t.json", &numbered(0));
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(1));
    let store = options.open(&path).unwrap();
    let is_done = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_sets(&store, &is_done, &seen));
        let _end = SetOnDrop(&is_done);
        let start = Instant::now();
        let mut set = 0;
        // Until some sets were read, although most polls see an incomplete set.
        while number(&store, "x") < 200 {
            assert!(start.elapsed() < DEADLINE, "no set is read");
            set += 1;
            let text = numbered(set);
            let (first, second) = text.split_at(text.len() / 2);
            write(&path, first);
            thread::yield_now();
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(second.as_bytes()).unwrap();
        }
        until("the reader sees a set", || seen.load(Ordering::SeqCst) > 0);
        is_done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        until("the last set is in use", || number(&store, "y") == set);
    });
    until("the error is cleared", || store.last_error().is_none());
}

#[test]
fn reads_file_that_never_stops_changing() {
    let folder = Folder::new();
    let path = folder.write("t.json", &numbered(0));
    let options = FileStoreOptions::new().with_poll_interval(Duration::from_millis(50));
    let store = options.open(&path).unwrap();
    let is_done = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let set = written.fetch_add(1, Ordering::SeqCst) + 1;
                replace(&path, &numbered(set));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let start = Instant::now();
        let mut last = 0;
        for _ in 0..3 {
            let newer = loop {
                let now = number(&store, "x");
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
        let ended = start.elapsed();
        is_done.store(true, Ordering::SeqCst);
        assert!(last > 0 && ended < DEADLINE, "set {last} after {ended:?}");
    });
}

#[test]
fn debug_shows_status_and_no_digest() {
    let folder = Folder::new();
    let path = folder.write("t.toml", &toml_of("a", ""));
    let store = opened(&path);
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
