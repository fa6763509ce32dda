//! Changes to a token file, including one written by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tower_service_token::clock::SystemClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::file::{FileStore, FileStoreOptions};
use tower_service_token::store::{Cached, Credential, DenialKind, TokenRecord, verdict};
use tower_service_token::token::PresentedToken;
use tower_service_token::{Principal, TokenStore};

use crate::sandbox::{CommandOutput, SVCTOK, Sandbox, TOKEN, id_of};

const FILE: &str = "tokens.toml";

/// A file written by hand, with comments and mixed formatting.
const HANDWRITTEN: &str = r#"# The tokens of our build machines.

[[tokens]] # the first
name = "ci"   # nightly
digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
# asked for by team A
roles = [
    "deployer", # for the site
    "auditor", # for the books
]
# until the audit
expires_at = 2099-01-31

# the second
  [[tokens]]
  digest = 'sha256:97831c7761dcedf2ab05afdbbeae6144bd4208f752aaf1a006ed403e405cbce0'
  id = "7Hq2mX9bTe"
  name = "second"
  # where
  labels.workspace = "w1"
  description = """
on
lines"""
  state="disabled"

# end"#;

fn sandbox() -> Sandbox {
    Sandbox::without_store().with("SVCTOK_STORE", "file:tokens.toml")
}

fn sandbox_with(text: &str) -> Sandbox {
    let sandbox = sandbox();
    sandbox.write(FILE, text);
    sandbox
}

impl Sandbox {
    fn text(&self) -> String {
        fs::read_to_string(self.file(FILE)).unwrap()
    }

    fn store(&self) -> FileStore {
        let options = FileStoreOptions::new().with_poll_interval(None);
        options.open(self.file(FILE)).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let records = self.store().records();
        records.iter().map(|it| it.name().to_owned()).collect()
    }

