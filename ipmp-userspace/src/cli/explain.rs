//! `ipmpctl explain`: why a member is in its state, the most important line first.

use std::{fmt::Write, time::Duration};

use super::{Error, monitor};
use crate::control::{
    Request,
    explanation::{Explanation, Recent, Timer, due},
    name,
    report::{
        MemberReport,
        probing::{Counters, ProbedTarget, Probing},
    },
};

/// Explain why a member is in the state in which it is: its link, its probes, the others', and what happened lately
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// Name of the member
    member: String,
}

impl Explain {
    pub(super) fn request(&self) -> Result<Request, Error> {
        name::check_interface(&self.member)?;
        Ok(Request::Explain { member: self.member.clone() })
    }
}

/// An explanation as text.
pub fn text(explanation: &Explanation) -> String {
    let Explanation { group, member, summary, reasons, recent, timers, events } = explanation;
    let mut text = format!("{summary}\n");
    let MemberReport { state, link, probe, .. } = member;
    line(&mut text, &format!("group {group}, state {state}, link {link}, probe {probe}"));
    reasons.iter().for_each(|reason| line(&mut text, reason));
    if !member.probing.is_empty() {
        text += "probes, oldest first: ! answered, . lost, ? judged too late, - not sent, ~ on its way\n";
        for probing in &member.probing {
            recent
                .iter()
                .filter(|recent| recent.family == probing.family)
                .for_each(|recent| line(&mut text, &fates(probing, recent)));
            line(&mut text, &counters(probing));
        }
    }
    if !timers.is_empty() {
        text += "what comes\n";
        timers.iter().for_each(|timer| line(&mut text, &when(timer)));
    }
    if !events.is_empty() {
        text += "what happened, the latest last\n";
        events.iter().for_each(|event| line(&mut text, monitor::text(event).trim_end()));
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "        {line}").expect("a string grows");
}

/// What became of the last probes of a target, and how long it takes.
fn fates(probing: &Probing, recent: &Recent) -> String {
    let mut text = format!("{} {} {}", recent.family, recent.target, recent.fates);
    let Some(target) = probing.targets.iter().find(|target| target.address == recent.target) else {
        return text;
    };
    let ProbedTarget { losses, answers, .. } = *target;
    match (losses, answers) {
        (0, 0) => {}
        (0, _) => write!(text, ", {answers} answered in a row").expect("a string grows"),
        _ => write!(text, ", {losses} lost in a row").expect("a string grows"),
    }
    if let (Some(average), Some(deviation)) = (target.average_us, target.deviation_us) {
        let ms = |us: u64| us as f64 / 1000.0;
        write!(text, ", {:.2} ms on the average, {:.2} ms off in the mean", ms(average), ms(deviation))
            .expect("a string grows");
    }
    if let Some(aside) = target.aside {
        write!(text, ", set aside: {aside}").expect("a string grows");
    }
    text
}

fn counters(probing: &Probing) -> String {
    let Counters { sent, answered, lost, void, unsent, missed, forged, duplicate } = probing.counters;
    format!(
        "{}: {sent} sent, {answered} answered, {lost} lost, {void} void, {unsent} not sent, {missed} rounds missed; \
         answers refused: {forged} forged, {duplicate} repeated",
        probing.family
    )
}

fn when(timer: &Timer) -> String {
    let Timer { what, of, in_ms } = timer;
    let of = of.as_deref().unwrap_or_default();
    let what = match what.as_str() {
        due::PROBE => format!("the next probe ({of})"),
        due::HOLD_DOWN => "flap protection lets it go".into(),
        due::SETTLED => format!("lost probes count against it ({of})"),
        due::FDT => "the failure detection time may fall again".into(),
        due::TARGET => format!("target {of} may be probed again"),
        due::LINK => "its link is trusted, if it stays good".into(),
        other => format!("{other} {of}"),
    };
    format!("{what} in {:.1} s", Duration::from_millis(*in_ms).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::explanation::sample;

    #[test]
    fn the_most_important_line_comes_first() {
        assert_eq!(
            text(&sample()),
            "\
e1000g0 has failed: its link is up, and its probes have 3 of 10 answers in a row (inet)
        group production0, state failed, link up, probe failed
        It carries no traffic: its probes have failed, and others work.
        Link: up; the datapath trusts it.
probes, oldest first: ! answered, . lost, ? judged too late, - not sent, ~ on its way
        inet 192.168.178.1 !!......!!!, 3 answered in a row, 0.31 ms on the average, 0.04 ms off in the mean
        inet 192.168.178.2 !...., 4 lost in a row, set aside: unresponsive
        inet: 15 sent, 6 answered, 9 lost, 1 void, 2 not sent, 3 rounds missed; answers refused: 4 forged, 5 repeated
what comes
        the next probe (inet) in 1.2 s
        target 192.168.178.2 may be probed again in 41.0 s
what happened, the latest last
        2010-01-08T20:01:06.042Z warning failed: IP interface failure detected on e1000g0 of group production0 (probes of \
             e1000g0 were lost one after another)
"
        );
    }

    #[test]
    fn every_timer_has_its_words() {
        let of = |what: &str, of: Option<&str>| {
            when(&Timer { what: what.into(), of: of.map(str::to_owned), in_ms: 61_040 })
        };
        assert_eq!(of(due::HOLD_DOWN, None), "flap protection lets it go in 61.0 s");
        assert_eq!(of(due::SETTLED, Some("inet6")), "lost probes count against it (inet6) in 61.0 s");
        assert_eq!(of(due::FDT, None), "the failure detection time may fall again in 61.0 s");
        assert_eq!(of(due::LINK, None), "its link is trusted, if it stays good in 61.0 s");
        assert_eq!(of("something-new", Some("x")), "something-new x in 61.0 s");
    }
}
