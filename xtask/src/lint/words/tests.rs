use super::*;

fn found(path: &str, text: &str) -> Vec<(usize, String)> {
    let list = List::parse(LIST).unwrap();
    list.search(path, text).into_iter().map(|finding| (finding.line, finding.words)).collect()
}

#[test]
fn planted_words_are_found_in_comments_strings_and_identifiers() {
    let text = "// Nobody listens.\nlet s = \"it is said\";\nfn nobody_listens() {}\nstruct NobodyListens;\nconst NOBODY: u32 = 0;\n";
    let words = [(1, "Nobody"), (2, "is said"), (3, "nobody"), (4, "Nobody"), (5, "NOBODY")];
    assert_eq!(found("src/lib.rs", text), words.map(|(line, word)| (line, word.to_owned())));
}

#[test]
fn phrases_are_found_across_lines_of_a_comment() {
    assert_eq!(found("a.rs", "/// what was looked\n/// at here"), [(1, "looked at".to_owned())]);
    assert_eq!(found("a.rs", "Counters { stepped_in }"), [(1, "stepped in".to_owned())]);
    assert_eq!(found("a.rs", "looked; at"), []);
}

#[test]
fn citations_of_sections_outside_the_repository_are_found() {
    assert_eq!(found("a.rs", "// (design 4.2)"), [(1, "design 4".to_owned())]);
    assert_eq!(found("a.rs", "// docs/design/capture.md"), []);
}

#[test]
fn file_names_are_checked() {
    assert_eq!(found("tests/spare.rs", ""), [(0, "spare".to_owned())]);
}

#[test]
fn parts_of_words_and_other_case_are_not_found() {
    assert_eq!(found("a.rs", "split literal on hands, darkness, the"), []);
    assert_eq!(found("a.rs", "struct Hands;"), [(1, "Hands".to_owned())]);
}

#[test]
fn exempt_texts_and_paths_are_not_reported() {
    assert_eq!(found("a.rs", "\"The link has gone down on eth0\""), []);
    assert_eq!(found("a.rs", "setpriv --reuid=nobody id"), []);
    assert_eq!(found("docs/reference.md", "nobody"), []);
    assert_eq!(found("a.rs", "it is gone"), [(1, "gone".to_owned())]);
}
