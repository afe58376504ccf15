//! What a crate's source looks like, by numbers.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ExprMethodCall, ImplItemFn, ItemFn, ItemMod, Macro, TraitItemFn};
use weave_netns_tests::source::files_under;

use super::modules::{Graph, uses};

/// Ends the process, or may.
const PANICKING: [&str; 5] = ["panic", "unreachable", "todo", "unimplemented", "assert"];

#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// Of each file, without its tests.
    files: Vec<usize>,
    /// Of each function's body, likewise.
    functions: Vec<usize>,
    panics: usize,
    test_lines: usize,
    graph: Graph,
}

impl Shape {
    pub(crate) const HEADING: &str =
        "crate       lines  files p50 p90   functions p50 p90 max   panics/kloc   test:code";

    /// Of the crate whose `src` this is.
    pub(crate) fn of(source: &Path) -> Result<Self> {
        let mut shape = Self::default();
        for path in files_under(source, &["rs"])? {
            let text = fs::read_to_string(&path)?;
            let inside = path.strip_prefix(source)?;
            if is_test(inside) {
                shape.test_lines += text.lines().count();
            } else {
                shape.add(inside, &text).with_context(|| path.display().to_string())?;
            }
        }
        // Integration tests of the crate.
        for path in files_under(&source.join("../tests"), &["rs"]).unwrap_or_default() {
            shape.test_lines += fs::read_to_string(path)?.lines().count();
        }
        shape.files.sort_unstable();
        shape.functions.sort_unstable();
        Ok(shape)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<()> {
        let file = syn::parse_file(text)?;
        let mut look = Look::default();
        look.visit_file(&file);
        self.files.push(text.lines().count() - look.test_lines);
        self.functions.append(&mut look.functions);
        self.panics += look.panics;
        self.test_lines += look.test_lines;
        self.graph.add(path, &uses(&file));
        Ok(())
    }

    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        self.graph.circles()
    }

    pub(crate) fn longest_function(&self) -> usize {
        self.functions.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: usize = self.files.iter().sum();
        let of = |sorted: &[usize], hundredth: usize| {
            sorted.get(sorted.len() * hundredth / 100).copied().unwrap_or_default()
        };
        let (panics, tests) = (self.panics as f64 * 1e3 / lines as f64, self.test_lines as f64 / lines as f64);
        write!(
            f,
            "{lines:7} {:6} {:3} {:3} {:11} {:3} {:3} {:3} {panics:13.1} {tests:11.2}",
            self.files.len(),
            of(&self.files, 50),
            of(&self.files, 90),
            self.functions.len(),
            of(&self.functions, 50),
            of(&self.functions, 90),
            self.longest_function(),
        )
    }
}

/// What is seen in one file.
#[derive(Debug, Default)]
struct Look {
    functions: Vec<usize>,
    panics: usize,
    test_lines: usize,
}

impl Look {
    fn body(&mut self, block: &Block) {
        self.functions.push(lines(block.span()).saturating_sub(2).max(1));
    }
}

impl<'ast> Visit<'ast> for Look {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_for_tests(&item.attrs) {
            self.test_lines += if item.content.is_some() { lines(item.span()) } else { 0 };
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            self.body(&item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.body(&item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        item.default.iter().for_each(|block| self.body(block));
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.panics += usize::from(call.method == "unwrap" || call.method == "expect");
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.panics += usize::from(PANICKING.iter().any(|name| call.path.is_ident(name)));
    }
}

fn lines(span: Span) -> usize {
    span.end().line - span.start().line + 1
}

/// Whether it is compiled for tests alone.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
    })
}

/// Whether a whole file is, as far as its name says.
fn is_test(path: &Path) -> bool {
    path.with_extension("").components().any(|part| ["tests", "fixtures"].iter().any(|name| part.as_os_str() == *name))
}
