//! A token file, as this tool and people write it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tower_service_token::clock::SystemClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{
    Cached, Credential, DenialKind, FileStore, FileStoreOptions, TokenRecord, verdict,
};
use tower_service_token::token::PresentedToken;
use tower_service_token::{Principal, TokenStore};

use crate::desk::{Desk, Ran, SVCTOK, TOKEN, id_of};

const FILE: &str = "tokens.toml";

/// As people write it.
const WRITTEN: &str = r#"# The tokens of our build machines.

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

fn desk() -> Desk {
    Desk::bare().with("SVCTOK_STORE", "file:tokens.toml")
}

fn desk_with(text: &str) -> Desk {
    let desk = desk();
    desk.write(FILE, text);
    desk
}

impl Desk {
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

    /// Everything in the directory but the home of the test.
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

/// What the layer decides of a token by this file.
fn decided(store: &FileStore, token: &str) -> Result<Principal, DenialKind> {
    let credential = Credential::new(PresentedToken::new(token).unwrap());
    let record: Option<TokenRecord> = match store.find_cached(&credential) {
        Cached::Found(record) => Some(record),
        _ => None,
    };
    verdict(record, &credential, &SystemClock).map_err(|denial| denial.kind())
}

#[test]
fn a_token_that_is_created_works_until_it_is_deleted() {
    let desk = desk();
    let token = desk.create("--name ci --roles a,b --scopes x:y --label k=v --expires-in 30d");
    let principal = decided(&desk.store(), &token).unwrap();
    assert_eq!(principal.name(), "ci");
    assert!(principal.roles().contains("b"));
    assert_eq!(principal.labels().collect::<Vec<_>>(), [("k", "v")]);
    desk.run_with("verify --role a --scope x:y", &token)
        .succeeded();
    let id = id_of(&token);

    desk.run(&format!("disable {id}")).succeeded();
    assert_eq!(
        decided(&desk.store(), &token).err(),
        Some(DenialKind::Disabled)
    );
    desk.run(&format!("enable {id}")).succeeded();
    decided(&desk.store(), &token).unwrap();

    let next = desk.run(&format!("rotate {id} -o token")).succeeded();
    assert_eq!(
        decided(&desk.store(), &token).err(),
        Some(DenialKind::Unknown)
    );
    let next = next.trim_end();
    assert_eq!(decided(&desk.store(), next).unwrap().id().to_string(), id);

    let deleted = desk.run(&format!("delete {id}"));
    assert_eq!(deleted.stderr, "Every node knows within 3 s.\n");
    deleted.succeeded();
    assert_eq!(
        decided(&desk.store(), next).err(),
        Some(DenialKind::Revoked)
    );
    assert!(
        desk.text().contains("\nstate = \"revoked\"\n"),
        "{}",
        desk.text()
    );
    let stderr = desk.run(&format!("enable {id}")).failed(1);
    assert!(stderr.contains("which is final"), "{stderr}");
    for secret in [&token, next] {
        let text = desk.text();
        assert!(!text.contains(&secret[18..]), "{text}");
    }
    assert_eq!(desk.files(), [desk.file(FILE)], "a draft or a lock is left");
}

#[test]
fn a_new_file_says_what_the_token_has_and_is_for_its_owner_alone() {
    let desk = desk();
    let words = "--name ci --roles a,b --expiration 2099-01-31 --subject team --not-before 2026-01-01T12:00:00.5Z";
    let token = desk.create(words);
    let expected = format!(
        "[[tokens]]\nname = \"ci\"\ndigest = \"{}\"\nid = \"{}\"\nroles = [\"a\", \"b\"]\n\
         subject = \"team\"\nexpires_at = \"2099-01-31\"\nnot_before = \"2026-01-01T12:00:00.5Z\"\n",
        TokenDigest::of(&token),
        id_of(&token)
    );
    assert_eq!(desk.text(), expected);
    #[cfg(unix)]
    assert_eq!(crate::desk::mode(&desk.file(FILE)), 0o600);
}

#[test]
fn what_a_change_is_not_about_stays_byte_for_byte() {
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
            let ended = |text: &str| text.replace('\n', line_end);
            let desk = desk_with(&ended(WRITTEN));
            let first = desk.store().records();
            let first = first.iter().find(|it| it.name() == "ci").unwrap().id();
            desk.run(&words.replace("FIRST", &first.to_string()))
                .succeeded();
            let mut expected = WRITTEN.to_owned();
            for (before, after) in changes {
                assert_eq!(expected.matches(before).count(), 1, "{before}");
                expected = expected.replace(before, after);
            }
            assert_eq!(desk.text(), ended(&expected), "{words}");
        }
    }
}

