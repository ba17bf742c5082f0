//! What the compiler and clippy do not check about our own files: module headers, sizes, leftovers and line ends.
//!
//! Sizes count what ships: functions and modules under `#[cfg(test)]`, and files in `tests/` or named `tests.rs`, have bounds of
//! their own.

use proc_macro2::Span;
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, ItemFn, ItemMod, TraitItemFn};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const TEST_FUNCTION_LINES_MAX: usize = 120;
const TEST_FILE_LINES_MAX: usize = 1000;

/// What must not stay behind in any text of ours, as a whole word. Split, so that this file does not hold them.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("dbg", "!("),
    concat!("todo", "!("),
];

/// Directories that hold nothing written by hand.
const SKIPPED: &[&str] = &["target", "raftkv-data", "corpus", "artifacts", "frozen"];
const TEXT_EXTENSIONS: &[&str] = &["rs", "toml", "md", "sh", "awk", "yaml", "yml", "lock"];

#[test]
fn our_files_are_tidy() {
    let files = text_files(&workspace_root());
    let sources = files.iter().filter(|path| is_rust(path)).count();
    assert!(sources > 10, "only {sources} Rust files found");
    let mut complaints = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{} is not readable as text: {error}", path.display()));
        let name = path.strip_prefix(workspace_root()).expect("inside").display().to_string();
        complaints.extend(complaints_about(&name, &text));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_lock_file_is_committed_and_the_lints_are_on() {
    let root = workspace_root();
    assert!(root.join("Cargo.lock").is_file());
    let ignored = fs::read_to_string(root.join(".gitignore")).expect(".gitignore");
    assert!(!ignored.contains("Cargo.lock"), "Cargo.lock is ignored by git");
    for member in ["core", "shell-tokio", "shell-sim", "cli", "simtests"] {
        let manifest = fs::read_to_string(root.join(member).join("Cargo.toml")).expect("manifest");
        assert!(manifest.contains("\n[lints"), "{member} does not take the lints");
    }
    let core = fs::read_to_string(root.join("core/Cargo.toml")).expect("manifest");
    assert!(core.contains("unsafe_code = \"forbid\""));
}

#[test]
fn a_file_without_a_header_is_told() {
    assert_complaint("a/src/b.rs", "use std::fmt;\n", "does not open with `//!`");
    assert_tidy("a/src/b.rs", "//! What it is for.\n");
}

#[test]
fn leftovers_are_told_as_whole_words() {
    for leftover in LEFTOVERS {
        assert_complaint("a/README.md", &format!("fine\n// {leftover} later\n"), leftover);
    }
    assert_tidy("a/README.md", concat!("mktemp X", "XXXXX, maTO", "DOr\n"));
}

#[test]
fn line_ends_are_told() {
    assert_complaint("a.md", "one\r\ntwo\n", "carriage return");
    assert_complaint("a.md", "one", "does not end with a line end");
    assert_complaint("a.md", "one \ntwo\n", "white space");
}

#[test]
fn long_functions_are_told_wherever_they_hide() {
    let body = "    // a line\n".repeat(FUNCTION_LINES_MAX);
    let hidden = [
        format!("//! M.\nfn f() {{\n{body}}}\n"),
        format!("//! M.\nimpl S {{\nfn f() {{\n{body}}}\n}}\n"),
        format!("//! M.\ntrait T {{\nfn f() {{\n{body}}}\n}}\n"),
        format!("//! M.\nmod inner {{\nasync fn f() {{\n{body}}}\n}}\n"),
        format!("//! M.\n#[cfg(not(test))]\nfn f() {{\n{body}}}\n"),
    ];
    hidden.iter().for_each(|text| assert_complaint("a/src/b.rs", text, "`f` has 72 lines"));
    let short = "    let braces = '{'; // }\n".repeat(FUNCTION_LINES_MAX - 2);
    assert_tidy("a/src/b.rs", &format!("//! M.\nfn f() {{\n{short}}}\n"));
}

#[test]
fn documentation_before_a_function_does_not_count() {
    let comments = "/// A line.\n".repeat(FUNCTION_LINES_MAX);
    assert_tidy("a/src/b.rs", &format!("//! M.\n{comments}fn f() {{}}\n"));
}

#[test]
fn long_files_are_told_and_tests_count_apart() {
    let lines = "const _: () = ();\n".repeat(FILE_LINES_MAX);
    assert_complaint("a/src/b.rs", &format!("//! M.\n{lines}"), "501 lines");
    let tests = format!("//! M.\n#[cfg(test)]\nmod tests {{\n{lines}}}\n");
    assert_tidy("a/src/b.rs", &tests);
    assert_tidy("a/tests/b.rs", &format!("//! M.\n{lines}"));
    assert_complaint("a/tests/b.rs", &format!("//! M.\n{lines}{lines}"), "1001 lines");
    let body = "    // a line\n".repeat(TEST_FUNCTION_LINES_MAX);
    let long_test =
        format!("//! M.\n#[cfg(test)]\nmod tests {{\n#[test]\nfn f() {{\n{body}}}\n}}\n");
    assert_complaint("a/src/b.rs", &long_test, "`f` has 122 lines");
}

fn assert_complaint(name: &str, text: &str, wanted: &str) {
    let complaints = complaints_about(name, text);
    assert!(
        complaints.iter().any(|complaint| complaint.contains(wanted)),
        "{wanted:?} is not among {complaints:?}"
    );
}

fn assert_tidy(name: &str, text: &str) {
    assert_eq!(complaints_about(name, text), Vec::<String>::new());
}

/// Everything wrong with the file `name` (relative to the workspace) that holds `text`.
fn complaints_about(name: &str, text: &str) -> Vec<String> {
    let mut complaints = complaints_about_text(name, text);
    if is_rust(Path::new(name)) {
        complaints.extend(complaints_about_source(name, text));
    }
    complaints
}

fn complaints_about_text(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (line, number) in text.split('\n').zip(1..) {
        for leftover in LEFTOVERS.iter().filter(|leftover| holds_word(line, leftover)) {
            complaints.push(format!("{name}:{number}: holds {leftover}"));
        }
        if line.ends_with('\r') {
            complaints.push(format!("{name}:{number}: ends with a carriage return"));
        } else if line.ends_with([' ', '\t']) {
            complaints.push(format!("{name}:{number}: ends with white space"));
        }
    }
    if !text.ends_with('\n') {
        complaints.push(format!("{name}: does not end with a line end"));
    }
    complaints
}

/// Whether `word` stands in `line` with nothing of a word before and after it.
fn holds_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        let open_ended = word.ends_with('(');
        !before.ends_with(is_part) && (open_ended || !after.starts_with(is_part))
    })
}

