//! Checks the structure of `src`: module order, cycles between files, names and lengths.
//!
//! The checks read paths from the source text, without comments, strings and `#[cfg(test)]` items.
//! They follow a path through re-exports to the file that defines the item. A re-export does not
//! count as a use, so that a `mod.rs` can re-export items of its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;

/// Stores that implement `TokenRegistry`. They are in `store`, where users expect them, but in the
/// module order they come just before `lifecycle`.
const STORES: [&str; 4] = [
    "store::cached",
    "store::file",
    "store::memory",
    "store::sql",
];

const MAX_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 50;
const MEANINGLESS_NAMES: [&str; 5] = ["utils", "helpers", "common", "types", "prelude"];

/// The files below `src`, by module path, such as `store::memory::table`. The path of `lib.rs` is
/// empty.
struct Crate {
    files: BTreeMap<String, SourceFile>,
}

struct SourceFile {
    path: String,
    text: String,
    uses: Vec<String>,
    /// The names that the file re-exports, with the absolute path of each.
    exports: BTreeMap<String, String>,
}

impl Crate {
    fn read(root: &str) -> Self {
        let mut files = BTreeMap::new();
        collect_files(Path::new(root), "", &mut files);
        Self { files }
    }

    fn insert(&mut self, module: &str, text: &str) {
        let file = SourceFile::new(module, module.to_owned(), text.to_owned());
        self.files.insert(module.to_owned(), file);
    }

    /// Returns the file that defines the item at `path`.
    fn resolve(&self, path: &str) -> &str {
        let (mut module, mut rest) = ("", path);
        loop {
            let (name, remainder) = rest.split_once("::").unwrap_or((rest, ""));
            let end = path.len() - remainder.len();
            let module_path = path[..end].trim_end_matches("::");
            let Some((known, _)) = self.files.get_key_value(module_path) else {
                let exported = self.files[module].exports.get(name);
                return match exported.filter(|target| *target != path) {
                    Some(target) => self.resolve(target),
                    None => module,
                };
            };
            (module, rest) = (known, remainder);
            if rest.is_empty() {
                return module;
            }
        }
    }

    /// Returns each file with the other files that it uses.
    fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let uses_of = |(module, file): (&String, &SourceFile)| {
            let uses = file.uses.iter().map(|path| self.resolve(path));
            uses.filter(|used| used != module)
                .map(ToOwned::to_owned)
                .collect::<BTreeSet<_>>()
        };
        let mut edges = BTreeMap::new();
        for (module, file) in &self.files {
            let used = uses_of((module, file));
            let used = used
                .iter()
                .map(|used| self.files.get_key_value(used).expect("a file").0.as_str());
            edges.insert(module.as_str(), used.collect());
        }
        edges
    }

    /// Returns the sets of files that use each other.
    fn cycles(&self) -> BTreeSet<BTreeSet<&str>> {
        let edges = self.edges();
        let reachable = |from: &str| {
            let (mut visited, mut pending) = (BTreeSet::new(), vec![from.to_owned()]);
            while let Some(module) = pending.pop() {
                for used in &edges[module.as_str()] {
                    if visited.insert(*used) {
                        pending.push((*used).to_owned());
                    }
                }
            }
            visited
        };
        let reachable: BTreeMap<&str, BTreeSet<&str>> = edges
            .keys()
            .map(|module| (*module, reachable(module)))
            .collect();
        let cycle_of = |module: &str| -> BTreeSet<&str> {
            let reached = reachable[module].iter().copied();
            reached
                .filter(|other| reachable[other].contains(module))
                .collect()
        };
        let cycles = edges.keys().map(|module| cycle_of(module));
        cycles.filter(|cycle| cycle.len() > 1).collect()
    }
}

impl SourceFile {
    fn new(module: &str, path: String, text: String) -> Self {
        let code = without_tests(&without_comments_and_literals(&text));
        let (mut uses, mut exports) = (Vec::new(), BTreeMap::new());
        let paths =
            Regex::new(r"(pub(?:\([^)]*\))? use )?\b(?:crate|super|self)::").expect("valid");
        for found in paths.captures_iter(&code) {
            let start = found.get(0).expect("the match").start();
            let is_export = found.get(1).is_some();
            let start = start + found.get(1).map_or(0, |export| export.len());
            let mut leaves = Vec::new();
            expand(&code[start..], "", &mut leaves);
            for (path, name) in leaves {
                let Some(path) = absolute(module, &path) else {
                    continue;
                };
                if is_export {
                    exports.insert(name, path);
                } else {
                    uses.push(path);
                }
            }
        }
        Self {
            path,
            text,
            uses,
            exports,
        }
    }

    fn declared_modules(&self) -> Vec<String> {
        let declared = Regex::new(r"(?m)^(?:pub(?:\([^)]*\))? )?mod (\w+)").expect("valid");
        declared
            .captures_iter(&self.text)
            .map(|found| found[1].to_owned())
            .collect()
    }
}