#[test]
fn a_new_token_stands_behind_the_others() {
    let list = "# ours\ntokens = [\n  { digest = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }, # a\n]\n";
    let open = list.replace("},", "}");
    for (text, start, end) in [
        (
            WRITTEN,
            format!("{WRITTEN}\n\n[[tokens]]\nname = \"new\"\n"),
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
            &open,
            list[..list.len() - 2].to_owned() + "  { name = \"new\", digest = \"sha256:",
            "\" }\n]\n",
        ),
    ] {
        let desk = desk_with(text);
        let before = desk.store().records().len();
        desk.create("--name new");
        let now = desk.text();
        assert!(now.starts_with(&start) && now.ends_with(end), "{now}");
        assert_eq!(desk.store().records().len(), before + 1);
    }
}

/// The mark that some editors write, and tables within a line.
#[test]
fn a_token_in_a_list_is_changed_where_it_stands() {
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
        let desk = desk_with(&text);
        desk.run(&format!("{words} --id 7Hq2mX9bTe")).succeeded();
        assert_eq!(desk.text(), text.replace(before, after), "{words}");
    }
}

/// An id that is made from the digest would be another one after a rotation.
#[test]
fn a_rotation_keeps_an_id_that_was_not_written_down() {
    let desk = desk_with(&WRITTEN[..WRITTEN.find("# the second").unwrap()]);
    let id = desk.store().records()[0].id();
    let token = desk.run(&format!("rotate {id} -o token")).succeeded();
    let principal = decided(&desk.store(), token.trim_end()).unwrap();
    assert_eq!(principal.id(), id);
    assert!(desk.text().contains("# nightly"));
}

