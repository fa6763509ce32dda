//! The sources and destinations of secrets, and where they must not appear.

use std::fs;

use serde_json::Value;

use crate::sandbox::{CommandOutput, Sandbox, TOKEN, id_of};

const DIGEST_OF_ABC: &str =
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";

#[test]
fn reads_a_token_from_stdin_a_file_or_a_flag() {
    let sandbox = Sandbox::without_store();
    sandbox.write("token", "abc\n");
    for (words, stdin) in [
        ("hash", "abc"),
        ("hash", "abc\n"),
        ("hash", "abc\r\n"),
        ("hash", "abc\n\n"),
        ("hash -", "abc"),
        ("hash --service-token-stdin", "abc"),
        ("--service-token-stdin hash", "abc"),
        ("hash --service-token -", "abc"),
        ("hash --service-token-file -", "abc"),
        ("hash --service-token-file token", "other"),
        ("hash --service-token abc", "other"),
    ] {
        let stdout = sandbox.run_with(words, stdin).succeeded();
        assert_eq!(stdout, DIGEST_OF_ABC, "{words}");
    }
    for (words, stdin, code) in [
        ("hash", "", 2),
        ("hash", "\n", 2),
        ("hash", "abc\n\nabc", 1),
        ("hash", "a b", 1),
        ("hash", &*"a".repeat(5000), 1),
        ("hash --service-token-file nowhere", "abc", 2),
        ("hash --service-token abc --service-token-stdin", "abc", 2),
    ] {
        sandbox.run_with(words, stdin).failed(code);
    }
}

#[test]
fn hash_ignores_the_environment_token() {
    let sandbox = Sandbox::without_store().with("SVCTOK_TOKEN", TOKEN);
    assert_eq!(sandbox.run_with("hash", "abc").succeeded(), DIGEST_OF_ABC);
}

#[test]
fn rejects_a_token_argument_without_echoing_it() {
    let sandbox = Sandbox::new();
    for words in [
        "hash TOKEN",
        "inspect TOKEN",
        "verify TOKEN",
        "get TOKEN",
        "delete --id TOKEN",
        "list TOKEN",
        "--context TOKEN list",
        "context set TOKEN",
        "TOKEN",
        "list --limit TOKEN",
        "list --store TOKEN",
        "list --state=TOKEN",
        "context set TOKEN TOKEN",
    ] {
        let stderr = sandbox.run(&words.replace("TOKEN", TOKEN)).failed(2);
        assert!(!stderr.contains(&TOKEN[18..]), "{words}: {stderr}");
    }
    let stderr = sandbox
        .run("list --store postgress://u:hush@db/t")
        .failed(2);
    assert!(!stderr.contains("hush"), "{stderr}");
    for (store, code) in [
        ("postgress://u:hush@db/t", 2),
        ("postgres://u:hush@127.0.0.1:1/t?password=hush", 4),
    ] {
        let sandbox = Sandbox::without_store().with("SVCTOK_STORE", store);
        let stderr = sandbox.run("list").failed(code);
        assert!(!stderr.contains("hush"), "{stderr}");
    }
}

#[test]
fn help_shows_no_environment_values() {
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_TOKEN", TOKEN)
        .with("SVCTOK_STORE", "postgres://u:hush@db/t")
        .with("SVCTOK_URL", "https://u:hush@tokens.example");
    for words in [
        "",
        "service-token",
        "list",
        "create",
        "context",
        "context save",
        "verify",
        "serve",
    ] {
        for flag in ["--help", "-h"] {
            let help = sandbox.run(&format!("{words} {flag}")).succeeded();
            assert!(!help.contains("hush") && !help.contains(TOKEN), "{help}");
        }
    }
}

#[test]
fn new_secret_is_printed_once() {
    let sandbox = Sandbox::new();
    for (words, expected) in [
        (
            "create --name a",
            "[SUCCESS] Service token created: SECRET\n",
        ),
        ("create --name b -o token", "SECRET\n"),
        ("rotate ID", "[SUCCESS] Service token rotated: SECRET\n"),
        ("-o token rotate ID", "SECRET\n"),
    ] {
        let id = id_of(&sandbox.create("--name x"));
        let output = sandbox.run(&words.replace("ID", &id));
        // `-o token` is meant for scripts and prints no note.
        let has_note = output
            .stderr
            .starts_with("The secret is only displayed once.");
        assert_eq!(has_note, expected.starts_with("[SUCCESS]"), "{output:?}");
        let stdout = output.succeeded();
        let start = stdout.find("svctok-").unwrap();
        assert_eq!(
            stdout.replace(&stdout[start..start + TOKEN.len()], "SECRET"),
            expected
        );
    }
    let created = sandbox.json("create --name c");
    let secret = created["token"].as_str().unwrap();
    assert_eq!(created["service_token"]["id"], id_of(secret));
    let yaml = sandbox.run("create --name d -o yaml").succeeded();
    assert!(yaml.contains("\ntoken: svctok-"), "{yaml}");

    for words in [
        "list",
        "list -o json",
        "list -o yaml",
        &format!("get {}", id_of(secret)),
    ] {
        let stdout = sandbox.run(words).succeeded();
        assert!(stdout.contains(&id_of(secret)));
        assert!(!stdout.contains(&secret[18..]), "{stdout}");
    }
    assert!(
        sandbox
            .run("list -o token")
            .failed(2)
            .contains("only create and rotate")
    );
}

