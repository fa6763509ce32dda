//! Holds the source to the design: which module may use which, their order, and how long things get.
//!
//! 1. Every path that begins at the crate's root, or climbs out of its module with `super`, is an
//!    edge from the module of its file to the module it names; `ALLOWED_DEPENDENCIES` lists the allowed ones.
//! 2. Doc comments, attributes, visibilities and `#[cfg(test)]` items make no edges.
//! 3. Macro bodies are read token by token, so a path in a macro counts like any other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// The modules in the order in which a request passes through them, and what each may use.
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("token", &[]),
    ("digest", &["token"]),
    ("principal", &["clock", "token", "digest"]),
    ("header", &["token"]),
    ("transport", &[]),
    (
        "store",
        &["clock", "token", "principal", "digest", "transport"],
    ),
    (
        "lifecycle",
        &["clock", "token", "principal", "digest", "store"],
    ),
    ("limits", &["clock", "token", "digest"]),
    ("reject", &["token", "principal"]),
    ("observe", &["token", "principal", "limits", "reject"]),
    (
        "middleware",
        &[
            "clock",
            "token",
            "principal",
            "header",
            "digest",
            "store",
            "limits",
            "reject",
            "observe",
        ],
    ),
    ("authorize", &["principal", "limits", "reject", "observe"]),
    (
        "api",
        &[
            "clock",
            "token",
            "principal",
            "header",
            "digest",
            "store",
            "lifecycle",
            "limits",
            "reject",
            "observe",
            "middleware",
            "authorize",
        ],
    ),
    (
        "client",
        &[
            "clock",
            "token",
            "digest",
            "transport",
            "store",
            "lifecycle",
        ],
    ),
    (
        "testing",
        &["clock", "token", "principal", "digest", "store"],
    ),
    ("guide", &[]),
];

const MAX_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 50;
const GENERIC_NAMES: [&str; 5] = ["utils", "helpers", "common", "types", "prelude"];

/// A path to the crate's root itself, which could be climbed from anywhere.
const ROOT: &str = "the crate root";

/// The segments of each path that may leave its module, `{` and `}` never among them.
type Segments = Vec<String>;

/// Collects the modules at the top of the crate that one file uses.
struct Uses<'a> {
    /// The module of the code at hand, from the root down.
    module: Segments,
    root_exports: &'a BTreeMap<String, String>,
    found: Vec<String>,
    glob_exports: Vec<String>,
    modules: Vec<String>,
}

impl Uses<'_> {
    /// Where `path` leads, if it names the root or climbs to it.
    fn record(&mut self, path: &[String]) {
        let mut module = self.module.clone();
        let mut rest = path;
        if path.first().is_some_and(|first| first == "crate") {
            module.clear();
            rest = &path[1..];
        } else if !path.iter().any(|segment| segment == "super") {
            return;
        }
        while let Some(first) = rest.first() {
            match first.as_str() {
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = &rest[1..];
        }
        if !module.is_empty() {
            return;
        }
        let target = match rest.first() {
            None => ROOT,
            Some(name) => self.root_exports.get(name).unwrap_or(name),
        };
        self.found.push(target.to_owned());
    }

    fn record_use(&mut self, tree: &UseTree, mut path: Segments) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.record_use(&tree.tree, path);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.record_use(tree, path.clone());
                }
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.record(&path);
            }
            UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                self.record(&path);
            }
            UseTree::Glob(_) => self.record(&path),
        }
    }

    /// The paths among the tokens of a macro.
    fn record_tokens(&mut self, mut cursor: Cursor<'_>) {
        let mut path = Segments::new();
        let mut after_colons = false;
        while !cursor.eof() {
            if let Some((ident, next)) = cursor.ident() {
                if !after_colons {
                    self.record(&std::mem::take(&mut path));
                }
                path.push(ident.to_string());
                (cursor, after_colons) = (next, false);
            } else if let Some((punct, next)) = cursor.punct() {
                let colons = punct.as_char() == ':' && next.punct().is_some_and(is_colon);
                if colons {
                    let (_, behind) = next.punct().expect("the second colon");
                    (cursor, after_colons) = (behind, true);
                    continue;
                }
                self.record(&std::mem::take(&mut path));
                after_colons = false;
                let is_attribute = punct.as_char() == '#' && next.any_group().is_some();
                cursor = match next.any_group() {
                    Some((.., behind)) if is_attribute => behind,
                    _ => next,
                };
            } else if let Some((inside, _, _, next)) = cursor.any_group() {
                if after_colons {
                    self.record_group(&path, inside);
                    path.clear();
                } else {
                    self.record(&std::mem::take(&mut path));
                    self.record_tokens(inside);
                }
                (cursor, after_colons) = (next, false);
            } else {
                let (_, next) = cursor.token_tree().expect("not at the end");
                self.record(&std::mem::take(&mut path));
                (cursor, after_colons) = (next, false);
            }
        }
        self.record(&path);
    }

    /// A group of a `use` within a macro: each of its first names continues `path`.
    fn record_group(&mut self, path: &[String], mut cursor: Cursor<'_>) {
        let mut begins = true;
        while let Some((tree, next)) = cursor.token_tree() {
            let text = tree.to_string();
            if begins {
                self.record(&[path, std::slice::from_ref(&text)].concat());
            }
            begins = text == ",";
            cursor = next;
        }
    }
}

