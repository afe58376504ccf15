//! Which top-level modules of a crate name each other, by `crate::…` and `super::…`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{File, ItemFn, ItemImpl, ItemMod, ItemUse, UseTree};

use super::shape::is_for_tests;

/// A path as it is written.
type Words = Vec<String>;

/// From each module to those that it names.
#[derive(Debug, Default)]
pub(crate) struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    /// What the file at this path below `src` names.
    pub(crate) fn add(&mut self, path: &Path, uses: &BTreeSet<Words>) {
        let module: Words = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let Some(own) = module.first().filter(|own| !["lib", "main", "bin"].contains(&own.as_str())) else { return };
        let named = uses.iter().filter_map(|words| top(words, &module));
        self.0.entry(own.clone()).or_default().extend(named.filter(|named| named != own));
    }

    /// Modules that reach each other, as large as they are.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let reached: BTreeMap<&String, BTreeSet<&String>> =
            self.0.keys().map(|from| (from, self.reach(from))).collect();
        let circle = |from: &String| -> Vec<String> {
            let others = reached[from].iter().filter(|to| reached.get(**to).is_some_and(|back| back.contains(from)));
            others.map(|to| (*to).clone()).collect()
        };
        let circles: BTreeSet<Vec<String>> = self.0.keys().map(circle).filter(|circle| circle.len() > 1).collect();
        circles.into_iter().collect()
    }

    fn reach<'a>(&'a self, from: &'a String) -> BTreeSet<&'a String> {
        let (mut reached, mut pending) = (BTreeSet::new(), vec![from]);
        while let Some(at) = pending.pop() {
            let next = self.0.get(at).into_iter().flatten().filter(|next| self.0.contains_key(*next));
            pending.extend(next.filter(|next| reached.insert(*next)));
        }
        reached
    }
}

/// The top-level module that a path leads into, as it is written in `module`.
fn top(words: &Words, module: &Words) -> Option<String> {
    if words.first()? == "crate" {
        return words.get(1).cloned();
    }
    let up = words.iter().take_while(|word| *word == "super").count();
    (up > 0 && up == module.len()).then(|| words.get(up).cloned()).flatten()
}

/// All paths of a file that begin in its own crate, but for those of its tests.
pub(crate) fn uses(file: &File) -> BTreeSet<Words> {
    let mut paths = Paths::default();
    paths.visit_file(file);
    paths.0
}

#[derive(Default)]
struct Paths(BTreeSet<Words>);

impl Paths {
    fn tree(&mut self, before: &Words, tree: &UseTree) {
        let with = |word: &syn::Ident| before.iter().cloned().chain([word.to_string()]).collect::<Words>();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => drop(self.0.insert(with(&name.ident))),
            UseTree::Rename(name) => drop(self.0.insert(with(&name.ident))),
            UseTree::Glob(_) => drop(self.0.insert(before.clone())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.tree(&Words::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}