fn collect_files(folder: &Path, module: &str, files: &mut BTreeMap<String, SourceFile>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a directory entry").path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("UTF-8");
        let is_root = ["lib", "mod", "main"].contains(&stem);
        let name = match (module, is_root) {
            (_, true) => module.to_owned(),
            ("", false) => stem.to_owned(),
            (_, false) => format!("{module}::{stem}"),
        };
        if path.is_dir() {
            // The binary is a separate crate.
            if name != "bin" {
                collect_files(&path, &name, files);
            }
        } else if path.extension().is_some_and(|it| it == "rs") && stem != "tests" {
            let text = fs::read_to_string(&path).expect("a text file");
            let file = SourceFile::new(&name, path.display().to_string(), text);
            files.insert(name, file);
        }
    }
}

/// Collects the paths of the `use` tree or path at the start of `code`, each with the name that it
/// introduces. Returns the length of the tree.
fn expand(code: &str, prefix: &str, leaves: &mut Vec<(String, String)>) -> usize {
    let ident = code
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(code.len());
    let path = format!("{prefix}{}", &code[..ident]);
    let Some(remainder) = code[ident..].strip_prefix("::") else {
        let renamed = code[ident..].strip_prefix(" as ").map(|name| {
            name.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .expect("a part")
        });
        let name = renamed.unwrap_or(&code[..ident]).to_owned();
        leaves.push((path.trim_end_matches("::self").to_owned(), name));
        return ident;
    };
    let start = ident + 2;
    let Some(group) = remainder.strip_prefix('{') else {
        return start + expand(remainder, &format!("{path}::"), leaves);
    };
    let mut at = 0;
    while let Some(next) = group[at..].find(|c: char| c.is_alphanumeric() || c == '_' || c == '}') {
        at += next;
        if group[at..].starts_with('}') {
            break;
        }
        at += expand(&group[at..], &format!("{path}::"), leaves);
        let renamed = group[at..].find([',', '}']).unwrap_or(0);
        at += renamed;
    }
    start + 1 + at
}

/// Resolves `path`, written in a file of `module`, to a path from the crate root.
fn absolute(module: &str, path: &str) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts = path.split("::").peekable();
    if parts.next_if_eq(&"crate").is_some() {
        base.clear();
    }
    while let Some(first) = parts.next_if(|part| ["self", "super"].contains(part)) {
        if first == "super" {
            base.pop()?;
        }
    }
    base.extend(parts);
    Some(base.join("::"))
}

/// Returns `source` with comments, strings and characters replaced by spaces. Line breaks stay.
fn without_comments_and_literals(source: &str) -> String {
    let patterns =
        r##"//[^\n]*|(?s)/\*.*?\*/|(?s)r#".*?"#|r"[^"]*"|"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^\\'])'"##;
    let patterns = Regex::new(patterns).expect("valid");
    let blank = |found: &regex::Captures<'_>| -> String {
        found[0]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect()
    };
    patterns.replace_all(source, blank).into_owned()
}

/// Returns `code` without the items that have `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut code_without_tests = String::new();
    while let Some((before, item)) = rest.split_once("#[cfg(test)]") {
        code_without_tests.push_str(before);
        rest = &item[end_of_item(item)..];
    }
    code_without_tests + rest
}

/// Returns the length of the item at the start of `code`, up to its `;` or closing brace.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0_i32;
    for (at, character) in code.char_indices() {
        match character {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(character, ';' | '}') {
            return at + 1;
        }
    }
    code.len()
}

fn code_lines<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    let lines = lines.map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

/// Returns the name and the number of code lines of each function with a body.
fn functions(source: &str) -> Vec<(String, usize)> {
    let code = without_comments_and_literals(source);
    let starts = Regex::new(r"\bfn\s+(\$?\w+)").expect("valid");
    let function = |found: regex::Captures<'_>| {
        let start = found.get(0).expect("the match").start();
        let end = start + end_of_item(&code[start..]);
        let first = code[..start].matches('\n').count();
        let count = code[start..end].matches('\n').count() + 1;
        (
            found[1].to_owned(),
            code_lines(source.lines().skip(first).take(count)),
        )
    };
    starts.captures_iter(&code).map(function).collect()
}

fn source() -> Crate {
    let source = Crate::read("../src");
    assert!(source.files.len() > 100, "{} files", source.files.len());
    source
}

/// Returns the position of a module in the order of `lib.rs`.
fn position(order: &[String], module: &str) -> usize {
    let is_store = STORES.iter().any(|store| module.starts_with(store));
    let top = module.split("::").next().expect("a part");
    let top = if is_store { "lifecycle" } else { top };
    let position = order.iter().position(|name| name == top);
    let position = position.unwrap_or_else(|| panic!("{module} is not in lib.rs"));
    2 * position + usize::from(!is_store)
}

