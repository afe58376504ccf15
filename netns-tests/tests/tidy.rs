//! The budgets and habits of CONTRIBUTING.md, kept by a test instead of by memory. (The length of functions is clippy's
//! part: `too-many-lines-threshold`.)

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weave_netns_tests::source::files_under;

/// Lines of a file that are not tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of a decision record.
const DECISION_LINES_MAX: usize = 40;
/// Names that say "drawer" instead of a noun.
const DRAWERS: [&str; 9] =
    ["mod.rs", "utils.rs", "util.rs", "helpers.rs", "common.rs", "core.rs", "types.rs", "manager.rs", "misc.rs"];

#[test]
fn every_source_file_opens_with_its_purpose() -> Result<()> {
    complain("has no //! at its top", |file| {
        if file.path.ends_with("tests.rs") {
            // The tests of one module: its contract is atop the module itself.
            return false;
        }
        // A binary's or a fuzz target's inner attributes may come first.
        let first = file.text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
        !first.is_some_and(|line| line.starts_with("//!"))
    })
}

#[test]
fn no_source_file_outgrows_its_budget() -> Result<()> {
    complain("is longer than 600 lines without its tests", |file| file.code().lines().count() > FILE_LINES_MAX)
}

#[test]
fn no_source_file_is_a_drawer() -> Result<()> {
    complain("is named after no noun", |file| DRAWERS.iter().any(|drawer| file.path.ends_with(drawer)))
}

#[test]
fn no_test_sleeps_or_is_skipped() -> Result<()> {
    complain("sleeps in a test, or skips one", |file| {
        let tests = file.tests();
        ["thread::sleep", "time::sleep(", "#[ignore"].iter().any(|word| tests.contains(word))
    })
}

#[test]
fn nothing_is_left_to_do() -> Result<()> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimple", "mented!(")];
    complain("leaves something to do", |file| marks.iter().any(|mark| file.text.contains(mark)))
}

#[test]
fn a_silenced_lint_says_why() -> Result<()> {
    complain("silences a lint without a reason", |file| {
        let attributes = [concat!("#[", "allow("), concat!("#![", "allow("), concat!("#[", "expect(")];
        attributes.iter().flat_map(|attribute| file.text.split(attribute).skip(1)).any(|rest| {
            let arguments = rest.split(")]").next().unwrap_or(rest);
            !arguments.contains("reason")
        })
    })
}

#[test]
fn unsafe_code_lives_under_datapath_linux_alone() -> Result<()> {
    complain("has unsafe code outside datapath/src/linux and its tests", |file| {
        // Its tests on real devices enter namespaces and open packet sockets too.
        let confined = ["datapath/src/linux", "datapath/tests/kernel"].iter().any(|home| file.path.starts_with(home));
        let code = file.text.lines().map(|line| line.split("//").next().unwrap_or(line));
        let kinds = [concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl")];
        !confined && code.into_iter().any(|line| kinds.iter().any(|kind| line.contains(kind)))
    })?;
    for root in ["mesh/src/lib.rs", "router/src/lib.rs", "cli/src/main.rs", "netns-tests/src/lib.rs"] {
        assert!(
            fs::read_to_string(repository().join(root))?.contains("#![forbid(unsafe_code)]"),
            "{root} must forbid it"
        );
    }
    Ok(())
}

#[test]
fn nothing_refers_to_a_place_outside_the_repository() -> Result<()> {
    let places = [concat!("/wo", "rk/"), concat!("../sha", "red"), concat!("sha", "red/DESIGN"), concat!("/ho", "me/")];
    let mut bad = Vec::new();
    for path in walk(&["rs", "md", "toml", "sh", "service", "yml"])? {
        let text = fs::read_to_string(repository().join(&path))?;
        bad.extend(
            places.iter().filter(|place| text.contains(*place)).map(|place| format!("{}: {place}", path.display())),
        );
    }
    assert!(bad.is_empty(), "{bad:#?}");
    Ok(())
}

#[test]
fn links_in_documents_lead_somewhere() -> Result<()> {
    let mut bad = Vec::new();
    for path in walk(&["md"])? {
        let text = fs::read_to_string(repository().join(&path))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or(target);
            let outside = target.contains("://") || target.starts_with("mailto:") || file.is_empty();
            if !outside && !repository().join(folder).join(file).exists() {
                bad.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(bad.is_empty(), "dead links: {bad:#?}");
    Ok(())
}

#[test]
fn files_named_in_the_documents_exist() -> Result<()> {
    let mut bad = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"] {
        let text = fs::read_to_string(repository().join(document)).with_context(|| document.to_owned())?;
        // Paths are written in code quotes and from the top of the repository.
        for word in text.split('`').skip(1).step_by(2) {
            let is_path =
                word.contains('/') && !word.contains([' ', '<', '*', '{', ':']) && !word.starts_with(['/', '-']);
            let is_file = is_path && word.rsplit('/').next().is_some_and(|name| name.contains('.') || name.is_empty());
            if is_file && !word.starts_with("target/") && !repository().join(word).exists() {
                bad.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(bad.is_empty(), "named and not there: {bad:#?}");
    Ok(())
}

#[test]
fn a_decision_fits_on_a_screen() -> Result<()> {
    for path in walk(&["md"])?.into_iter().filter(|path| path.starts_with("docs/decisions")) {
        let lines = fs::read_to_string(repository().join(&path))?.lines().count();
        assert!(lines <= DECISION_LINES_MAX, "{}: {lines} lines", path.display());
    }
    Ok(())
}

/// A Rust source file of the repository.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Up to the tests of the file; nothing of a file that is a test as a whole.
    fn code(&self) -> &str {
        if self.is_test() { "" } else { self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default() }
    }

    fn tests(&self) -> &str {
        if self.is_test() { &self.text } else { &self.text[self.code().len()..] }
    }

    fn is_test(&self) -> bool {
        let is_this_file = self.path.ends_with("tidy.rs");
        !is_this_file && self.path.components().any(|part| part.as_os_str() == "tests")
    }
}

/// Fails with the list of all source files of which `is_bad` holds.
fn complain(what: &str, is_bad: impl Fn(&Source) -> bool) -> Result<()> {
    let mut bad = Vec::new();
    for path in walk(&["rs"])? {
        let source = Source { text: fs::read_to_string(repository().join(&path))?, path };
        if is_bad(&source) {
            bad.push(source.path);
        }
    }
    assert!(bad.is_empty(), "{what}: {bad:#?}");
    Ok(())
}

/// Files with one of these extensions, as paths from the top of the repository.
fn walk(extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let (top, files) = (repository(), files_under(&repository(), extensions)?);
    files.into_iter().map(|path| Ok(path.strip_prefix(&top)?.to_owned())).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
