//! A crate's files as modules, and which module imports which.

use super::graph::{self, Graph};
use super::names::{self, Names};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::Item;

/// A path in a crate, without `crate`: `[]` is its root.
pub type ModulePath = Vec<String>;

/// The files that crates begin with below a directory of sources.
pub fn roots(sources: &Path) -> Result<Vec<PathBuf>> {
    let mut roots = Vec::new();
    let files = |directory: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    for path in files(sources)? {
        let name = path.file_name().unwrap_or_default();
        if name == "lib.rs" || name == "main.rs" {
            roots.push(path);
        } else if name == "bin" {
            roots
                .extend(files(&path)?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")));
        } else if path.join("main.rs").is_file() {
            roots.push(path.join("main.rs"));
        }
    }
    roots.sort();
    Ok(roots)
}

/// The modules of a crate.
pub struct Crate {
    modules: BTreeMap<ModulePath, Names>,
}

impl Crate {
    /// Reads a crate from its first file on.
    pub fn read(root: &Path) -> Result<Self> {
        let mut this = Self { modules: BTreeMap::new() };
        let directory = root.parent().context("a file has a directory")?;
        this.read_file(root, directory, Vec::new())?;
        Ok(this)
    }

    /// Reads a module's file; the files of its children are below `directory`.
    fn read_file(&mut self, file: &Path, directory: &Path, module: ModulePath) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let parsed = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        self.modules.insert(module.clone(), names::collect(&parsed));
        for item in &parsed.items {
            let Item::Mod(child) = item else { continue };
            if child.content.is_some() || names::is_test(&child.attrs) {
                continue;
            }
            let name = child.ident.to_string();
            let below = directory.join(&name);
            let beside = directory.join(format!("{name}.rs"));
            let file = if beside.is_file() { beside } else { below.join("mod.rs") };
            let child = module.iter().cloned().chain([name]).collect();
            self.read_file(&file, &below, child)?;
        }
        Ok(())
    }

    /// The imports of each circle, in the shape `a -> b`.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let names: BTreeMap<&ModulePath, String> =
            self.modules.keys().map(|path| (path, path.join("::"))).collect();
        let mut graph = Graph::new();
        for module in self.modules.keys() {
            let imports = self.imports(module);
            graph.insert(&names[module], imports.iter().map(|path| names[path].as_str()).collect());
        }
        let describe = |circle: Vec<&str>| {
            let inside = |node: &&&str| circle.contains(*node);
            circle
                .iter()
                .map(|node| {
                    let imports: Vec<&str> = graph[node].iter().filter(inside).copied().collect();
                    format!("{node} -> {}", imports.join(", "))
                })
                .collect()
        };
        graph::circles(&graph).into_iter().map(describe).collect()
    }

    /// The modules that a module imports, its own children and those that it is below excepted.
    fn imports(&self, module: &ModulePath) -> BTreeSet<&ModulePath> {
        let Some(names) = self.modules.get(module) else { return BTreeSet::new() };
        let paths = names.uses.iter().filter_map(|path| self.resolve(module, path, 0));
        paths.filter(|target| !target.starts_with(module) && !module.starts_with(target)).collect()
    }

    /// The module that a path, written in `module`, leads to.
    fn resolve(&self, module: &ModulePath, path: &[String], depth: usize) -> Option<&ModulePath> {
        // Re-exports that lead back to themselves are the compiler's to report.
        if depth > 16 {
            return None;
        }
        let mut at = module.clone();
        let mut rest = path;
        let mut rooted = false;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                _ => break,
            }
            rooted = true;
            rest = others;
        }
        loop {
            let (here, names) = self.modules.get_key_value(&at)?;
            let Some((first, others)) = rest.split_first() else { return Some(here) };
            at.push(first.clone());
            if self.modules.contains_key(&at) {
                (rest, rooted) = (others, true);
                continue;
            }
            at.pop();
            if let Some(target) = names.aliases.get(first).filter(|target| *target != path || here != module)
            {
                let full: Vec<String> = target.iter().chain(others).cloned().collect();
                return self.resolve(&at, &full, depth + 1).or(rooted.then_some(here));
            }
            if names.items.contains(first) {
                return rooted.then_some(here);
            }
            for glob in &names.globs {
                let from = self.resolve(&at, glob, depth + 1);
                if let Some(from) = from.filter(|from| *from != here && self.has(from, first)) {
                    return self.resolve(from, rest, depth + 1).or(Some(from));
                }
            }
            return rooted.then_some(here);
        }
    }

    fn has(&self, module: &ModulePath, name: &str) -> bool {
        let child = || {
            self.modules.contains_key(&module.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>())
        };
        self.modules[module].defines(name) || child()
    }
}
