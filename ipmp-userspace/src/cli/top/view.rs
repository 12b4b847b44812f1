//! How `ipmpctl top` looks.

use std::fmt::Write as _;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, TableState},
};

use super::model::{Model, RoundTrips};
use crate::{
    control::{GroupReport, monitor::EventRecord, report::MemberReport},
    types::{GroupState, LinkState, MemberState, Severity},
};

/// Characters in a bar or a curve.
const WIDTH: usize = 20;
/// What is too small to show anything.
const SMALLEST: (u16, u16) = (60, 12);
const KEYS: &str = "q quit  up/down member  Tab group  o offline  i online";
const HEADING: Style = Style::new().add_modifier(Modifier::UNDERLINED);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const NOTABLE: Style = Style::new().fg(Color::Yellow);

/// Characters that draw amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glyphs {
    /// The lowest first.
    levels: [char; 8],
    lost: char,
}

impl Glyphs {
    const UNICODE: Self =
        Self { levels: ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'], lost: '×' };
    const ASCII: Self = Self { levels: ['_', '.', ',', '-', '=', '+', '*', '#'], lost: 'x' };

    /// Those that the terminal can show, by the environment (locale(7)).
    pub fn of_locale(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find(|name| set(name));
        let locale = locale.and_then(|name| variable(name)).unwrap_or_default().to_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Self::UNICODE } else { Self::ASCII }
    }

    /// Round-trip times, each as a character; the highest one is full.
    fn curve(self, trips: &RoundTrips) -> String {
        let newest = trips.newest(WIDTH);
        let most = newest.clone().flatten().max().unwrap_or(1).max(1);
        let level = |value: u64| {
            let place = (u128::from(value) * 8).div_ceil(u128::from(most)).clamp(1, 8) as usize;
            self.levels[place - 1]
        };
        newest.map(|value| value.map_or(self.lost, level)).collect()
    }

    /// A share between 0 and 1, as a bar of at most half of [`WIDTH`].
    fn bar(self, share: f64) -> String {
        let count = (share * WIDTH as f64 / 2.0).round() as usize;
        self.levels[7].to_string().repeat(count.min(WIDTH / 2))
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, glyphs: Glyphs) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (columns, lines) = SMALLEST;
        let text = format!("ipmpctl top needs {columns} columns and {lines} lines; q quits");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [title, body, footer] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(footer_line(model)), footer);
    let Some(group) = model.group() else {
        frame.render_widget(Paragraph::new("No groups: ipmpctl help attach"), title);
        return;
    };
    frame.render_widget(Paragraph::new(title_line(model, group)), title);
    let targets = model.round_trips();
    // A heading and a row for each; events get what is left, a third of the lines at least.
    let rows = |count: usize| if count == 0 { 0 } else { u16::try_from(count + 1).unwrap_or(u16::MAX) };
    let most = body.height - body.height / 3;
    let members_height = rows(group.members.len()).min(most * 2 / 3).max(rows(1));
    let targets_height = rows(targets.len()).min(most.saturating_sub(members_height));
    let [members, probes, events] = Layout::vertical([
        Constraint::Length(members_height),
        Constraint::Length(targets_height),
        Constraint::Min(0),
    ])
    .areas(body);
    draw_members(frame, members, model, group, glyphs);
    draw_round_trips(frame, probes, &targets, glyphs);
    draw_events(frame, events, model);
}

