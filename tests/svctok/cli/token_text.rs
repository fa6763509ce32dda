//! Tokens in files, on stdin and in environment variables, with the bytes that editors and shells add.

use std::fs;

use crate::sandbox::{Sandbox, id_of};
use crate::test_server::TestServer;

const BOM: &str = "\u{feff}";

/// Accepted texts. `TOKEN` is the placeholder of the token.
const ACCEPTED: [&str; 12] = [
    "TOKEN",
    "TOKEN\n",
    "TOKEN\r\n",
    "TOKEN\r",
    "TOKEN\n\n",
    "TOKEN\r\n\r\n\r\n",
    "\u{feff}TOKEN\r\n",
    "\nTOKEN\n",
    "  TOKEN  \n",
    "\tTOKEN\t",
    " \r\n\t TOKEN \n \n",
    "\u{a0}TOKEN\u{a0}\n",
];

/// Rejected texts, each with the reason in its error.
const REJECTED: [(&str, &str); 11] = [
    ("", "empty"),
    ("\n", "empty"),
    ("\u{feff}\r\n ", "empty"),
    ("TOKEN\nTOKEN\n", "2 lines"),
    ("TOKEN\r\nTOKEN", "2 lines"),
    ("# the token\n\nTOKEN\nx\n", "3 lines"),
    ("TOKEN x", "a space"),
    ("Bearer TOKEN", "a space"),
    ("TOKEN\tx", "a tab"),
    ("TOK\u{feff}EN", "a byte order mark"),
    ("TOK\u{2011}EN", "a character that is not ASCII"),
];

#[test]
fn accepts_one_token_with_whitespace_around_it() {
    let sandbox = Sandbox::new();
    let token = sandbox.create("--name ci");
    let expected = format!("[SUCCESS] Service token is valid: {}\n", id_of(&token));
    for text in ACCEPTED {
        let text = text.replace("TOKEN", &token);
        let output = sandbox.run_with("verify", &text);
        assert_eq!(output.succeeded(), expected, "{text:?} on stdin");
        sandbox.write("token", &text);
        let output = sandbox.run("verify --service-token-file token");
        assert_eq!(output.succeeded(), expected, "{text:?} in a file");
    }
}

#[test]
fn accepts_one_token_with_whitespace_in_variables_and_contexts() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    for text in ACCEPTED {
        let text = text.replace("TOKEN", &token);
        let sandbox = Sandbox::without_store().with("SVCTOK_URL", test_server.url());
        let sandbox = sandbox.with("SVCTOK_TOKEN", &text);
        assert_eq!(sandbox.json("get self")["id"], id_of(&token), "{text:?}");

        let contexts = format!(
            "current = \"a\"\n[contexts.a]\nurl = \"{}\"\nservice_token = {}\n",
            test_server.url(),
            serde_json::to_string(&text).unwrap()
        );
        let sandbox = Sandbox::without_store().with("SVCTOK_CONFIG", "contexts.toml");
        sandbox.write("contexts.toml", &contexts);
        assert_eq!(sandbox.json("get self")["id"], id_of(&token), "{text:?}");
    }
}

#[test]
fn context_stores_the_token_without_whitespace() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let sandbox = Sandbox::without_store().with("SVCTOK_CONFIG", "contexts.toml");
    let sandbox = sandbox.with("SVCTOK_TOKEN", &format!("{BOM} {token} \r\n\r\n"));
    let save = format!("context save --name a --url {}", test_server.url());
    sandbox.run(&save).succeeded();
    let contexts = fs::read_to_string(sandbox.file("contexts.toml")).unwrap();
    let line = format!("service_token = \"{token}\"\n");
    assert!(contexts.contains(&line), "{contexts}");
}