#[test]
fn modules_use_only_earlier_modules() {
    let source = source();
    let order = source.files[""].declared_modules();
    let mut uses = 0;
    for (module, used) in source.edges() {
        for used in used.into_iter().filter(|used| !used.is_empty()) {
            uses += 1;
            let is_in_order = position(&order, used) <= position(&order, module);
            assert!(is_in_order, "{module} uses {used}, which comes after it");
        }
    }
    assert!(uses > 400, "only {uses} uses were found");
}

/// Returns the names of the features that a manifest declares.
fn features(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let (_, text) = text.split_once("\n[features]\n").unwrap();
    let end = text.find("\n[").unwrap_or(text.len());
    let name = Regex::new(r"(?m)^([a-z][a-z-]*) = ").unwrap();
    let names = name.captures_iter(&text[..end]);
    names.map(|captures| captures[1].to_owned()).collect()
}

/// If a package lacked a feature, that feature would select too few suites or benches from the
/// root.
#[test]
fn packages_declare_the_features_of_the_library() {
    let library = features("../Cargo.toml");
    assert!(library.contains("sqlite"), "{library:?}");
    for package in [".", "../examples", "../benches"] {
        let manifest = format!("{package}/Cargo.toml");
        assert_eq!(features(&manifest), library, "{manifest}");
        let text = fs::read_to_string(&manifest).unwrap();
        for feature in library.iter().filter(|feature| *feature != "default") {
            let enabled = format!("\"tower-service-token/{feature}\"");
            assert!(text.contains(&enabled), "{manifest} lacks {enabled}");
        }
    }
}

#[test]
fn files_form_no_cycles() {
    for source in [source(), Crate::read("../src/bin/svctok")] {
        let cycles = source.cycles();
        assert!(cycles.is_empty(), "{cycles:#?}");
    }
}

#[test]
fn detects_uses_and_cycles() {
    let mut source = Crate {
        files: BTreeMap::new(),
    };
    source.insert("", "pub mod a; pub mod b; pub use self::b::Exported;");
    source.insert(
        "a",
        "mod c; pub use self::c::{C, D as E}; fn f() { m!(super::b::g()) }",
    );
    source.insert(
        "a::c",
        "use crate::{Exported, b};\n// crate::a::x\n#[cfg(test)] mod t { use super::super::a; }",
    );
    source.insert(
        "b",
        "use crate::a::{self, E}; const T: &str = \"crate::a\";",
    );
    let edges = source.edges();
    assert_eq!(edges["a"], BTreeSet::from(["b"]));
    assert_eq!(edges["a::c"], BTreeSet::from(["b"]));
    assert_eq!(edges["b"], BTreeSet::from(["a", "a::c"]));
    assert_eq!(
        source.cycles(),
        BTreeSet::from([BTreeSet::from(["a", "a::c", "b"])])
    );
}

#[test]
fn module_names_are_meaningful_and_re_exports_are_explicit() {
    let globs = Regex::new(r"pub(\([^)]*\))? use [^;]*\*").expect("valid");
    for file in source().files.values() {
        let names = file.declared_modules();
        let meaningless = names
            .iter()
            .find(|name| MEANINGLESS_NAMES.contains(&name.as_str()));
        assert_eq!(meaningless, None, "in {}", file.path);
        assert!(
            !globs.is_match(&file.text),
            "glob re-export in {}",
            file.path
        );
    }
}

#[test]
fn files_and_functions_stay_below_their_length_limits() {
    let mut files = source().files;
    collect_files(Path::new("../src/bin/svctok"), "bin::svctok", &mut files);
    for file in files.values() {
        let lines = code_lines(file.text.lines());
        assert!(lines <= MAX_FILE_LINES, "{} has {lines}", file.path);
        for (name, lines) in functions(&file.text) {
            assert!(
                lines <= MAX_FUNCTION_LINES,
                "{name} in {} has {lines}",
                file.path
            );
        }
    }
}

#[test]
fn counts_the_lines_of_functions() {
    let body = "    step();\n\n    // why\n".repeat(51);
    let long = format!("impl A {{\nfn long<'a>(x: &'a [u8; 2]) {{\n{body}}}\n}}");
    assert_eq!(functions(&long), [("long".to_owned(), 53)]);
    let tricky = r##"
        trait A { fn none(&self, x: [u8; 2]); fn one(&self) {} }
        fn texts() {
            let a = "}\"}"; /* } */ let b = '}'; // }
            let c = r#"}"}"#; let d = '\''; let e = b'}';
            let f: fn(u8) -> u8 = |x| { x };
        }
        fn after() {}
    "##;
    let lines: Vec<usize> = functions(tricky)
        .into_iter()
        .map(|(_, lines)| lines)
        .collect();
    assert_eq!(lines, [1, 1, 5, 1]);
}
