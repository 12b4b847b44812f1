//! A section of the page: the results of one measurement in one file.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::plot::Plot;
use super::{Files, RESULTS};
use crate::report::Report;

/// A section, with what is written in the order of its fields.
#[derive(Default)]
pub struct Section {
    /// Its heading, without the kernel.
    pub title: &'static str,
    /// What was measured.
    pub introduction: String,
    /// What is aimed at.
    pub targets: Vec<Target>,
    /// Whether the heading has the vendor of the processor: there are results of several.
    pub names_vendor: bool,
    /// Figures; at least one.
    pub parts: Vec<Part>,
    /// Why figures may not be valid.
    pub warnings: Vec<String>,
}

/// Figures that belong together.
#[derive(Default)]
pub struct Part {
    /// A heading, if the section has several parts.
    pub title: Option<&'static str>,
    /// What they show.
    pub text: String,
    /// Pictures of them.
    pub plots: Vec<Plot>,
    /// The figures: [`table`], or nothing.
    pub table: String,
}

/// A target and the figure that it is for.
pub struct Target {
    /// `outage p50`
    pub what: String,
    /// `below 1 ms`
    pub wanted: String,
    /// `0.65 ms`
    pub measured: String,
    /// Whether it is met.
    pub is_met: bool,
}

impl Target {
    /// A value that must be at most this, shown with its unit.
    pub fn at_most(what: impl Into<String>, value: f64, limit: f64, unit: &str) -> Self {
        let (wanted, measured) = (format!("at most {limit} {unit}"), format!("{value:.2} {unit}"));
        Self { what: what.into(), wanted, measured, is_met: value <= limit }
    }

    /// A ratio that must be at least this.
    pub fn at_least(what: impl Into<String>, ratio: f64, limit: f64) -> Self {
        let (wanted, measured) = (format!("at least {limit}"), format!("{ratio:.3}"));
        Self { what: what.into(), wanted, measured, is_met: ratio >= limit }
    }

    /// `met`, or `missed` in bold.
    fn verdict(&self) -> &'static str {
        if self.is_met { "met" } else { "**missed**" }
    }
}

impl Section {
    /// Writes it, with its plots. `stem`: the name of the file of results.
    pub fn write(&self, stem: &str, report: &Report, page: &mut String, files: &mut Files) -> Result<()> {
        writeln!(page, "\n## {}\n", self.heading(report))?;
        let results = format!("{RESULTS}/{stem}.json");
        writeln!(page, "{}. Results: [{results}]({results}).", report.machine())?;
        if !self.introduction.is_empty() {
            writeln!(page, "\n{}", self.introduction)?;
        }
        if !self.targets.is_empty() {
            page.push('\n');
        }
        for target in &self.targets {
            let Target { what, wanted, measured, .. } = target;
            writeln!(page, "* Target: {what} {wanted}. Measured: {measured}: {}.", target.verdict())?;
        }
        for part in &self.parts {
            if let Some(title) = part.title {
                writeln!(page, "\n### {title}")?;
            }
            if !part.text.is_empty() {
                writeln!(page, "\n{}", part.text)?;
            }
            for plot in &part.plots {
                let path = format!("{RESULTS}/{stem}-{}.svg", plot.name);
                writeln!(page, "\n![{}]({path})", plot.name.replace('-', " "))?;
                let earlier = files.insert(path, plot.svg()?);
                ensure!(earlier.is_none(), "two plots of {stem} have the name {}", plot.name);
            }
            let end = if part.table.is_empty() { "." } else { ":\n" };
            writeln!(page, "\n`{}`{end}", report.command())?;
            page.push_str(&part.table);
        }
        if !self.warnings.is_empty() {
            page.push_str("\nWarnings of this run:\n\n");
        }
        for warning in &self.warnings {
            writeln!(page, "* {warning}")?;
        }
        Ok(())
    }

    /// Its rows in the table of all targets.
    pub fn summary(&self, report: &Report) -> String {
        let heading = self.heading(report);
        let row = |target: &Target| {
            let Target { what, wanted, measured, .. } = target;
            let link = format!("[{heading}](#{})", anchor(&heading));
            format!("| {link} | {what} {wanted} | {measured} | {} |\n", target.verdict())
        };
        self.targets.iter().map(row).collect()
    }

    fn heading(&self, report: &Report) -> String {
        let vendor = if self.names_vendor { format!(", {}", report.vendor()) } else { String::new() };
        format!("{}{vendor}, Linux {}", self.title, report.kernel_version())
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// A table in Markdown: names on the left, figures on the right.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = format!("| | {} |\n|---|{}\n", head.join(" | "), "---:|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

/// A figure, bold if it misses its target.
pub fn bold(text: String, is_missed: bool) -> String {
    if is_missed { format!("**{text}**") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_target_is_bold_and_linked_to_its_section() {
        let target = |value| Target::at_most("outage", value, 1.0, "ms");
        let section =
            Section { title: "Loss: in", targets: vec![target(1.0), target(1.5)], ..Section::default() };
        let report = Report::default();
        let (mut page, mut files) = (String::new(), Files::new());
        section.write("x-6.18", &report, &mut page, &mut files).unwrap();
        let lines = "* Target: outage at most 1 ms. Measured: 1.00 ms: met.\n* Target: outage at most 1 ms. Measured: 1.50 ms: **missed**.\n";
        assert!(page.contains(lines), "{page}");
        let summary = section.summary(&report);
        assert!(summary.starts_with("| [Loss: in, Linux ](#loss-in-linux-) |"), "{summary}");
        assert!(summary.ends_with("| 1.50 ms | **missed** |\n"), "{summary}");
    }
}
