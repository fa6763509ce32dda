//! Changes by this `svctok` to a token file that commit bf60f67 wrote, a fixture of `tests/sql`.

use tower_service_token::digest::TokenDigest;
use tower_service_token::store::TokenState;
use tower_service_token::store::file::FileStore;

use crate::sandbox::Sandbox;

#[test]
fn svctok_edits_an_earlier_token_file() {
    let sandbox = Sandbox::without_store();
    let fixture = include_str!("../../sql/fixtures/bf60f67.toml");
    let path = sandbox.write("tokens.toml", fixture);
    let sandbox = sandbox.with("SVCTOK_STORE", "file:tokens.toml");
    let listed = sandbox.run("list -o json").succeeded();
    assert!(listed.contains("deploy ä"), "{listed}");
    let rotated = sandbox.run("rotate -o token --id yrpelMa6Xg").succeeded();
    sandbox.run("delete --id viPMG8Y025").succeeded();
    sandbox.run("enable --id k6pumpZUe7").succeeded();
    let store = FileStore::open(&path).unwrap();
    let record = |name: &str| {
        let records = store.records();
        records.into_iter().find(|it| it.name() == name).unwrap()
    };
    let digest = TokenDigest::of(rotated.trim());
    assert_eq!(*record("deploy ä").digest(), digest);
    assert_eq!(record("rotated").state(), TokenState::Revoked);
    assert_eq!(record("disabled").state(), TokenState::Active);
}