fn complaints_about_source(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!("{name}: does not open with `//!`"));
    }
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(error) => {
            complaints.push(format!("{name}: is not read as Rust: {error}"));
            return complaints;
        }
    };
    let is_test_file = Path::new(name).iter().any(|part| part == "tests" || part == "tests.rs");
    let mut sizes = Sizes { in_tests: is_test_file, ..Sizes::default() };
    sizes.visit_file(&file);
    for function in &sizes.functions {
        let max = if function.in_tests { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
        if function.lines > max {
            let Function { name: of, start, lines, .. } = function;
            complaints.push(format!("{name}:{start}: `{of}` has {lines} lines; at most {max}"));
        }
    }
    let max = if is_test_file { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
    let lines = text.lines().count() - sizes.test_lines;
    if lines > max {
        complaints.push(format!("{name}: has {lines} lines, tests apart; at most {max}"));
    }
    complaints
}

struct Function {
    name: String,
    start: usize,
    lines: usize,
    in_tests: bool,
}

#[derive(Default)]
struct Sizes {
    in_tests: bool,
    functions: Vec<Function>,
    /// Lines of modules under `#[cfg(test)]`.
    test_lines: usize,
}

impl Sizes {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.span().start().line;
        self.functions.push(Function {
            name: signature.ident.to_string(),
            start,
            lines: lines_of(signature.span(), block.span()),
            in_tests: self.in_tests,
        });
    }
}

impl<'ast> Visit<'ast> for Sizes {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let was_in_tests = self.in_tests;
        if !was_in_tests && item.attrs.iter().any(is_cfg_test) {
            self.in_tests = true;
            self.test_lines += lines_of(item.span(), item.span());
        }
        visit::visit_item_mod(self, item);
        self.in_tests = was_in_tests;
    }
}

fn lines_of(from: Span, to: Span) -> usize {
    to.end().line - from.start().line + 1
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// All text files of ours under `directory`.
fn text_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).expect("a readable directory");
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if !hidden && !SKIPPED.contains(&name.as_ref()) {
                files.extend(text_files(&path));
            }
        } else if path.extension().is_some_and(|e| TEXT_EXTENSIONS.iter().any(|text| e == *text))
            || path
                .parent()
                .is_some_and(|parent| parent.file_name().is_some_and(|name| name == ".ci"))
        {
            files.push(path);
        }
    }
    files
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root").to_path_buf()
}
