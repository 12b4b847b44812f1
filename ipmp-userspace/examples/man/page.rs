//! A man page.

use anyhow::{Context, Result};
use clap_mangen::roff::{Inline, Roff, roman};
use std::fs;
use std::path::Path;

/// A page of which the text is being written.
pub struct Page {
    name: &'static str,
    section: &'static str,
    text: Roff,
}

impl Page {
    pub fn new(name: &'static str, section: &'static str, purpose: &str) -> Self {
        let mut text = Roff::new();
        let version = concat!("ipmp ", env!("CARGO_PKG_VERSION"));
        text.control("TH", [name, section, version]);
        let mut page = Self { name, section, text };
        // Without a macro before it, so that apropos finds it.
        page.heading("NAME").text.text([roman(format!("{name} - {purpose}"))]);
        page
    }

    pub fn heading(&mut self, heading: &str) -> &mut Self {
        self.text.control("SH", [heading]);
        self
    }

    pub fn subheading(&mut self, heading: &str) -> &mut Self {
        self.text.control("SS", [heading]);
        self
    }

    pub fn paragraph(&mut self, text: &str) -> &mut Self {
        self.text.control("PP", []).text([roman(text)]);
        self
    }

    /// A term and its description.
    pub fn item(&mut self, term: impl Into<Vec<Inline>>, description: &str) -> &mut Self {
        self.text.control("TP", []).text(term).text([roman(description)]);
        self
    }

    /// Lines that are printed as they are.
    pub fn lines(&mut self, lines: &str) -> &mut Self {
        self.text.control("PP", []).control("nf", []).text([roman(lines.trim_end())]).control("fi", []);
        self
    }

    pub fn see_also(&mut self, pages: &str) -> &mut Self {
        self.heading("SEE ALSO").paragraph(pages)
    }

    /// Writes the page into the directory of its section.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let Self { name, section, text } = self;
        let path = directory.join(format!("man{section}"));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        let path = path.join(format!("{name}.{section}"));
        fs::write(&path, text.render()).with_context(|| path.display().to_string())
    }
}