#[test]
fn error_names_the_reason_without_quoting_the_token() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    for (text, reason) in REJECTED {
        let text = text.replace("TOKEN", &token);
        let file = Sandbox::new();
        file.write("token", &text);
        let variable = Sandbox::without_store()
            .with("SVCTOK_URL", test_server.url())
            .with("SVCTOK_TOKEN", &text);
        let code = if reason == "empty" { 2 } else { 1 };
        let stderr = file.run("hash --service-token-file token").failed(code);
        let start = "error: token does not contain a token: it ";
        assert!(stderr.starts_with(start), "{text:?}: {stderr}");
        let mut outputs = vec![stderr, file.run_with("hash", &text).failed(code)];
        if !text.is_empty() {
            let output = variable.run("get self");
            assert!(matches!(output.code, Some(1 | 2 | 4)), "{output:?}");
            outputs.push(output.stderr);
        }
        for stderr in outputs {
            assert!(stderr.contains(reason), "{text:?}: {stderr}");
            assert!(!stderr.contains(&token[18..]), "{text:?}: {stderr}");
        }
    }
}

#[test]
fn error_names_unsupported_encodings() {
    let sandbox = Sandbox::new();
    let token = sandbox.create("--name ci");
    let units: Vec<u16> = format!("{BOM}{token}\r\n").encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for (bytes, reason) in [
        (little, "UTF-16"),
        (big, "UTF-16"),
        (b"\xff\x00\x80".to_vec(), "not UTF-8"),
        (b"abc\0".to_vec(), "a control character"),
        (vec![b'a'; 5_000], "longer than 4096 bytes"),
        (vec![b' '; 100_000], "longer than 4096 bytes"),
    ] {
        fs::write(sandbox.file("token"), &bytes).unwrap();
        let stderr = sandbox.run("hash --service-token-file token").failed(1);
        assert!(stderr.contains(reason), "{stderr}");
    }
}

/// Lines of a shell, of an environment file and of JSON, and what the error says about each.
const WRAPPED: [(&str, &str); 10] = [
    ("\"TOKEN\"\n", "quotes"),
    ("'TOKEN'", "quotes"),
    ("\"TOKEN", "quotes"),
    ("{\"token\":\"TOKEN\"}", "quotes"),
    ("token=TOKEN\n", "a variable assignment"),
    ("SVCTOK_TOKEN=TOKEN", "a variable assignment"),
    ("SVCTOK_TOKEN=\"TOKEN\"", "a variable assignment"),
    ("export X=TOKEN", "a variable assignment"),
    ("export X='TOKEN'\r\n", "a variable assignment"),
    ("$env:X = \"TOKEN\"", "a variable assignment"),
];

#[test]
fn error_names_quotes_and_variable_assignments() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    for (text, reason) in WRAPPED {
        let text = text
            .replace("TOKEN", &token)
            .replace(&format!("SVCTOK_{token}"), "SVCTOK_TOKEN");
        let sandbox = Sandbox::without_store().with("SVCTOK_URL", test_server.url());
        sandbox.write("token", &text);
        for (stderr, named) in [
            (
                sandbox.run("get self --service-token-file token").failed(1),
                "token",
            ),
            (
                sandbox.run("hash --service-token-file token").failed(1),
                "token",
            ),
            (sandbox.run_with("hash", &text).failed(1), "stdin"),
            (
                sandbox
                    .with("SVCTOK_TOKEN", &text)
                    .run("get self")
                    .failed(1),
                "SVCTOK_TOKEN",
            ),
        ] {
            let start = format!("error: {named} does not contain a token: it ");
            assert!(stderr.starts_with(&start), "{text:?}: {stderr}");
            assert!(stderr.contains(reason), "{text:?}: {stderr}");
            assert!(!stderr.contains(&token[18..]), "{text:?}: {stderr}");
        }
    }
}

#[test]
fn errors_for_a_variable_or_a_context_name_it() {
    let test_server = TestServer::start();
    let variable = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", "two words");
    let stderr = variable.run("list").failed(1);
    assert!(
        stderr.contains("SVCTOK_TOKEN does not contain a token: it has a space"),
        "{stderr}"
    );
    let context = Sandbox::without_store().with("SVCTOK_CONFIG", "contexts.toml");
    let contexts = format!(
        "current = \"a\"\n[contexts.a]\nurl = \"{}\"\nservice_token = \"two words\"\n",
        test_server.url()
    );
    context.write("contexts.toml", &contexts);
    let stderr = context.run("list").failed(1);
    assert!(
        stderr.contains("the context a does not contain a token: it has a space"),
        "{stderr}"
    );
}