#[cfg(unix)]
#[test]
fn output_file_is_private() {
    use crate::sandbox::{mode, set_mode};

    let sandbox = Sandbox::new();
    let output = sandbox.run("create --name a --output-file secret");
    assert!(
        output.stderr.contains("The secret is in the file."),
        "{output:?}"
    );
    let stdout = output.succeeded();
    let file = sandbox.file("secret");
    let secret = fs::read_to_string(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(
        stdout,
        format!("[SUCCESS] Service token created: {}\n", id_of(&secret))
    );
    sandbox
        .run("verify --service-token-file secret")
        .succeeded();

    // The existing file is not overwritten, and no token is created.
    let stderr = sandbox
        .run("create --name b --output-file secret")
        .failed(1);
    assert!(stderr.contains("--force"), "{stderr}");
    sandbox
        .run("create --name b --output-file nowhere/secret")
        .failed(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(sandbox.run("list").succeeded().lines().count(), 2);

    set_mode(&file, 0o644);
    let rotate = format!(
        "rotate {} -o json --output-file secret --force",
        id_of(&secret)
    );
    let stdout = sandbox.run(&rotate).succeeded();
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(shown.get("token"), None);
    assert_eq!(mode(&file), 0o600);
    assert_ne!(fs::read_to_string(&file).unwrap(), secret);
    sandbox
        .run("verify --service-token-file secret")
        .succeeded();
    assert_eq!(
        fs::read_dir(&sandbox.path)
            .unwrap()
            .filter(is_temporary)
            .count(),
        0
    );
}

#[cfg(unix)]
fn is_temporary(entry: &std::io::Result<fs::DirEntry>) -> bool {
    let name = entry.as_ref().unwrap().file_name();
    name.to_string_lossy().ends_with(".new")
}

#[cfg(unix)]
#[test]
fn rejects_an_unusable_output_file_before_creating_a_token() {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixListener;

    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.file("folder")).unwrap();
    let _socket = UnixListener::bind(sandbox.file("socket")).unwrap();
    sandbox.create("--name first");
    for words in [
        "folder --force",
        "socket --force",
        "new/",
        "new/.",
        ".. --force",
    ] {
        let stderr = sandbox
            .run(&format!("create --name b --output-file {words}"))
            .failed(1);
        assert!(
            stderr.contains("is not a regular file"),
            "{words}: {stderr}"
        );
    }
    let socket = fs::metadata(sandbox.file("socket")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(sandbox.run("list").succeeded().lines().count(), 2);
    assert_eq!(
        fs::read_dir(&sandbox.path)
            .unwrap()
            .filter(is_temporary)
            .count(),
        0
    );
}

#[cfg(target_os = "linux")]
#[test]
fn reports_a_secret_that_cannot_be_written() {
    use std::fs::File;
    use std::process::{Command, Stdio};

    use crate::sandbox::SVCTOK;

    let sandbox = Sandbox::new();
    sandbox.create("--name first");
    let run_with_full_stdout = |words: &str| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(SVCTOK)
            .args(words.split_whitespace())
            .env("SVCTOK_STORE", "sqlite:tokens.db")
            .current_dir(&sandbox.path)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let output = CommandOutput {
            code: output.status.code(),
            stdout: String::new(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        let stderr = output.failed(1);
        assert!(!stderr.contains("svctok-"), "{stderr}");
        stderr
    };
    for words in ["create --name a", "create --name b -o json"] {
        let stderr = run_with_full_stdout(words);
        assert!(stderr.contains("its secret is lost"), "{stderr}");
        assert!(stderr.contains("`svctok rotate "), "{stderr}");
    }
    let stderr = run_with_full_stdout("create --name c --output-file secret");
    assert!(stderr.contains("The secret is in the file."), "{stderr}");
    assert!(!stderr.contains("lost"), "{stderr}");
    sandbox
        .run("verify --service-token-file secret")
        .succeeded();
}