#[test]
fn what_a_file_cannot_hold_is_refused_and_the_file_stays() {
    let desk = desk_with(WRITTEN);
    for (words, said) in [
        ("rotate 7Hq2mX9bTe --grace 1h", "as a grace needs"),
        ("update 7Hq2mX9bTe --label x=", "a label must not be empty"),
        ("create --name x --label x=", "a label must not be empty"),
        (
            &*format!("update 7Hq2mX9bTe --description {TOKEN}"),
            "cannot hold this: this looks like a token;",
        ),
        ("delete 0000000000", "there is no such token"),
    ] {
        let stderr = desk.run(words).failed(1);
        assert!(stderr.contains(said), "{words}: {stderr}");
        assert!(!stderr.contains("a change may have been made"), "{stderr}");
        assert!(!stderr.contains(&TOKEN[18..]), "{stderr}");
        assert_eq!(desk.text(), WRITTEN, "{words}");
    }
    desk.run("rotate 7Hq2mX9bTe --grace 0s").succeeded();
    assert_ne!(desk.text(), WRITTEN);
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_never_written() {
    for (text, said) in [
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
        let desk = desk_with(text);
        for words in ["create --name x", "delete 7Hq2mX9bTe", "list"] {
            let stderr = desk.run(words).failed(4);
            assert!(stderr.contains(said), "{words}: {stderr}");
            assert!(!stderr.contains(&TOKEN[18..]), "{stderr}");
            assert_eq!(desk.text(), text);
        }
        assert_eq!(desk.files(), [desk.file(FILE)]);
    }
    let mixed = WRITTEN.replacen('\n', "\r\n", 1);
    let desk = desk_with(&mixed);
    let stderr = desk.run("create --name x").failed(1);
    assert!(stderr.contains("the same line end"), "{stderr}");
    assert_eq!(desk.text(), mixed);
}

#[test]
fn only_a_toml_file_is_made_and_changed() {
    let desk = desk();
    let stderr = desk.run("list").failed(4);
    assert!(stderr.contains("there is no such file"), "{stderr}");
    assert!(stderr.contains("`svctok create` makes it"), "{stderr}");
    desk.run("delete 7Hq2mX9bTe").failed(4);
    desk.run("create --name x --store file:nowhere/tokens.toml")
        .failed(1);
    desk.run("create --name x --store file:tokens").failed(4);
    assert_eq!(desk.files(), Vec::<PathBuf>::new());

    let json = format!(
        r#"{{"tokens": [{{"id": "7Hq2mX9bTe", "digest": "{}"}}]}}"#,
        TokenDigest::of("a")
    );
    desk.write("tokens.json", &json);
    let desk = desk.with("SVCTOK_STORE", "file:tokens.json");
    desk.run("get 7Hq2mX9bTe").succeeded();
    for words in ["create --name x", "delete 7Hq2mX9bTe"] {
        let stderr = desk.run(words).failed(1);
        assert!(stderr.contains("a .toml file"), "{stderr}");
    }
    assert_eq!(fs::read_to_string(desk.file("tokens.json")).unwrap(), json);
}

#[test]
fn creations_of_eight_processes_at_a_time_are_all_kept() {
    let desk = desk_with(WRITTEN);
    let (mut names, mut running) = (desk.names(), Vec::new());
    for round in 0..4 {
        for process in 0..8 {
            let name = format!("{round}-{process}");
            running.push(desk.start(&format!("create --name {name}")));
            names.insert(name);
        }
        for child in running.drain(..) {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
    assert_eq!(desk.names(), names);
    assert!(desk.text().starts_with(WRITTEN));
    assert_eq!(desk.files(), [desk.file(FILE)]);
}

#[test]
fn a_writer_that_is_killed_leaves_a_whole_file_and_hinders_nobody() {
    let desk = desk_with(WRITTEN);
    let mut known = desk.names();
    let (mut killed, mut done) = (0, 0);
    for round in 0..600_u32 {
        // More rounds only if each writer so far was done before it could be killed.
        if round >= 60 && killed > 0 {
            break;
        }
        let name = format!("n{round}");
        let mut child = desk.start(&format!("create --name {name}"));
        // Somewhere within the time that a creation takes, later in each round.
        std::thread::sleep(std::time::Duration::from_micros(
            u64::from(round % 60) * 500,
        ));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let now = desk.names();
        let new: Vec<_> = now.difference(&known).collect();
        assert!(new.is_empty() || new == [&name], "{new:?}");
        assert!(known.is_subset(&now));
        if output.status.success() {
            assert_eq!(new, [&name], "what was acknowledged is lost");
            done += 1;
        } else {
            killed += 1;
        }
        known = now;
    }
    assert!(killed > 0, "{killed} killed, {done} done");
    desk.create("--name after");
    assert!(desk.text().starts_with(WRITTEN));
    assert_eq!(desk.files(), [desk.file(FILE)], "what the killed ones left");
}

#[cfg(unix)]
#[test]
fn mode_and_link_stay_as_they_are() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use crate::desk::{mode, set_mode};

    let desk = desk();
    fs::create_dir(desk.file("data")).unwrap();
    let target = desk.write("data/current", WRITTEN);
    symlink("data/current", desk.file(FILE)).unwrap();
    for kept in [0o640, 0o400, 0o644] {
        set_mode(&target, kept);
        desk.create(&format!("--name {kept}"));
        assert_eq!(mode(&target), kept);
    }
    assert!(desk.file(FILE).symlink_metadata().unwrap().is_symlink());
    // Only root can give a file away; whoever runs a service has to read it afterwards as before.
    if chown(&target, Some(1), Some(1)).is_ok() {
        desk.create("--name owned");
        let owner = fs::metadata(&target).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (1, 1));
        chown(&target, Some(0), Some(0)).unwrap();
    }
    assert!(desk.names().len() > 4, "{}", desk.text());

    set_mode(&target, 0o664);
    let stderr = desk.run("create --name x").failed(4);
    assert!(stderr.contains("chmod go-w"), "{stderr}");
    fs::remove_file(&target).unwrap();
    let stderr = desk.run("create --name x").failed(4);
    assert!(
        stderr.contains("no such file") || stderr.contains("No such file"),
        "{stderr}"
    );
    assert_eq!(fs::read_dir(desk.file("data")).unwrap().count(), 0);
}

#[test]
fn a_place_that_cannot_be_written_to_is_told() {
    let desk = desk_with(WRITTEN);
    // In the way of the lock.
    fs::create_dir(desk.file(".tokens.toml.lock")).unwrap();
    let stderr = desk.run("create --name x").failed(1);
    assert!(stderr.contains("cannot write"), "{stderr}");
    assert!(
        stderr.contains("its directory must be writable"),
        "{stderr}"
    );
    desk.run("list").succeeded();
    assert_eq!(desk.text(), WRITTEN);
    #[cfg(unix)]
    {
        fs::remove_dir(desk.file(".tokens.toml.lock")).unwrap();
        std::os::unix::fs::symlink("elsewhere", desk.file(".tokens.toml.lock")).unwrap();
        desk.run("create --name x").failed(1);
        assert_eq!(desk.text(), WRITTEN);
    }
}

#[test]
fn an_update_of_nothing_writes_nothing() {
    let desk = desk_with(WRITTEN);
    // In the way of anyone who would write.
    fs::create_dir(desk.file(".tokens.toml.lock")).unwrap();
    desk.run("disable 7Hq2mX9bTe").succeeded();
    desk.run("update 7Hq2mX9bTe --label workspace=w1")
        .succeeded();
}

#[test]
fn a_token_is_shown_as_the_file_has_it() {
    let desk = desk_with(WRITTEN);
    let shown = desk.json("update 7Hq2mX9bTe --name x --description one");
    assert_eq!(
        (&shown["name"], &shown["description"]),
        (&"x".into(), &"one".into())
    );
    assert_eq!(shown["updated_at"], serde_json::Value::Null);
    let again = Ran::of(desk.command("get 7Hq2mX9bTe -o json")).succeeded();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&again).unwrap(),
        shown
    );
}
