//! `ipmpctl timeline`: the phases of the last failures and repairs.

use std::{fmt::Write as _, fs, io::Write, path::PathBuf};

use super::{
    error::Error,
    output::{Content, Format},
    verb::Verb,
};
use crate::{
    control::{
        Client, Request, Response,
        timeline::{Stamp, Transition},
    },
    types::Passage,
};

/// Width of the bars in characters.
const WIDTH: usize = 40;

/// Print how long each phase of the last failures and repairs took
///
/// All times are of one clock. A failure begins with what shows it first: the timer of the datapath (sentinel), the message of the
/// kernel (netlink), or for a silent failure the last reply and the first lost probe. Then the daemon has decided, has written the
/// masks of the datapath, and has announced its addresses. Outbound packets do not wait for any of them when a link goes down: the
/// datapath reads the carrier for each packet, and stamps the first one that leaves through another member (rerouted) and the first
/// one that is received there (received). ipmpd keeps the last 64 transitions of each group, also over its restart.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl timeline production0 --last 2
  ipmpctl timeline --svg timeline.svg")]
pub struct Timeline {
    /// Group interface, group name, or member [default: all groups]
    name: Option<String>,
    /// Print only so many, the latest
    #[arg(long, value_name = "COUNT")]
    last: Option<u32>,
    /// Write the picture to a file, also
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Verb for Timeline {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Timeline { name: self.name.clone(), last: self.last })
    }

    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn Write,
    ) -> Result<String, Error> {
        let Response::Timeline(transitions) = client.call(&request)? else { return Ok(String::new()) };
        if let Some(file) = &self.svg {
            fs::write(file, svg(&transitions))
                .map_err(|error| Error::Save(format!("cannot write {}: {error}", file.display())))?;
        }
        let content = Content::Transitions { transitions: &transitions };
        Ok(content.print(format, || transitions.iter().map(text).collect()))
    }
}

/// A phase in a picture.
struct Bar {
    phase: &'static str,
    /// When it ended, in milliseconds from the first one.
    end_ms: f64,
    /// How long it took, in milliseconds.
    took_ms: f64,
    /// Begin and length, as parts of the whole.
    begin: f64,
    length: f64,
}

/// The phases of a transition. The first one has no beginning: it takes no time.
fn bars(transition: &Transition) -> Vec<Bar> {
    let stamps = &transition.stamps;
    let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else { return Vec::new() };
    let whole = (last.at_ns - first.at_ns).max(1) as f64;
    let bar = |(before, stamp): (&Stamp, &Stamp)| {
        let took = (stamp.at_ns - before.at_ns) as f64;
        Bar {
            phase: stamp.phase.as_str(),
            end_ms: (stamp.at_ns - first.at_ns) as f64 / 1e6,
            took_ms: took / 1e6,
            begin: (before.at_ns - first.at_ns) as f64 / whole,
            length: took / whole,
        }
    };
    std::iter::once(first).chain(stamps).zip(stamps).map(bar).collect()
}

fn title(transition: &Transition) -> String {
    let Transition { time, group, member, passage, cause, failed_over_packets, dropped_packets, .. } =
        transition;
    let mut title = format!("{time} {group} {member}: {passage} ({cause})");
    if *passage == Passage::Failure {
        write!(title, ", {failed_over_packets} packets failed over, {dropped_packets} dropped")
            .expect("a string grows");
    }
    title
}

/// A title, and a line with a bar for each phase.
fn text(transition: &Transition) -> String {
    let mut text = title(transition) + "\n";
    for Bar { phase, end_ms, took_ms, begin, length } in bars(transition) {
        let cells = |part: f64| (part * WIDTH as f64).round() as usize;
        let bar = "#".repeat(cells(length).max(1));
        let before = " ".repeat(cells(begin).min(WIDTH - 1));
        writeln!(text, "        {phase:<11} {end_ms:>11.3} ms {took_ms:>+12.3} ms  {before}{bar}")
            .expect("a string grows");
    }
    text
}

/// The same as a picture.
fn svg(transitions: &[Transition]) -> String {
    const ROW: usize = 18;
    const BEGIN: f64 = 330.0;
    const LENGTH: f64 = 600.0;
    let mut rows = 0;
    let mut body = String::new();
    for transition in transitions {
        rows += 1;
        writeln!(
            body,
            "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{}</text>",
            rows * ROW,
            escaped(&title(transition))
        )
        .expect("a string grows");
        for Bar { phase, end_ms, took_ms, begin, length } in bars(transition) {
            rows += 1;
            let (x, width) = (BEGIN + begin * LENGTH, (length * LENGTH).max(1.0));
            writeln!(
                body,
                "<text x=\"10\" y=\"{y}\">{phase}</text><text x=\"320\" y=\"{y}\" text-anchor=\"end\">{end_ms:.3} ms \
                 ({took_ms:+.3})</text><rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"12\"/>",
                y = rows * ROW,
                top = rows * ROW - 11
            )
            .expect("a string grows");
        }
        rows += 1;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"{}\" font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<g fill=\"#204a87\">\n{body}</g>\n</svg>\n",
        (rows + 1) * ROW
    )
}

/// An interface name may contain anything but a slash and white space.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::timeline::sample;

    #[test]
    fn text_has_a_bar_for_each_phase() {
        assert_eq!(
            text(&sample()),
            "\
2010-01-08T20:01:06.042Z production0 e1000g0: failure (carrier-lost), 50000 packets failed over, 3 dropped
        sentinel          0.000 ms       +0.000 ms  #
        decided           0.250 ms       +0.250 ms  #####
        announced         1.000 ms       +0.750 ms       ###############
        netlink           2.000 ms       +1.000 ms                      ####################
"
        );
        assert_eq!(bars(&Transition { stamps: vec![], ..sample() }).len(), 0);
    }

    #[test]
    fn picture_has_a_rectangle_for_each_phase_and_escapes_names() {
        let picture = svg(&[Transition { member: "a<b&c".into(), ..sample() }]);
        assert_eq!(picture.matches("<rect x=").count(), 4);
        assert!(picture.contains("a&lt;b&amp;c: failure"), "{picture}");
        assert!(picture.contains("<rect x=\"630.0\" y=\"79\" width=\"300.0\" height=\"12\"/>"), "{picture}");
    }
}