fn title_line(model: &Model, group: &GroupReport) -> Line<'static> {
    let active = group.members.iter().filter(|member| member.active).count();
    let style = match group.state {
        GroupState::Ok => GOOD,
        GroupState::Failed => BAD,
        _ => NOTABLE,
    };
    let mut rest = format!("  {active} of {} active", group.members.len());
    if let Some(time) = group.fdt_ms {
        write!(rest, "  FDT {}.{:02}s", time / 1000, time % 1000 / 10).expect("a string grows");
    }
    write!(rest, "  {}  hash {}", counted(group.addresses.len(), "address", "addresses"), group.hash)
        .expect("a string grows");
    if let (number, count @ 2..) = model.place() {
        write!(rest, "  group {number} of {count}").expect("a string grows");
    }
    let name = Span::styled(group.name.clone(), Modifier::BOLD);
    Line::from(vec![name, Span::raw("  "), Span::styled(group.state.to_string(), style), Span::raw(rest)])
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn draw_members(frame: &mut Frame<'_>, area: Rect, model: &Model, group: &GroupReport, glyphs: Glyphs) {
    let sent: f64 = group
        .members
        .iter()
        .filter_map(|member| model.rates(&member.name))
        .map(|rates| rates.out_packets)
        .sum();
    let rows = group.members.iter().map(|member| member_row(model, member, sent, glyphs));
    let widths = [
        Constraint::Length(15),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Min(5),
    ];
    let heading = ["MEMBER", "STATE", "LINK", "OUT b/s", "OUT p/s", "IN b/s", "IN p/s", "SHARE"]
        .into_iter()
        .map(Cell::from);
    let table = Table::new(rows, widths)
        .header(Row::new(heading).style(HEADING))
        .row_highlight_style(Modifier::REVERSED)
        .column_spacing(1);
    let mut state = TableState::new().with_selected(model.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

fn member_row(model: &Model, member: &MemberReport, sent: f64, glyphs: Glyphs) -> Row<'static> {
    let style = match member.state {
        MemberState::Ok => GOOD,
        MemberState::Failed => BAD,
        _ => NOTABLE,
    };
    let rates = model.rates(&member.name);
    let number =
        |of: fn(&super::model::Rates) -> f64| rates.as_ref().map_or("-".into(), |rates| scaled(of(rates)));
    let share = match rates {
        Some(rates) if sent > 0.0 => {
            let share = rates.out_packets / sent;
            format!("{:3.0}% {}", share * 100.0, glyphs.bar(share))
        }
        _ if member.inactive => "inactive".into(),
        _ => String::new(),
    };
    let link = if member.link == LinkState::Up { Style::new() } else { BAD };
    Row::new([
        Cell::from(member.name.clone()),
        Cell::from(member.state.to_string()).style(style),
        Cell::from(member.link.to_string()).style(link),
        Cell::from(number(|rates| rates.out_bits)),
        Cell::from(number(|rates| rates.out_packets)),
        Cell::from(number(|rates| rates.in_bits)),
        Cell::from(number(|rates| rates.in_packets)),
        Cell::from(share),
    ])
}

/// A number in four digits at most, with the prefix of its unit.
fn scaled(value: f64) -> String {
    let (mut value, mut prefixes) = (value, ["", "k", "M", "G", "T"].into_iter());
    let mut prefix = prefixes.next().unwrap_or_default();
    while value >= 999.5 {
        let Some(next) = prefixes.next() else { break };
        (value, prefix) = (value / 1000.0, next);
    }
    let digits = if value >= 99.95 || prefix.is_empty() { 0 } else { 1 };
    format!("{value:.digits$}{prefix}")
}

fn draw_round_trips(
    frame: &mut Frame<'_>,
    area: Rect,
    targets: &[(&str, std::net::IpAddr, &RoundTrips)],
    glyphs: Glyphs,
) {
    let rows = targets.iter().map(|(member, target, trips)| {
        let last = trips.last().map_or("-".into(), |time| format!("{:.3}", time as f64 / 1e6));
        let style = if trips.lost() > 0 { NOTABLE } else { Style::new() };
        Row::new([
            Cell::from((*member).to_owned()),
            Cell::from(target.to_string()),
            Cell::from(last),
            Cell::from(format!("{}/{}", trips.lost(), trips.len())).style(style),
            Cell::from(glyphs.curve(trips)),
        ])
    });
    let widths = [
        Constraint::Length(15),
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(u16::try_from(WIDTH).unwrap_or(u16::MAX)),
    ];
    let heading = ["MEMBER", "TARGET", "RTT ms", "LOST", "ROUND TRIPS"].into_iter().map(Cell::from);
    frame.render_widget(Table::new(rows, widths).header(Row::new(heading).style(HEADING)), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let count = usize::from(area.height.saturating_sub(1));
    let mut newest: Vec<&EventRecord> = model.events().take(count).collect();
    newest.reverse();
    let heading = Line::styled("EVENTS", HEADING);
    let lines = newest.into_iter().map(|event| {
        let style = match event.severity {
            Severity::Error => BAD,
            Severity::Warning => NOTABLE,
            Severity::Info => Style::new(),
            Severity::Debug => Style::new().add_modifier(Modifier::DIM),
        };
        // The time of day, in UTC.
        let time = event.time.get(11..19).unwrap_or(&event.time);
        Line::from(vec![
            Span::raw(format!("{time} ")),
            Span::styled(event.message.clone(), style),
            Span::raw(format!(" ({})", event.because)),
        ])
    });
    frame.render_widget(Paragraph::new([heading].into_iter().chain(lines).collect::<Vec<_>>()), area);
}

/// The question before all, then what is wrong, then the keys.
fn footer_line(model: &Model) -> Line<'static> {
    if let Some(question) = &model.question {
        return Line::styled(question.text(), Modifier::REVERSED);
    }
    if let Some(line) = &model.unreachable {
        return Line::styled(format!("Not current: {line}"), BAD);
    }
    match &model.status {
        Some(line) => Line::styled(line.clone(), NOTABLE),
        None => Line::styled(KEYS, Modifier::DIM),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        control::{monitor, probes, report::sample},
        types::ProbeOutcome,
    };

    /// The lines of a picture, without spaces at their ends.
    fn picture(model: &Model, width: u16, height: u16, glyphs: Glyphs) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, glyphs)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    fn model() -> Model {
        let begin = Instant::now();
        let mut model = Model::new(vec![sample()], begin);
        let mut later = sample();
        for (member, (packets, bytes)) in
            later.members.iter_mut().zip([(30_000, 45_000_000), (0, 0), (10_000, 640_000)])
        {
            member.traffic.out_packets += packets;
            member.traffic.out_bytes += bytes;
            member.traffic.in_packets += packets / 10;
            member.traffic.in_bytes += bytes / 10;
        }
        model.read(vec![later], begin + Duration::from_secs(1));
        for number in 0..8_u16 {
            let outcome = if number == 5 { ProbeOutcome::Lost } else { ProbeOutcome::Answered };
            let network_ns = (number != 5).then_some(100_000 * u64::from(number + 1));
            model.record_probe(&probes::ProbeReport { number, outcome, network_ns, ..probes::sample() });
        }
        model.record_event(monitor::sample());
        model
    }

    #[test]
    fn picture_of_80_columns_and_24_lines_has_all_parts() {
        let lines = picture(&model(), 80, 24, Glyphs::UNICODE);
        assert_eq!(lines[0], "production0  degraded  1 of 3 active  2 addresses  hash connection");
        assert_eq!(
            lines[1..9],
            [
                "MEMBER          STATE    LINK OUT b/s OUT p/s IN b/s  IN p/s  SHARE",
                "e1000g0         ok       up   360M    30.0k   36.0M   3.0k     75% ████████",
                "e1000g1         failed   down 0       0       0       0         0%",
                "rge0            offline  up   5.1M    10.0k   512k    1.0k     25% ███",
                "MEMBER          TARGET                       RTT ms   LOST  ROUND TRIPS",
                "rge0            192.168.178.1                0.800    1/8   ▁▂▃▄▅×▇█",
                "EVENTS",
                "20:01:06 Data address 192.168.178.200 of group production0 has moved from e1000g",
            ]
        );
        assert_eq!(lines[23], KEYS);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    }

    #[test]
    fn question_and_lost_daemon_replace_the_keys() {
        let mut model = model();
        model.unreachable = Some("ipmpd has stopped".into());
        assert_eq!(picture(&model, 80, 24, Glyphs::ASCII)[23], "Not current: ipmpd has stopped");
        model.question = model.selected_member().map(super::super::Question::offline);
        let lines = picture(&model, 80, 24, Glyphs::ASCII);
        assert_eq!(lines[23], "Take e1000g0 offline? y: yes, any other key: no");
        assert!(lines[6].ends_with("_.,-=x*#"), "{lines:#?}");
    }

    #[test]
    fn every_size_is_drawn_and_selected_member_is_in_sight() {
        let mut model = model();
        let mut large = sample();
        large.members = (0..16_u8)
            .map(|number| MemberReport { name: format!("eth{number}"), ..sample().members[0].clone() })
            .collect();
        model.read(vec![large], Instant::now());
        model.select("eth15");
        for width in [1, 20, 59, 60, 80, 200] {
            for height in [1, 2, 11, 12, 24, 70] {
                let lines = picture(&model, width, height, Glyphs::UNICODE);
                if (width, height) >= SMALLEST && height >= SMALLEST.1 {
                    assert!(
                        lines.iter().any(|line| line.starts_with("eth15 ")),
                        "{width}x{height}: {lines:#?}"
                    );
                    assert!(lines.iter().any(|line| line == "EVENTS"), "{width}x{height}: {lines:#?}");
                }
            }
        }
        let empty = Model::new(vec![], Instant::now());
        assert_eq!(picture(&empty, 80, 24, Glyphs::ASCII)[0], "No groups: ipmpctl help attach");
        assert!(picture(&empty, 59, 24, Glyphs::ASCII)[0].starts_with("ipmpctl top needs 60 columns"));
    }

    #[test]
    fn numbers_have_four_characters_and_a_prefix_at_most() {
        let expected = [
            (0.0, "0"),
            (0.4, "0"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12.3k"),
            (99_960.0, "100k"),
            (999_600.0, "1.0M"),
            (40e9, "40.0G"),
            (4e15, "4000T"),
        ];
        for (value, text) in expected {
            assert_eq!(scaled(value), text);
        }
    }

    #[test]
    fn locale_selects_characters() {
        let of = |set: &'static [(&str, &str)]| {
            Glyphs::of_locale(|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[("LANG", "de_DE.UTF-8")]), Glyphs::UNICODE);
        assert_eq!(of(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]), Glyphs::ASCII);
        assert_eq!(of(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]), Glyphs::UNICODE);
        assert_eq!(of(&[]), Glyphs::ASCII);
    }
}