    /// Returns the files in the sandbox.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).unwrap();
        entries.map(|it| it.unwrap().path()).collect()
    }

    fn start(&self, words: &str) -> Child {
        Command::new(SVCTOK)
            .args(words.split_whitespace())
            .env("SVCTOK_STORE", "file:tokens.toml")
            .current_dir(&self.path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// Returns the verdict for a token in this store.
fn verdict_for(store: &FileStore, token: &str) -> Result<Principal, DenialKind> {
    let credential = Credential::new(PresentedToken::new(token).unwrap());
    let record: Option<TokenRecord> = match store.find_cached(&credential) {
        Cached::Found(record) => Some(record),
        _ => None,
    };
    verdict(record, &credential, &SystemClock).map_err(|denial| denial.kind())
}

#[test]
fn created_token_is_valid_until_deleted() {
    let sandbox = sandbox();
    let token = sandbox.create("--name ci --roles a,b --scopes x:y --label k=v --expires-in 30d");
    let principal = verdict_for(&sandbox.store(), &token).unwrap();
    assert_eq!(principal.name(), "ci");
    assert!(principal.roles().contains("b"));
    assert_eq!(principal.labels().collect::<Vec<_>>(), [("k", "v")]);
    sandbox
        .run_with("verify --role a --scope x:y", &token)
        .succeeded();
    let id = id_of(&token);

    sandbox.run(&format!("disable {id}")).succeeded();
    assert_eq!(
        verdict_for(&sandbox.store(), &token).err(),
        Some(DenialKind::Disabled)
    );
    sandbox.run(&format!("enable {id}")).succeeded();
    verdict_for(&sandbox.store(), &token).unwrap();

    let next = sandbox.run(&format!("rotate {id} -o token")).succeeded();
    assert_eq!(
        verdict_for(&sandbox.store(), &token).err(),
        Some(DenialKind::Unknown)
    );
    let next = next.trim_end();
    assert_eq!(
        verdict_for(&sandbox.store(), next)
            .unwrap()
            .id()
            .to_string(),
        id
    );

    let deleted = sandbox.run(&format!("delete {id}"));
    assert_eq!(
        deleted.stderr,
        "The change reaches every node within 3 s.\n"
    );
    deleted.succeeded();
    assert_eq!(
        verdict_for(&sandbox.store(), next).err(),
        Some(DenialKind::Revoked)
    );
    assert!(
        sandbox.text().contains("\nstate = \"revoked\"\n"),
        "{}",
        sandbox.text()
    );
    let stderr = sandbox.run(&format!("enable {id}")).failed(1);
    assert!(stderr.contains("which is final"), "{stderr}");
    for secret in [&token, next] {
        let text = sandbox.text();
        assert!(!text.contains(&secret[18..]), "{text}");
    }
    assert_eq!(
        sandbox.files(),
        [sandbox.file(FILE)],
        "a temporary file or lock file remains"
    );
}

#[test]
fn new_token_file_is_complete_and_private() {
    let sandbox = sandbox();
    let words = "--name ci --roles a,b --expiration 2099-01-31 --subject team --not-before 2026-01-01T12:00:00.5Z";
    let token = sandbox.create(words);
    let expected = format!(
        "[[tokens]]\nname = \"ci\"\ndigest = \"{}\"\nid = \"{}\"\nroles = [\"a\", \"b\"]\n\
         subject = \"team\"\nexpires_at = \"2099-01-31\"\nnot_before = \"2026-01-01T12:00:00.5Z\"\n",
        TokenDigest::of(&token),
        id_of(&token)
    );
    assert_eq!(sandbox.text(), expected);
    #[cfg(unix)]
    assert_eq!(crate::sandbox::mode(&sandbox.file(FILE)), 0o600);
}

#[test]
fn changes_preserve_all_other_bytes() {
    for (words, changes) in [
        (
            "disable FIRST",
            &[(
                "\nexpires_at = 2099-01-31\n",
                "\nexpires_at = 2099-01-31\nstate = \"disabled\"\n",
            )] as &[_],
        ),
        (
            "enable 7Hq2mX9bTe",
            &[("state=\"disabled\"", "state=\"active\"")],
        ),
        ("update FIRST --name cd", &[("\"ci\"", "\"cd\"")]),
        (
            "update FIRST --roles deployer,auditor,x",
            &[(" # for the books\n", " # for the books\n    \"x\",\n")],
        ),
        (
            "update FIRST --roles deployer",
            &[("\n    \"auditor\", # for the books", "")],
        ),
        (
            "update FIRST --roles auditor",
            &[("    \"deployer\", # for the site\n", "")],
        ),
        (
            "update FIRST --roles x",
            &[
                ("    \"deployer\", # for the site\n", "    \"x\",\n"),
                ("    \"auditor\", # for the books\n", ""),
            ],
        ),
        (
            "update FIRST --no-expiration",
            &[("expires_at = 2099-01-31\n", "")],
        ),
        (
            "update FIRST --expiration 2098-01-31",
            &[("2099-01-31", "\"2098-01-31\"")],
        ),
        (
            "update 7Hq2mX9bTe --label workspace=w2",
            &[("\"w1\"", "\"w2\"")],
        ),
        (
            "update 7Hq2mX9bTe --label x=y",
            &[(
                "  labels.workspace = \"w1\"\n",
                "  labels.workspace = \"w1\"\n  labels.x = \"y\"\n",
            )],
        ),
        (
            "update 7Hq2mX9bTe --subject me",
            &[(
                "state=\"disabled\"\n",
                "state=\"disabled\"\n  subject = \"me\"\n",
            )],
        ),
        (
            "delete 7Hq2mX9bTe",
            &[("state=\"disabled\"", "state=\"revoked\"")],
        ),
    ] {
        for line_end in ["\n", "\r\n"] {
            let with_line_end = |text: &str| text.replace('\n', line_end);
            let sandbox = sandbox_with(&with_line_end(HANDWRITTEN));
            let first = sandbox.store().records();
            let first = first.iter().find(|it| it.name() == "ci").unwrap().id();
            sandbox
                .run(&words.replace("FIRST", &first.to_string()))
                .succeeded();
            let mut expected = HANDWRITTEN.to_owned();
            for (before, after) in changes {
                assert_eq!(expected.matches(before).count(), 1, "{before}");
                expected = expected.replace(before, after);
            }
            assert_eq!(sandbox.text(), with_line_end(&expected), "{words}");
        }
    }
}

#[test]
fn new_token_is_appended() {
    let list = "# ours\ntokens = [\n  { digest = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }, # a\n]\n";
    let without_last_comma = list.replace("},", "}");
    for (text, start, end) in [
        (
            HANDWRITTEN,
            format!("{HANDWRITTEN}\n\n[[tokens]]\nname = \"new\"\n"),
            "\"\n",
        ),
        (
            "# none yet\ntokens = []\n",
            "# none yet\n\n[[tokens]]\nname = \"new\"\n".to_owned(),
            "\"\n",
        ),
        (
            "tokens = []",
            "[[tokens]]\nname = \"new\"\n".to_owned(),
            "\"\n",
        ),
        (
            list,
            list[..list.len() - 2].to_owned() + "  { name = \"new\", digest = \"sha256:",
            "\" },\n]\n",
        ),
        (
            &without_last_comma,
            list[..list.len() - 2].to_owned() + "  { name = \"new\", digest = \"sha256:",
            "\" }\n]\n",
        ),
    ] {
        let sandbox = sandbox_with(text);
        let before = sandbox.store().records().len();
        sandbox.create("--name new");
        let now = sandbox.text();
        assert!(now.starts_with(&start) && now.ends_with(end), "{now}");
        assert_eq!(sandbox.store().records().len(), before + 1);
    }
}

/// The file has a byte order mark and inline tables.
#[test]
fn edits_inline_tokens_in_place() {
    let entry = "{ name = \"a\", id = \"7Hq2mX9bTe\", labels = { a = \"b\" }, digest = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }";
    let text = format!("\u{feff}tokens = [{entry}] # all\n");
    for (words, before, after) in [
        ("disable", "015ad\" }", "015ad\", state = \"disabled\" }"),
        ("update --name b", "\"a\"", "\"b\""),
        ("update --label a=c", "\"b\"", "\"c\""),
        ("update --label c=d", "\"b\" }", "\"b\", c = \"d\" }"),
        ("update --no-label a --label c=d", "a = \"b\"", "c = \"d\""),
        (
            "update --roles x,y",
            "015ad\" }",
            "015ad\", roles = [\"x\", \"y\"] }",
        ),
    ] {
        let sandbox = sandbox_with(&text);
        sandbox.run(&format!("{words} --id 7Hq2mX9bTe")).succeeded();
        assert_eq!(sandbox.text(), text.replace(before, after), "{words}");
    }
}

/// Without an explicit id, a rotation would change the id, which is derived from the digest.
#[test]
fn rotation_keeps_a_derived_id() {
    let sandbox = sandbox_with(&HANDWRITTEN[..HANDWRITTEN.find("# the second").unwrap()]);
    let id = sandbox.store().records()[0].id();
    let token = sandbox.run(&format!("rotate {id} -o token")).succeeded();
    let principal = verdict_for(&sandbox.store(), token.trim_end()).unwrap();
    assert_eq!(principal.id(), id);
    assert!(sandbox.text().contains("# nightly"));
}

#[test]
fn rejects_values_that_a_file_cannot_store() {
    let sandbox = sandbox_with(HANDWRITTEN);
    for (words, error) in [
        ("rotate 7Hq2mX9bTe --grace 1h", "as a grace period needs"),
        ("update 7Hq2mX9bTe --label x=", "a label must not be empty"),
        ("create --name x --label x=", "a label must not be empty"),
        (
            &*format!("update 7Hq2mX9bTe --description {TOKEN}"),
            "cannot hold this: this looks like a token;",
        ),
        ("delete 0000000000", "there is no such token"),
    ] {
        let stderr = sandbox.run(words).failed(1);
        assert!(stderr.contains(error), "{words}: {stderr}");
        assert!(!stderr.contains("a change may have been made"), "{stderr}");
        assert!(!stderr.contains(&TOKEN[18..]), "{stderr}");
        assert_eq!(sandbox.text(), HANDWRITTEN, "{words}");
    }
    sandbox.run("rotate 7Hq2mX9bTe --grace 0s").succeeded();
    assert_ne!(sandbox.text(), HANDWRITTEN);
}

#[test]
fn invalid_file_is_reported_and_never_written() {
    for (text, error) in [
        (
            "[[tokens]]\nname = \"a\"\n",
            "line 1: token 1: `digest` is missing",
        ),
        ("[[tokens]\n", "line 1: is not TOML"),
        ("", "`tokens` is missing"),
        (
            &*format!("tokens = [] # {TOKEN}\n"),
            "line 1: this looks like a token",
        ),
    ] {
        let sandbox = sandbox_with(text);
        for words in ["create --name x", "delete 7Hq2mX9bTe", "list"] {
            let stderr = sandbox.run(words).failed(4);
            assert!(stderr.contains(error), "{words}: {stderr}");
            assert!(!stderr.contains(&TOKEN[18..]), "{stderr}");
            assert_eq!(sandbox.text(), text);
        }
        assert_eq!(sandbox.files(), [sandbox.file(FILE)]);
    }
    let mixed = HANDWRITTEN.replacen('\n', "\r\n", 1);
    let sandbox = sandbox_with(&mixed);
    let stderr = sandbox.run("create --name x").failed(1);
    assert!(stderr.contains("the same line ending"), "{stderr}");
    assert_eq!(sandbox.text(), mixed);
}

#[test]
fn only_toml_files_are_created_and_changed() {
    let sandbox = sandbox();
    let stderr = sandbox.run("list").failed(4);
    assert!(stderr.contains("no such file"), "{stderr}");
    assert!(stderr.contains("`svctok create` creates it"), "{stderr}");
    sandbox.run("delete 7Hq2mX9bTe").failed(4);
    sandbox
        .run("create --name x --store file:nowhere/tokens.toml")
        .failed(1);
    sandbox.run("create --name x --store file:tokens").failed(4);
    assert_eq!(sandbox.files(), Vec::<PathBuf>::new());

    let json = format!(
        r#"{{"tokens": [{{"id": "7Hq2mX9bTe", "digest": "{}"}}]}}"#,
        TokenDigest::of("a")
    );
    sandbox.write("tokens.json", &json);
    let sandbox = sandbox.with("SVCTOK_STORE", "file:tokens.json");
    sandbox.run("get 7Hq2mX9bTe").succeeded();
    for words in ["create --name x", "delete 7Hq2mX9bTe"] {
        let stderr = sandbox.run(words).failed(1);
        assert!(stderr.contains("a .toml file"), "{stderr}");
    }
    assert_eq!(
        fs::read_to_string(sandbox.file("tokens.json")).unwrap(),
        json
    );
}

#[test]
fn concurrent_processes_lose_no_creations() {
    let sandbox = sandbox_with(HANDWRITTEN);
    let (mut names, mut running) = (sandbox.names(), Vec::new());
    for round in 0..4 {
        for process in 0..8 {
            let name = format!("{round}-{process}");
            running.push(sandbox.start(&format!("create --name {name}")));
            names.insert(name);
        }
        for child in running.drain(..) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
    assert_eq!(sandbox.names(), names);
    assert!(sandbox.text().starts_with(HANDWRITTEN));
    assert_eq!(sandbox.files(), [sandbox.file(FILE)]);
}

#[test]
fn killed_writer_leaves_a_complete_unlocked_file() {
    let sandbox = sandbox_with(HANDWRITTEN);
    let mut known = sandbox.names();
    let (mut killed, mut done) = (0, 0);
    for round in 0..600_u32 {
        // Further rounds are needed only if no writer was killed in time.
        if round >= 60 && killed > 0 {
            break;
        }
        let name = format!("n{round}");
        let mut child = sandbox.start(&format!("create --name {name}"));
        // The kill comes later in each round, to hit different steps of the creation.
        std::thread::sleep(std::time::Duration::from_micros(
            u64::from(round % 60) * 500,
        ));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let now = sandbox.names();
        let new: Vec<_> = now.difference(&known).collect();
        assert!(new.is_empty() || new == [&name], "{new:?}");
        assert!(known.is_subset(&now));
        if output.status.success() {
            assert_eq!(new, [&name], "an acknowledged creation is lost");
            done += 1;
        } else {
            killed += 1;
        }
        known = now;
    }
    assert!(killed > 0, "{killed} killed, {done} done");
    sandbox.create("--name after");
    assert!(sandbox.text().starts_with(HANDWRITTEN));
    assert_eq!(
        sandbox.files(),
        [sandbox.file(FILE)],
        "killed processes leave files"
    );
}

#[cfg(unix)]
#[test]
fn write_keeps_mode_and_symlink() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use crate::sandbox::{mode, set_mode};

    let sandbox = sandbox();
    fs::create_dir(sandbox.file("data")).unwrap();
    let target = sandbox.write("data/current", HANDWRITTEN);
    symlink("data/current", sandbox.file(FILE)).unwrap();
    for original in [0o640, 0o400, 0o644] {
        set_mode(&target, original);
        sandbox.create(&format!("--name {original}"));
        assert_eq!(mode(&target), original);
    }
    assert!(sandbox.file(FILE).symlink_metadata().unwrap().is_symlink());
    // Only root can change the owner of a file. A service under another user must still be able to read it.
    if chown(&target, Some(1), Some(1)).is_ok() {
        sandbox.create("--name owned");
        let owner = fs::metadata(&target).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (1, 1));
        chown(&target, Some(0), Some(0)).unwrap();
    }
    assert!(sandbox.names().len() > 4, "{}", sandbox.text());

    set_mode(&target, 0o664);
    let stderr = sandbox.run("create --name x").failed(4);
    assert!(stderr.contains("chmod go-w"), "{stderr}");
    fs::remove_file(&target).unwrap();
    let stderr = sandbox.run("create --name x").failed(4);
    assert!(
        stderr.contains("no such file") || stderr.contains("No such file"),
        "{stderr}"
    );
    assert_eq!(fs::read_dir(sandbox.file("data")).unwrap().count(), 0);
}

#[test]
fn reports_an_unwritable_directory() {
    let sandbox = sandbox_with(HANDWRITTEN);
    // Prevents the creation of the lock file.
    fs::create_dir(sandbox.file(".tokens.toml.lock")).unwrap();
    let stderr = sandbox.run("create --name x").failed(1);
    assert!(stderr.contains("cannot write"), "{stderr}");
    assert!(
        stderr.contains("its directory must be writable"),
        "{stderr}"
    );
    sandbox.run("list").succeeded();
    assert_eq!(sandbox.text(), HANDWRITTEN);
    #[cfg(unix)]
    {
        fs::remove_dir(sandbox.file(".tokens.toml.lock")).unwrap();
        std::os::unix::fs::symlink("elsewhere", sandbox.file(".tokens.toml.lock")).unwrap();
        sandbox.run("create --name x").failed(1);
        assert_eq!(sandbox.text(), HANDWRITTEN);
    }
}

#[test]
fn update_without_a_change_writes_nothing() {
    let sandbox = sandbox_with(HANDWRITTEN);
    // Prevents every write.
    fs::create_dir(sandbox.file(".tokens.toml.lock")).unwrap();
    sandbox.run("disable 7Hq2mX9bTe").succeeded();
    sandbox
        .run("update 7Hq2mX9bTe --label workspace=w1")
        .succeeded();
}

#[test]
fn get_shows_the_updated_fields() {
    let sandbox = sandbox_with(HANDWRITTEN);
    let shown = sandbox.json("update 7Hq2mX9bTe --name x --description one");
    assert_eq!(
        (&shown["name"], &shown["description"]),
        (&"x".into(), &"one".into())
    );
    assert_eq!(shown["updated_at"], serde_json::Value::Null);
    let again = CommandOutput::of_command(sandbox.command("get 7Hq2mX9bTe -o json")).succeeded();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&again).unwrap(),
        shown
    );
}
