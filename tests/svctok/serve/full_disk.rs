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

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

pub(crate) async fn full_disk_keeps_token_files_and_contexts(fixture: StoreFixture) {
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
    let files = names(folder);
    for args in [
        &["create", "--name", "new", "-o", "token"][..],
        &["update", "0000000000", "--name", "x"],
        &[&save[..], &["b"]].concat(),
    ] {
        let ended = run(folder, store, args);
        assert!(!ended.status.success(), "{args:?}");
        assert_eq!(ended.stdout, "", "{args:?}");
        assert!(
            ended.stderr.starts_with("error: "),
            "{args:?}: {}",
            ended.stderr
        );
    }
    assert_eq!(names(folder), files);
    let after: Vec<_> = ["tokens.toml", "contexts.toml"]
        .map(|name| fs::read(folder.join(name)).unwrap())
        .into();
    assert_eq!(after, before);
    disk.empty();
    run(folder, store, &["create", "--name", "new", "-o", "token"]).succeeded();
}

pub(crate) async fn secret_for_a_full_disk_is_reported_lost(fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "64k").unwrap();
    let target = disk.path().join("secret");
    let target = target.to_str().unwrap();
    disk.fill();
    let create = ["create", "--name", "a", "--output-file", target];
    let ended = run(&fixture.folder, &fixture.store, &create);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert_eq!(names(disk.path()), ["filler"]);
    let listed = run(&fixture.folder, &fixture.store, &["list"]).succeeded();
    let is_created = listed.lines().count() == 2;
    assert_eq!(
        is_created,
        ended.stderr.contains("its secret is lost"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        is_created,
        ended.stderr.contains("`svctok rotate "),
        "{}",
        ended.stderr
    );
    disk.empty();
    run(&fixture.folder, &fixture.store, &create).succeeded();
    assert!(fs::read_to_string(target).unwrap().starts_with("svctok-"));
}
