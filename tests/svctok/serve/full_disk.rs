//! Files that `svctok` writes on a full disk.

use std::fs;
use std::path::Path;

use test_support::process::{Finished, Process};

use crate::disk::Disk;
use crate::node::svctok;
use crate::store_fixture::StoreFixture;

fn run(folder: &Path, store: &str, args: &[&str]) -> Finished {
    let mut command = svctok();
    command.current_dir(folder).env("SVCTOK_STORE", store);
    command.env("SVCTOK_CONFIG", folder.join("contexts.toml"));
    Process::spawn(command.args(args)).finish()
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

pub(crate) async fn full_disk_leaves_token_files_and_contexts_unchanged(fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "256k").unwrap();
    let folder = disk.path();
    let store = "file:tokens.toml";
    let description = "x".repeat(1_000);
    for number in 0..20 {
        let name = number.to_string();
        let create = [
            "create",
            "--name",
            &name,
            "--description",
            &description,
            "-o",
            "token",
        ];
        run(folder, store, &create).succeeded();
    }
    let save = [
        "context",
        "save",
        "--skip-validate",
        "--store",
        "sqlite:a.db",
        "--name",
    ];
    run(folder, store, &[&save[..], &["a"]].concat()).succeeded();
    disk.fill();
    let before: Vec<_> = ["tokens.toml", "contexts.toml"]
        .map(|name| fs::read(folder.join(name)).unwrap())
        .into();
    let files = file_names(folder);
    for args in [
        &["create", "--name", "new", "-o", "token"][..],
        &["update", "0000000000", "--name", "x"],
        &[&save[..], &["b"]].concat(),
    ] {
        let output = run(folder, store, args);
        assert!(!output.status.success(), "{args:?}");
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(
            output.stderr.starts_with("error: "),
            "{args:?}: {}",
            output.stderr
        );
    }
    assert_eq!(file_names(folder), files);
    let after: Vec<_> = ["tokens.toml", "contexts.toml"]
        .map(|name| fs::read(folder.join(name)).unwrap())
        .into();
    assert_eq!(after, before);
    disk.empty();
    run(folder, store, &["create", "--name", "new", "-o", "token"]).succeeded();
}

pub(crate) async fn secret_that_cannot_be_written_is_reported_lost(fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "64k").unwrap();
    let target = disk.path().join("secret");
    let target = target.to_str().unwrap();
    disk.fill();
    let create = ["create", "--name", "a", "--output-file", target];
    let output = run(&fixture.folder, &fixture.store, &create);
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert_eq!(file_names(disk.path()), ["filler"]);
    let listed = run(&fixture.folder, &fixture.store, &["list"]).succeeded();
    let is_created = listed.lines().count() == 2;
    assert_eq!(
        is_created,
        output.stderr.contains("its secret is lost"),
        "{}",
        output.stderr
    );
    assert_eq!(
        is_created,
        output.stderr.contains("`svctok rotate "),
        "{}",
        output.stderr
    );
    disk.empty();
    run(&fixture.folder, &fixture.store, &create).succeeded();
    assert!(fs::read_to_string(target).unwrap().starts_with("svctok-"));
}
