use super::*;

fn record(token: &str) -> TokenRecord {
    let id = "7Hq2mX9bTe".parse().expect("an id");
    TokenRecord::new(id, TokenDigest::of(token))
}

fn entry(token: &str) -> String {
    format!("[[tokens]]\ndigest = \"{}\"\n", TokenDigest::of(token))
}

#[test]
fn removing_a_token_keeps_the_comments_before_it() {
    let (a, b) = (entry("a"), entry("b"));
    let text = format!("# all\n\n{a}\n# second\n{b}\n# end\n");
    for (tokens, left) in [
        (&["a"] as &[_], format!("# all\n\n\n# second\n{b}\n# end\n")),
        (&["b"], format!("# all\n\n{a}\n# second\n\n# end\n")),
        (
            &["b", "a"],
            "tokens = []\n# all\n\n\n# second\n\n# end\n".to_owned(),
        ),
    ] {
        let mut text = text.clone();
        for token in tokens {
            let document = Document::parse(Path::new("t.toml"), &text).expect("TOML");
            text = document.remove(&record(token));
        }
        assert_eq!(text, left);
    }
}

/// Applies an update to the token `a` of a text without its digest.
fn updated(text: &str, change: impl FnOnce(TokenRecord) -> TokenRecord) -> String {
    let digest = format!("digest = \"{}\"", TokenDigest::of("a"));
    let text = text.replace("DIGEST", &digest);
    let parse = |text: &str| {
        let mut records = crate::store::file::codec::records(Format::Toml, text);
        records.as_mut().expect("tokens").remove(0)
    };
    let before = parse(&text);
    let after = change(before.clone());
    let fields = |record| Fields::of(record).expect("a record of a file");
    let document = Document::parse(Path::new("t.toml"), &text).expect("TOML");
    let edited = document.update(&before, &after).expect("a known token");
    assert_eq!(
        fields(&parse(&edited)).join("\n"),
        fields(&after).join("\n"),
        "{edited}"
    );
    edited.replace(&digest, "DIGEST")
}

#[test]
fn adds_and_removes_array_elements_in_any_layout() {
    for (roles, wanted, expected) in [
        (r#"["a", "b"]"#, &["a"] as &[_], r#"["a"]"#),
        (r#"["a", "b"]"#, &["b"], r#"["b"]"#),
        (r#"["a", "b"]"#, &["a", "b", "c"], r#"["a", "b", "c"]"#),
        (r#"["a", "b"]"#, &["c"], r#"["c"]"#),
        (r#"["a", "b"]"#, &["b", "a"], r#"["b", "a"]"#),
        (r#"["a", "b",]"#, &["a", "c", "d"], r#"["a", "c", "d",]"#),
        (r#"["a", "b", "c"]"#, &["a", "d"], r#"["a", "d"]"#),
        (r#"["a", "b", "c"]"#, &["c", "d"], r#"["c", "d"]"#),
        (
            "[\"a\", # x\n  \"b\" # y\n]",
            &["a", "c"],
            "[\"a\", \"c\" # y\n]",
        ),
        (
            "[\n\"a\", # x\n\"b\" # y\n]",
            &["b", "c"],
            "[\n\"b\", # y\n\"c\"\n]",
        ),
        (
            "[\n\"a\", # x\n\"b\" # y\n]",
            &["a", "c"],
            "[\n\"a\", # x\n\"c\"\n]",
        ),
        ("[] # none", &["a"], "[\"a\"] # none"),
        ("[ # none\n]", &["a"], "[ # none\n\"a\"\n]"),
    ] {
        let text = format!("[[tokens]]\nDIGEST\nroles = {roles}\n");
        let edited = updated(&text, |it| it.with_roles(wanted.iter().copied()));
        let expected = format!("[[tokens]]\nDIGEST\nroles = {expected}\n");
        assert_eq!(edited, expected, "{roles}");
    }
}

#[test]
fn sets_labels_in_any_layout() {
    for (labels, expected) in [
        (
            "labels = { b = \"1\", a = \"2\" }",
            "labels = { a = \"3\", c = \"4\" }",
        ),
        (
            "labels.b = \"1\"\nlabels.a = \"2\" # a",
            "labels.a = \"3\" # a\nlabels.c = \"4\"",
        ),
        (
            "labels.a = \"2\" # a\nname = \"x\"\nlabels.b = \"1\"",
            "labels.a = \"3\" # a\nname = \"x\"\nlabels.c = \"4\"",
        ),
        (
            "[tokens.labels]\na = \"2\"\nb = \"1\"",
            "[tokens.labels]\na = \"3\"\nc = \"4\"",
        ),
    ] {
        let text = format!("[[tokens]]\nDIGEST\n{labels}\n");
        let edited = updated(&text, |it| {
            let bare = TokenRecord::new(it.id(), *it.digest()).with_name(it.name());
            bare.with_label("a", "3").with_label("c", "4")
        });
        assert_eq!(
            edited,
            format!("[[tokens]]\nDIGEST\n{expected}\n"),
            "{labels}"
        );
    }
}

#[test]
fn removes_all_labels_and_adds_fields_before_a_table_with_a_header() {
    for (labels, expected) in [
        (
            "labels.a = \"1\"\nname = \"x\"\nlabels.b = \"2\"\n",
            "name = \"x\"\nsubject = \"s\"\n",
        ),
        (
            "name = \"x\"\n[tokens.labels]\na = \"1\"\n",
            "name = \"x\"\nsubject = \"s\"\n",
        ),
    ] {
        let text = format!("[[tokens]]\nDIGEST\n{labels}");
        let edited = updated(&text, |it| {
            let bare = TokenRecord::new(it.id(), *it.digest()).with_name(it.name());
            bare.with_subject("s")
        });
        assert_eq!(
            edited,
            format!("[[tokens]]\nDIGEST\n{expected}"),
            "{labels}"
        );
    }
}

#[test]
fn removes_fields_of_an_inline_table() {
    let text = "tokens = [{ name = \"x\", subject = \"s\", DIGEST, description = \"d\" }]\n";
    let edited = updated(text, |it| TokenRecord::new(it.id(), *it.digest()));
    assert_eq!(edited, "tokens = [{ DIGEST }]\n");
}
