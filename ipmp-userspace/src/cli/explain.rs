//! `ipmpctl explain`: why a member is in its state.

use std::{fmt::Write, time::Duration};

use super::{
    error::Error,
    monitor,
    output::{Content, Format},
    verb::Verb,
};
use crate::control::{
    Request, Response,
    explanation::{Explanation, Recent, Timer, due},
    report::{
        MemberReport,
        probing::{Counters, ProbedTarget, Probing},
    },
};

/// Explain the state of a member: link, probes, timers and recent events
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl explain eth0")]
pub struct Explain {
    /// Name of the member
    member: String,
}

impl Verb for Explain {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Explain { member: self.member.clone() })
    }

    fn print(&self, response: Response, format: Format) -> String {
        match response {
            Response::Explained(explanation) => {
                Content::Explanation { explanation: &explanation }.print(format, || text(&explanation))
            }
            _ => String::new(),
        }
    }
}

/// An explanation as text.
pub(super) fn text(explanation: &Explanation) -> String {
    let Explanation { group, member, summary, reasons, recent, timers, events } = explanation;
    let mut text = format!("{summary}\n");
    let MemberReport { state, link, probe, .. } = member;
    line(&mut text, &format!("group {group}, state {state}, link {link}, probe {probe}"));
    reasons.iter().for_each(|reason| line(&mut text, reason));
    if !member.probing.is_empty() {
        text += "probes, oldest first: ! answered, . lost, ? discarded, - not sent, ~ pending\n";
        for probing in &member.probing {
            recent
                .iter()
                .filter(|recent| recent.family == probing.family)
                .for_each(|recent| line(&mut text, &target_line(probing, recent)));
            line(&mut text, &counters(probing));
        }
    }
    if !timers.is_empty() {
        text += "timers\n";
        timers.iter().for_each(|timer| line(&mut text, &timer_line(timer)));
    }
    if !events.is_empty() {
        text += "events, latest last\n";
        events.iter().for_each(|event| line(&mut text, monitor::text(event).trim_end()));
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "        {line}").expect("writing to a string cannot fail");
}

/// Outcomes of the last probes of a target, and its round-trip time.
fn target_line(probing: &Probing, recent: &Recent) -> String {
    let mut text = format!("{} {} {}", recent.family, recent.target, recent.outcomes);
    let Some(target) = probing.targets.iter().find(|target| target.address == recent.target) else {
        return text;
    };
    let ProbedTarget { losses, replies, .. } = *target;
    match (losses, replies) {
        (0, 0) => {}
        (0, _) => write!(text, ", {replies} answered in a row").expect("writing to a string cannot fail"),
        _ => write!(text, ", {losses} lost in a row").expect("writing to a string cannot fail"),
    }
    if let (Some(average), Some(deviation)) = (target.average_us, target.deviation_us) {
        let ms = |us: u64| us as f64 / 1000.0;
        write!(text, ", rtt avg/mdev {:.2}/{:.2} ms", ms(average), ms(deviation))
            .expect("writing to a string cannot fail");
    }
    if let Some(fault) = target.excluded {
        write!(text, ", excluded: {fault}").expect("writing to a string cannot fail");
    }
    text
}

fn counters(probing: &Probing) -> String {
    let Counters { sent, answered, lost, discarded, unsent, missed, unexpected, duplicate } =
        probing.counters;
    format!(
        "{}: {sent} sent, {answered} answered, {lost} lost, {discarded} discarded, {unsent} not sent, {missed} rounds missed; \
         replies rejected: {unexpected} unexpected, {duplicate} duplicate",
        probing.family
    )
}

fn timer_line(timer: &Timer) -> String {
    let Timer { what, of, in_ms } = timer;
    let of = of.as_deref().unwrap_or_default();
    let time = format!("in {:.1} s", Duration::from_millis(*in_ms).as_secs_f64());
    let what = match what.as_str() {
        due::PROBE => format!("next probe ({of})"),
        due::HOLD_DOWN => "hold-down ends".into(),
        due::SETTLED => format!("lost probes are counted ({of})"),
        due::FDT => "failure detection time may decrease".into(),
        due::TARGET => format!("target {of} may be probed again"),
        due::LINK => return format!("link is trusted {time} if it stays up"),
        other => format!("{other} {of}"),
    };
    format!("{what} {time}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::explanation::sample;

    #[test]
    fn text_starts_with_summary() {
        assert_eq!(
            text(&sample()),
            "\
e1000g0 has failed: its link is up, and its probes have 3 of 10 answers in a row (inet)
        group production0, state failed, link up, probe failed
        It is not active: its probes have failed, and others work.
        Link: up; up in the datapath.
probes, oldest first: ! answered, . lost, ? discarded, - not sent, ~ pending
        inet 192.168.178.1 !!......!!!, 3 answered in a row, rtt avg/mdev 0.31/0.04 ms
        inet 192.168.178.2 !...., 4 lost in a row, excluded: unresponsive
        inet: 15 sent, 6 answered, 9 lost, 1 discarded, 2 not sent, 3 rounds missed; replies rejected: 4 unexpected, 5 duplicate
timers
        next probe (inet) in 1.2 s
        target 192.168.178.2 may be probed again in 41.0 s
events, latest last
        2010-01-08T20:01:06.042Z warning failed: IP interface failure detected on e1000g0 of group production0 (probes of \
             e1000g0 were lost one after another)
"
        );
    }

    #[test]
    fn timer_line_describes_every_timer() {
        let line = |what: &str, of: Option<&str>| {
            timer_line(&Timer { what: what.into(), of: of.map(str::to_owned), in_ms: 61_040 })
        };
        assert_eq!(line(due::HOLD_DOWN, None), "hold-down ends in 61.0 s");
        assert_eq!(line(due::SETTLED, Some("inet6")), "lost probes are counted (inet6) in 61.0 s");
        assert_eq!(line(due::FDT, None), "failure detection time may decrease in 61.0 s");
        assert_eq!(line(due::LINK, None), "link is trusted in 61.0 s if it stays up");
        assert_eq!(line("something-new", Some("x")), "something-new x in 61.0 s");
    }
}
