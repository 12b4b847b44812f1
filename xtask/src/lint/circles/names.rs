//! The names in a file: what it defines, what it imports, and the paths that it follows.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemUse, Macro, Path, UseTree};

/// A path as it is written, a segment a string.
type Written = Vec<String>;

/// The names in a file.
#[derive(Default)]
pub struct Names {
    /// Items that it defines.
    pub items: BTreeSet<String>,
    /// Names that it imports, and the paths they stand for.
    pub aliases: BTreeMap<String, Written>,
    /// Paths whose names it imports all.
    pub globs: Vec<Written>,
    /// Every path in it.
    pub uses: BTreeSet<Written>,
}

impl Names {
    /// Whether the file defines or imports this name.
    pub fn defines(&self, name: &str) -> bool {
        self.items.contains(name) || self.aliases.contains_key(name)
    }
}

/// The names of a file, those of its tests excepted.
pub fn collect(file: &File) -> Names {
    let mut collector = Collector::default();
    collector.names.items.extend(file.items.iter().filter_map(name));
    collector.visit_file(file);
    collector.names
}

#[derive(Default)]
struct Collector {
    names: Names,
    /// How many inline modules are around what is visited: `super` leads out of these first.
    inline: usize,
}

impl Collector {
    fn add(&mut self, mut path: Written) {
        for _ in 0..self.inline {
            if path.first().is_some_and(|first| first == "super") {
                path.remove(0);
            }
        }
        if !path.is_empty() {
            self.names.uses.insert(path);
        }
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &str| before.iter().cloned().chain([name.to_owned()]).collect::<Written>();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident.to_string())),
            UseTree::Name(name) if name.ident == "self" => {
                self.import(before.last().cloned(), before.to_vec())
            }
            UseTree::Name(name) => self.import(Some(name.ident.to_string()), with(&name.ident.to_string())),
            UseTree::Rename(rename) => {
                self.import(Some(rename.rename.to_string()), with(&rename.ident.to_string()));
            }
            UseTree::Glob(_) => {
                if self.inline == 0 {
                    self.names.globs.push(before.to_vec());
                }
                self.add(before.to_vec());
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }

    fn import(&mut self, name: Option<String>, path: Written) {
        if let Some(name) = name.filter(|_| self.inline == 0) {
            self.names.aliases.insert(name, path.clone());
        }
        self.add(path);
    }

    /// Paths in the arguments of a macro, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path = Written::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.add(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add(path);
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {}
            Item::Mod(module) if module.content.is_some() => {
                self.inline += 1;
                visit::visit_item(self, item);
                self.inline -= 1;
            }
            Item::Impl(item) if is_test(&item.attrs) => {}
            Item::Fn(item) if is_test(&item.attrs) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.add_tokens(item.tokens.clone());
    }
}

/// The name that an item defines.
fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Whether an item exists in tests alone.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}