fn is_colon<P: ToString>((punct, _): (P, Cursor<'_>)) -> bool {
    punct.to_string() == ":"
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.meta.require_list();
        attribute.path().is_ident("cfg")
            && condition.is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.modules.push(item.ident.to_string());
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !matches!(item.vis, Visibility::Inherited) && has_glob(&item.tree) {
            let module = self.module.join("::");
            self.glob_exports.push(module);
        }
        self.record_use(&item.tree, Segments::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if item.ident == "self" {
            self.found.push(ROOT.to_owned());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let segments: Segments = segments.map(|segment| segment.ident.to_string()).collect();
        self.record(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        let tokens = TokenBuffer::new2(invocation.tokens.clone());
        self.record_tokens(tokens.begin());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn has_glob(tree: &UseTree) -> bool {
    match tree {
        UseTree::Glob(_) => true,
        UseTree::Path(path) => has_glob(&path.tree),
        UseTree::Group(group) => group.items.iter().any(has_glob),
        _ => false,
    }
}

/// What `lib.rs` declares: its modules in order, and the module behind each name it re-exports.
#[derive(Debug, Default)]
struct Root {
    modules: Vec<String>,
    exports: BTreeMap<String, String>,
}

impl Root {
    fn read(source: &str) -> Self {
        let mut root = Self::default();
        for item in syn::parse_file(source).expect("Rust").items {
            match item {
                Item::Mod(item) => root.modules.push(item.ident.to_string()),
                Item::Use(item) => root.export(&item.tree, &mut Vec::new()),
                _ => {}
            }
        }
        root
    }

    fn export(&mut self, tree: &UseTree, path: &mut Segments) {
        match tree {
            UseTree::Path(tree) => {
                let length = path.len();
                path.extend((tree.ident != "self").then(|| tree.ident.to_string()));
                self.export(&tree.tree, path);
                path.truncate(length);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.export(tree, path)),
            UseTree::Name(name) => {
                self.exports.insert(name.ident.to_string(), path[0].clone());
            }
            UseTree::Rename(name) => {
                self.exports
                    .insert(name.rename.to_string(), path[0].clone());
            }
            UseTree::Glob(_) => panic!("lib.rs re-exports something this test cannot read"),
        }
    }
}

fn parsed<'a>(module: &[&str], source: &str, root: &'a Root) -> Uses<'a> {
    let mut uses = Uses {
        module: module.iter().map(ToString::to_string).collect(),
        root_exports: &root.exports,
        found: Vec::new(),
        glob_exports: Vec::new(),
        modules: Vec::new(),
    };
    uses.visit_file(&syn::parse_file(source).expect("Rust"));
    uses
}

/// The modules that `source`, a file of `module`, uses and may not.
fn forbidden_uses(module: &[&str], source: &str, root: &Root) -> Vec<String> {
    let top = module[0];
    let allowed = ALLOWED_DEPENDENCIES.iter().find(|(name, _)| *name == top);
    let allowed = allowed.unwrap_or_else(|| panic!("{top} is not in the table"));
    let mut found = parsed(module, source, root).found;
    found.retain(|used| used != top && !allowed.1.contains(&used.as_str()));
    found
}

struct SourceFile {
    path: PathBuf,
    /// From the root down; empty for `lib.rs`.
    module: Segments,
    text: String,
}

impl SourceFile {
    fn module(&self) -> Vec<&str> {
        self.module.iter().map(String::as_str).collect()
    }
}

fn source_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect_files(Path::new("../src"), &[], &mut files);
    assert!(files.len() > 30, "{} files", files.len());
    files
}

fn collect_files(folder: &Path, module: &[String], files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.expect("a name in UTF-8").to_owned();
        let is_named_by_folder = ["lib", "mod", "main"].contains(&stem.as_str());
        let own = (!is_named_by_folder).then_some(stem);
        let module: Segments = module.iter().cloned().chain(own).collect();
        if path.is_dir() {
            collect_files(&path, &module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a text");
            files.push(SourceFile { path, module, text });
        }
    }
}

fn root() -> Root {
    Root::read(&fs::read_to_string("../src/lib.rs").expect("a text"))
}

#[test]
fn modules_use_only_allowed_modules() {
    let root = root();
    let mut edges = 0;
    for file in source_files() {
        // A binary has a root of its own and uses the crate from without.
        if file.module.first().is_none_or(|module| module == "bin") {
            continue;
        }
        edges += parsed(&file.module(), &file.text, &root).found.len();
        let forbidden = forbidden_uses(&file.module(), &file.text, &root);
        assert!(
            forbidden.is_empty(),
            "{} uses {forbidden:?}",
            file.path.display()
        );
    }
    assert!(edges > 40, "only {edges} uses were seen");
}

#[test]
fn allowed_dependencies_follow_the_module_order() {
    for (place, (module, allowed)) in ALLOWED_DEPENDENCIES.iter().enumerate() {
        for used in *allowed {
            let before = ALLOWED_DEPENDENCIES[..place]
                .iter()
                .any(|(name, _)| name == used);
            assert!(before, "{module} before {used}");
        }
    }
}

#[test]
fn lib_rs_declares_modules_in_order() {
    let table: Vec<_> = ALLOWED_DEPENDENCIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(root().modules, table);
}

#[test]
fn re_exports_resolve_to_their_modules() {
    let root = root();
    assert_eq!(root.exports["Principal"], "principal");
    assert_eq!(root.exports["TokenStore"], "store");
    assert_eq!(root.exports["ServiceTokenLayer"], "middleware");
}

/// Source texts of `header`, which may use `token` alone, with what must be reported.
const FORBIDDEN_EXAMPLES: &[(&str, &[&str])] = &[
    ("use crate::store::TokenStore;", &["store"]),
    ("use crate::store as token;", &["store"]),
    (
        "use crate::{token::TokenId, store::TokenStore};",
        &["store"],
    ),
    (
        "use crate::{token::{TokenId, TokenShape}, reject::{Rejection as R}, TokenStore};",
        &["reject", "store"],
    ),
    ("use crate::Principal;", &["principal"]),
    ("use crate::clock::*;", &["clock"]),
    ("use crate::*;", &[ROOT]),
    ("use crate as token;", &[ROOT]),
    ("use crate::{self as token};", &[ROOT]),
    ("extern crate self as token;", &[ROOT]),
    ("pub use super::store::Cached;", &["store"]),
    ("use super as token;", &[ROOT]),
    ("use self::super::store;", &["store"]),
    ("fn f() { crate::store::verdict(); }", &["store"]),
    (
        "fn f() { if crate::store::X { super::reject::y() } }",
        &["store", "reject"],
    ),
    ("fn f(_: &crate::store::TokenRecord) {}", &["store"]),
    (
        "fn f() -> Option<Vec<crate::store::Cached>> { None }",
        &["store"],
    ),
    ("fn f<T: crate::store::TokenStore>() {}", &["store"]),
    ("impl crate::TokenStore for X {}", &["store"]),
    (
        "fn f() { match x { crate::store::Cached::Miss => {} } }",
        &["store"],
    ),
    ("fn f() { use crate::store::Cached; }", &["store"]),
    ("mod a { fn f() { super::super::store::f() } }", &["store"]),
    ("#[cfg(not(test))] use crate::store::Cached;", &["store"]),
    ("fn f() { println!(\"{}\", crate::store::X); }", &["store"]),
    ("fn f() { vec![[(super::store::X)]] }", &["store"]),
    (
        "macro_rules! m { ($a:ident) => { impl $a { fn f() { $crate::store::x() } } }; }",
        &["store"],
    ),
    (
        "m! { use crate::{token, store::{A, B}, clock}; }",
        &["store", "clock"],
    ),
    ("fn f() { crate::store::m!() }", &["store"]),
];

/// Source texts of `header` with nothing to report.
const ALLOWED_EXAMPLES: &[&str] = &[
    "use crate::token::TokenId;",
    "use super::token::{PresentedToken, TokenId};",
    "fn f() { crate::header::g(); self::store::f(); store::g() }",
    "mod a { use super::store; }",
    "//! See crate::store.\n/// And [`crate::store`].\nfn f() {}",
    "#[doc = \"crate::store\"]\n#[my(crate::store)]\nfn f() {}",
    "pub(in crate::store) fn f() {}",
    "#[cfg(test)]\nmod tests { use crate::store::Cached; }",
    "#[cfg(test)]\nuse crate::store::Cached;",
    "m! { /// [`crate::store`]\n #[doc = \"crate::store\"] #[my(crate::store)] struct A; }",
    "fn f() { g!(\"crate::store\", crate::token::X, a::store::b) }",
];

#[test]
fn reports_forbidden_uses() {
    let root = root();
    for (source, expected) in FORBIDDEN_EXAMPLES {
        let reported = forbidden_uses(&["header"], source, &root);
        assert_eq!(&reported, expected, "{source}");
    }
    for source in ALLOWED_EXAMPLES {
        let reported = forbidden_uses(&["header"], source, &root);
        assert!(reported.is_empty(), "{reported:?} in {source}");
    }
}

#[test]
fn reports_forbidden_uses_through_super() {
    let root = root();
    let within = "use super::record::X; fn f() { super::super::clock::g() }";
    assert_eq!(
        forbidden_uses(&["store", "memory"], within, &root),
        Vec::<String>::new()
    );
    let out = "use super::super::middleware; fn f() { g!(super::super::reject::h()) }";
    assert_eq!(
        forbidden_uses(&["store", "memory"], out, &root),
        ["middleware", "reject"]
    );
}

#[test]
fn rejects_generic_module_names() {
    let root = root();
    for file in source_files() {
        let declared = parsed(&file.module(), &file.text, &root).modules;
        for name in file.module.iter().chain(&declared) {
            assert!(
                !GENERIC_NAMES.contains(&name.as_str()),
                "{name} in {}",
                file.path.display()
            );
        }
    }
    let planted = parsed(&["header"], "mod utils;", &root).modules;
    assert_eq!(planted, ["utils"]);
}

#[test]
fn rejects_glob_re_exports() {
    let root = root();
    for file in source_files() {
        let globs = parsed(&file.module(), &file.text, &root).glob_exports;
        assert!(globs.is_empty(), "{}", file.path.display());
    }
    for planted in [
        "pub use self::a::*;",
        "pub(crate) use self::{a::{b, c::*}};",
    ] {
        let globs = parsed(&["header"], planted, &root).glob_exports;
        assert_eq!(globs, ["header"], "{planted}");
    }
}

/// `source` with the insides of comments, strings and characters blanked out, line by line alike.
fn without_texts(source: &str) -> String {
    let mut blank = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = text_length(rest);
        let taken = length.max(first.len_utf8());
        let (text, behind) = rest.split_at(taken);
        if length == 0 {
            blank.push_str(text);
        } else {
            blank.extend(text.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = behind;
    }
    blank
}

/// How long the comment, string or character is that `source` begins with; 0 if it begins otherwise.
fn text_length(source: &str) -> usize {
    let until = |end: &str, start: usize| {
        let found = source[start..].find(end);
        found.map_or(source.len(), |at| start + at + end.len())
    };
    if source.starts_with("//") {
        return until("\n", 2) - 1;
    }
    if source.starts_with("/*") {
        return until("*/", 2);
    }
    if source.starts_with('"') {
        return quoted_length(source);
    }
    if let Some(raw) = source.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return until(&end, 2 + hashes);
        }
    }
    // A lifetime has no second quote within reach of a character.
    if source.starts_with("'\\") {
        return until("'", 3);
    }
    let mut characters = source.char_indices();
    match (characters.next(), characters.next(), characters.next()) {
        (Some((_, '\'')), Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

fn quoted_length(source: &str) -> usize {
    let mut escaped = true;
    for (at, character) in source.char_indices() {
        if character == '"' && !escaped {
            return at + 1;
        }
        // The opening quote counts as escaped.
        escaped = character == '\\' && !escaped;
    }
    source.len()
}

fn code_lines(source: &str) -> usize {
    let lines = source.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

/// The name and the number of code lines of each function with a body.
fn functions(source: &str) -> Vec<(String, usize)> {
    let blank = without_texts(source);
    let starts = regex::Regex::new(r"\bfn\s+(\$?\w+)").expect("a regular expression");
    let mut functions = Vec::new();
    for found in starts.captures_iter(&blank) {
        let start = found.get(0).expect("the match").start();
        let Some(end) = end_of_body(&blank[start..]) else {
            continue;
        };
        // Comments are told from code in the original, which has the same lines.
        let first = blank[..start].matches('\n').count();
        let count = blank[start..start + end].matches('\n').count() + 1;
        let lines: Vec<_> = source.lines().skip(first).take(count).collect();
        functions.push((found[1].to_owned(), code_lines(&lines.join("\n"))));
    }
    functions
}

/// Where the body ends that belongs to the signature at the start; `None` if it has no body.
fn end_of_body(source: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for (at, character) in source.char_indices() {
        match character {
            '{' => braces += 1,
            '}' => braces -= 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
        if character == '}' && braces == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[test]
fn files_and_functions_stay_below_their_length_limits() {
    let mut seen = 0;
    for file in source_files() {
        let lines = code_lines(&file.text);
        let path = file.path.display();
        assert!(lines <= MAX_FILE_LINES, "{path} has {lines}");
        for (name, lines) in functions(&file.text) {
            seen += 1;
            assert!(lines <= MAX_FUNCTION_LINES, "{name} of {path} has {lines}");
        }
    }
    assert!(seen > 200, "only {seen} functions were seen");
}

#[test]
fn counts_lines_of_functions() {
    let body = "    step();\n\n    // why\n".repeat(51);
    let long = format!("impl A {{\nfn long<'a>(x: &'a [u8; 2]) {{\n{body}}}\n}}");
    assert_eq!(functions(&long), [("long".to_owned(), 53)]);
    assert_eq!(code_lines(&long), 55);
    let tricky = r##"
        trait A { fn none(&self, x: [u8; 2]); fn one(&self) {} }
        fn texts() {
            let a = "}\"}"; /* } */ let b = '}'; // }
            let c = r#"}"}"#; let d = '\''; let e = b'}';
            let f: fn(u8) -> u8 = |x| { x };
        }
        fn after() {}
    "##;
    let expected = [("one", 1), ("texts", 5), ("after", 1)];
    assert_eq!(
        functions(tricky),
        expected.map(|(name, lines)| (name.to_owned(), lines))
    );
}
