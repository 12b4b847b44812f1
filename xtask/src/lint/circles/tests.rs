use super::crates::Crate;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate in a directory that is removed with it.
struct Source(PathBuf);

impl Source {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let directory = std::env::temp_dir().join(format!("ipmp-circles-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(directory)
    }

    fn circles(&self) -> Vec<Vec<String>> {
        Crate::read(&self.0.join("lib.rs")).unwrap().circles()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn planted_circle_is_found() {
    let source = Source::new(
        "planted",
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B(super::a::A);"),
        ],
    );
    assert_eq!(source.circles(), [["a -> b", "b -> a"]]);
}

#[test]
fn circle_through_re_export_alias_and_macro_is_found() {
    let source = Source::new(
        "hidden",
        &[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod x; mod y; mod z; pub use x::X;"),
            ("a/x.rs", "use super::y; pub struct X; fn f() { y::g() }"),
            ("a/y.rs", "pub fn g() { println!(\"{}\", super::z::h()) }"),
            ("a/z.rs", "use super::*; pub fn h() -> X { X }"),
        ],
    );
    assert_eq!(source.circles(), [["a::x -> a::y", "a::y -> a::z", "a::z -> a::x"]]);
}

#[test]
fn module_and_its_children_and_tests_are_no_circle() {
    let source = Source::new(
        "children",
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod child; use child::C; pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("a/child.rs", "pub struct C(super::A);"),
            ("b.rs", "use crate::a::A; pub struct B(A);"),
        ],
    );
    assert_eq!(source.circles(), Vec::<Vec<String>>::new());
}

#[test]
fn roots_of_library_and_binaries_are_found() {
    let source =
        Source::new("roots", &[("lib.rs", ""), ("bin/one.rs", ""), ("two/main.rs", ""), ("mod.rs", "")]);
    let roots = super::crates::roots(&source.0).unwrap();
    let names: Vec<_> = roots.iter().map(|root| root.strip_prefix(&source.0).unwrap()).collect();
    assert_eq!(names, ["bin/one.rs", "lib.rs", "two/main.rs"].map(Path::new));
}
