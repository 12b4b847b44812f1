//! The words that this project does not use, in `words.txt`, looked up in every tracked text file and in the files' names.

use super::sources;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// The list.
const LIST: &str = include_str!("words.txt");

/// Checks the tracked files below `root`. Prints each finding in a file whose path starts with one of `shown`, then the counts.
pub fn check(root: &Path, shown: &[String]) -> Result<()> {
    let list = List::parse(LIST)?;
    let mut counts = BTreeMap::new();
    for path in sources::tracked(root)? {
        let Some(text) = sources::read(root, &path)? else { continue };
        let findings = list.search(&path, &text);
        if shown.iter().any(|prefix| path.starts_with(prefix)) {
            for finding in &findings {
                println!("{path}:{}: \"{}\": {}", finding.line, finding.words, finding.instead);
            }
        }
        if !findings.is_empty() {
            counts.insert(path, findings.len());
        }
    }
    for (path, count) in &counts {
        println!("{count:5} {path}");
    }
    let total: usize = counts.values().sum();
    println!("{total:5} words of xtask/src/lint/words.txt in {} files", counts.len());
    ensure!(
        total == 0,
        "words that xtask/src/lint/words.txt excludes: `cargo xtask lint --words PATH` lists them"
    );
    Ok(())
}

/// The parsed list.
struct List<'a> {
    patterns: Vec<Pattern<'a>>,
    exempt_paths: Vec<&'a str>,
    exempt_texts: Vec<&'a str>,
}

/// A sequence of words, each in several forms, and what to write instead.
struct Pattern<'a> {
    words: Vec<Vec<&'a str>>,
    instead: &'a str,
}

/// A word of a file.
struct Token<'a> {
    text: &'a str,
    start: usize,
    /// Whether only space, a comment marker or an identifier's separator is between it and the token before.
    joined: bool,
}

/// An excluded word in a file.
#[derive(Debug, PartialEq, Eq)]
struct Finding<'a> {
    /// 0: the file's name.
    line: usize,
    words: String,
    instead: &'a str,
}

impl<'a> List<'a> {
    fn parse(list: &'a str) -> Result<Self> {
        let mut parsed = Self { patterns: Vec::new(), exempt_paths: Vec::new(), exempt_texts: Vec::new() };
        let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# "));
        for line in lines.filter(|line| *line != "#" && *line != "[exempt]") {
            if let Some(path) = line.strip_prefix("path ") {
                parsed.exempt_paths.push(path);
            } else if let Some(text) = line.strip_prefix("text ") {
                parsed.exempt_texts.push(text);
            } else {
                let (words, instead) = line
                    .split_once(" => ")
                    .with_context(|| format!("words.txt: no replacement in {line}"))?;
                let words = words.split_whitespace().map(|word| word.split('|').collect()).collect();
                parsed.patterns.push(Pattern { words, instead });
            }
        }
        Ok(parsed)
    }

    /// The findings in a file, those in its name first.
    fn search(&self, path: &str, text: &str) -> Vec<Finding<'a>> {
        if self.exempt_paths.iter().any(|prefix| path.starts_with(prefix)) {
            return Vec::new();
        }
        let mut findings = self.search_text(path);
        findings.iter_mut().for_each(|finding| finding.line = 0);
        findings.extend(self.search_text(text));
        findings
    }

    fn search_text(&self, text: &str) -> Vec<Finding<'a>> {
        let tokens = tokens(text);
        let exempt = |start: usize, end: usize| {
            self.exempt_texts.iter().any(|literal| {
                text.match_indices(literal).any(|(at, _)| at <= start && end <= at + literal.len())
            })
        };
        let mut findings = Vec::new();
        for (at, first) in tokens.iter().enumerate() {
            for pattern in &self.patterns {
                let Some(matched) = pattern.matches(&tokens[at..]) else { continue };
                let last = &matched[matched.len() - 1];
                if exempt(first.start, last.start + last.text.len()) {
                    continue;
                }
                let line = 1 + text[..first.start].matches('\n').count();
                let words = matched.iter().map(|token| token.text).collect::<Vec<_>>().join(" ");
                findings.push(Finding { line, words, instead: pattern.instead });
            }
        }
        findings
    }
}

impl Pattern<'_> {
    /// The tokens at the beginning of `tokens` that this pattern matches.
    fn matches<'b, 't>(&self, tokens: &'b [Token<'t>]) -> Option<&'b [Token<'t>]> {
        let candidates = tokens.get(..self.words.len())?;
        let joined = candidates.iter().skip(1).all(|token| token.joined);
        let same =
            |(forms, token): (&Vec<&str>, &Token<'_>)| forms.iter().any(|form| is_form(form, token.text));
        (joined && self.words.iter().zip(candidates).all(same)).then_some(candidates)
    }
}

fn is_form(form: &str, word: &str) -> bool {
    match form {
        "#" => word.starts_with(|c: char| c.is_ascii_digit()),
        _ if form.starts_with(|c: char| c.is_ascii_uppercase()) => form == word,
        _ => form.eq_ignore_ascii_case(word),
    }
}

/// The words of a text: runs of letters, split where an identifier in CamelCase is, and runs of digits.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let class = |at: usize| {
        bytes.get(at).map_or(' ', |byte| match byte {
            b'a'..=b'z' => 'a',
            b'A'..=b'Z' => 'A',
            b'0'..=b'9' => '0',
            _ => ' ',
        })
    };
    let mut tokens = Vec::new();
    let (mut at, mut end) = (0, 0);
    while at < bytes.len() {
        let start = at;
        let kind = class(at);
        at += 1;
        if kind == ' ' {
            continue;
        }
        if kind == 'A' {
            // `NICs` is one word, `HTTPServer` two.
            while class(at) == 'A' && !(class(at + 1) == 'a' && class(at + 2) == 'a') {
                at += 1;
            }
        }
        let rest = if kind == '0' { '0' } else { 'a' };
        while class(at) == rest {
            at += 1;
        }
        tokens.push(Token { text: &text[start..at], start, joined: is_joint(&text[end..start]) });
        end = at;
    }
    tokens
}

/// Whether the text between two words lets them be read as one phrase: also over the end of a line of a comment.
fn is_joint(between: &str) -> bool {
    let broken = between.contains('\n');
    between.chars().all(|c| {
        matches!(c, ' ' | '\t' | '\n' | '_' | '-') || broken && matches!(c, '/' | '!' | '#' | '*' | '\\')
    })
}

#[cfg(test)]
mod tests;
