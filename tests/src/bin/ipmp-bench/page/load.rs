//! What the daemon and the programs cost: without traffic, with probes, with connections, with frames that are not wanted.

use super::plot::{Bars, Plot, Scale};
use super::section::{Part, Section, Target, table};
use crate::early_drop::EarlyDrop;
use crate::echo::Echo;
use crate::evidence::Evidence;
use crate::idle::{Idle, mib};
use crate::probing::Probing;
use crate::spread::Spread;
use crate::storm::{Load, Storm};

/// The two settings of a measurement with and without the early drop.
const SETTINGS: [&str; 2] = ["xdp=off", "xdp=driver"];

/// Shares of one CPU, as bars.
fn shares(name: &str, title: String, rows: Vec<Bars>) -> Plot {
    Plot { name: name.into(), title, series: vec!["CPU"], scale: Scale::Linear, rows }
}

fn share(name: &str, percent: f64) -> Bars {
    Bars::ours(name, [percent])
}

/// A section with one plot and one table of names and figures.
fn list(title: &'static str, introduction: String, plot: Plot, figures: &[(&str, String)]) -> Section {
    let rows = figures.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
    let table = table(&["measured"], rows);
    let parts = vec![Part { plots: vec![plot], table, ..Part::default() }];
    Section { title, introduction, parts, ..Section::default() }
}

/// Groups without traffic.
pub fn idle(idle: &Idle) -> Section {
    let Idle { groups, members, daemon_percent, sentinel_percent, target_percent, .. } = idle;
    let both = daemon_percent + sentinel_percent;
    let plot = shares(
        "cpu",
        format!("CPU time of {groups} groups with {members} members without traffic, % of one CPU"),
        vec![
            share("daemon", *daemon_percent),
            share("sentinel", *sentinel_percent),
            share("both together", both).target(*target_percent),
        ],
    );
    let section = list(
        "Groups without traffic",
        format!(
            "{groups} groups of two NICs have no traffic and no probes for {:.0} s. The sentinel's time is that of its program, without the \
             interrupt that it runs in.",
            idle.seconds
        ),
        plot,
        &[
            ("daemon, % of a CPU", format!("{daemon_percent:.3}")),
            ("sentinel, % of a CPU", format!("{sentinel_percent:.3}")),
            ("wake-ups of the daemon per second", format!("{:.1}", idle.daemon_wake_ups_per_s)),
            ("ticks of the sentinel per second", format!("{:.1}", idle.sentinel_ticks_per_s)),
            ("average time of a tick, µs", format!("{:.1}", idle.sentinel_tick_ns / 1e3)),
            ("memory of the daemon, MiB", format!("{:.1}", mib(idle.daemon_resident_bytes))),
            (
                "the same, shared pages divided by their users, MiB",
                format!("{:.1}", mib(idle.daemon_proportional_bytes)),
            ),
            ("memory of BPF maps, MiB", format!("{:.1}", mib(idle.maps_bytes))),
        ],
    );
    let target = Target::at_most("CPU time of daemon and sentinel", both, *target_percent, "%");
    Section { targets: vec![target], ..section }
}

/// Groups that are probed.
pub fn probing(probing: &Probing) -> Section {
    let Probing { groups, members, fdt_ms, seconds, .. } = probing;
    let plot = shares(
        "cpu",
        format!("CPU time with {:.0} probes per second, % of one CPU", probing.probes_per_s),
        vec![share("daemon", probing.daemon_percent), share("sentinel", probing.sentinel_percent)],
    );
    let section = list(
        "Probing",
        format!(
            "{groups} groups of two NICs are probed for {seconds:.0} s with `fdt={fdt_ms}ms`: five probes a second from each of {members} NICs. All \
             targets reply, so every failure is a false one."
        ),
        plot,
        &[
            ("probes per second", format!("{:.0}", probing.probes_per_s)),
            ("probes lost", probing.lost.to_string()),
            ("rounds discarded because the daemon was delayed", probing.discarded.to_string()),
            ("false failures", probing.failures.to_string()),
            ("daemon, % of a CPU", format!("{:.2}", probing.daemon_percent)),
            ("daemon, µs a probe", format!("{:.0}", probing.daemon_us_per_probe)),
            ("sentinel, % of a CPU", format!("{:.3}", probing.sentinel_percent)),
            ("memory of the daemon, MiB", format!("{:.1}", mib(probing.daemon_resident_bytes))),
        ],
    );
    let target = Target {
        what: "false failures:".into(),
        wanted: "none".into(),
        measured: probing.failures.to_string(),
        is_met: probing.failures == 0,
    };
    Section { targets: vec![target], ..section }
}

/// The program that watches TCP connections.
pub fn evidence(evidence: &Evidence) -> Section {
    let rows = evidence.rows.iter();
    let plot = Plot {
        name: "run".into(),
        title: "Average time of a run of the program that watches TCP connections, ns".into(),
        series: vec!["a run"],
        scale: Scale::Linear,
        rows: rows.clone().map(|row| Bars::ours(&row.traffic, [row.run_ns])).collect(),
    };
    let shown = |ns: Option<f64>| ns.map_or_else(|| "-".into(), |ns| format!("{ns:.2}"));
    let cells = rows.map(|row| {
        let counts = [row.connections, row.segments, row.sent_again, row.runs].map(|count| count.to_string());
        let times = [format!("{:.0}", row.run_ns), shown(row.connection_ns), shown(row.segment_ns)];
        [std::slice::from_ref(&row.traffic), &counts[..], &times[..]].concat()
    });
    let head =
        ["connections", "segments sent", "sent again", "runs", "ns a run", "ns a connection", "ns a segment"];
    Section {
        title: "Evidence of TCP connections",
        introduction: "With `evidence=on` a program runs when a TCP connection of the host is established, at its timeouts and when a segment is \
                       sent again, for no other packet. Short connections are opened one after another, each with a byte in both \
                       directions; then four connections transmit without a pause, without loss and while all NICs lose frames."
            .into(),
        parts: vec![Part { plots: vec![plot], table: table(&head, cells), ..Part::default() }],
        ..Section::default()
    }
}

/// Frames that a member receives and the group does not want.
pub fn early_drop(drop: &EarlyDrop) -> Section {
    let all = || drop.members.iter().flat_map(|of| of.rows.iter().map(move |row| (&of.kind, row)));
    let plot = Plot {
        name: "cpu".into(),
        title: "CPU time of a received frame, ns (bar median, line quartiles)".into(),
        series: SETTINGS.to_vec(),
        scale: Scale::Linear,
        rows: all()
            .map(|(kind, row)| Bars::ours(format!("{kind}, {}", row.frame), [row.without_ns, row.with_ns]))
            .collect(),
    };
    let cells = all().map(|(kind, row)| {
        let times = [row.without_ns, row.with_ns, row.saved_ns].map(|ns| ns.quartiles(0));
        [&[format!("{kind}, {}", row.frame)], &times[..]].concat()
    });
    Section {
        title: "Early drop",
        introduction: format!(
            "CPU time of a frame that a NIC receives, with and without its early drop by XDP, medians of {} rounds of {} frames (quartiles). \
             *copy*: a broadcast that another NIC of the group accepts; *reflected*: a frame that the group itself has sent; *flooded*: \
             one for another host. *wanted* is the unicast frame for the group, for which the program is only a cost. The driver of veth \
             has an skb before it runs the program, that of TAP has none, as that of a NIC: on veth the program costs time, and `xdp=auto` does not use it. On veth, the transmission is included.",
            drop.rounds, drop.frames
        ),
        parts: vec![Part {
            plots: vec![plot],
            table: table(&["xdp=off, ns", "xdp=driver, ns", "saved, ns"], cells),
            ..Part::default()
        }],
        ..Section::default()
    }
}

/// A broadcast storm.
pub fn storm(storm: &Storm) -> Section {
    let plot = |name: &str, title: String, of: fn(&Load) -> Spread| Plot {
        name: name.into(),
        title,
        series: SETTINGS.to_vec(),
        scale: Scale::Linear,
        rows: storm
            .rates
            .iter()
            .map(|rate| {
                let name = format!("{} frames/s", rate.offered_frames_per_s);
                Bars::ours(name, [&rate.without, &rate.with].map(of))
            })
            .collect(),
    };
    let cells = storm.rates.iter().flat_map(|rate| {
        SETTINGS.into_iter().zip([&rate.without, &rate.with]).map(|(setting, load)| {
            vec![
                format!("{} frames/s, {setting}", rate.offered_frames_per_s),
                format!("{:.0}", load.frames_per_s.median),
                load.cpu_percent.quartiles(1),
                load.wanted_lost_percent.quartiles(2),
            ]
        })
    });
    Section {
        title: "Broadcast storm",
        introduction: format!(
            "{} NICs of a group receive a broadcast storm at the same time, and {} wanted packets/s to a data address. One thread receives for all \
             of them, with a ring of {} frames: a frame that finds the ring full is lost. Medians of {} rounds (quartiles).",
            storm.members, storm.wanted_packets_per_s, storm.ring_frames, storm.rounds
        ),
        parts: vec![Part {
            plots: vec![
                plot(
                    "cpu",
                    "CPU time for reception, % of one CPU (bar median, line quartiles)".into(),
                    |load| load.cpu_percent,
                ),
                plot("lost", "Wanted packets lost, % (bar median, line quartiles)".into(), |load| {
                    load.wanted_lost_percent
                }),
            ],
            table: table(&["frames/s received", "CPU, %", "wanted packets lost, %"], cells),
            ..Part::default()
        }],
        ..Section::default()
    }
}

/// Replies to probes.
pub fn echo(echo: &Echo) -> Section {
    let rows = [
        ("request and reply", echo.answered_ns),
        ("the same frame for another host, dropped", echo.dropped_ns),
        ("the reply: their difference", echo.reply_ns),
    ];
    let plot = Plot {
        name: "cpu".into(),
        title: "CPU time that a probe costs its target, ns (bar median, line quartiles)".into(),
        series: vec!["a frame"],
        scale: Scale::Linear,
        rows: rows.iter().map(|(name, ns)| Bars::ours(*name, [*ns])).collect(),
    };
    let mut figures: Vec<(&str, String)> = rows.iter().map(|(name, ns)| (*name, ns.quartiles(0))).collect();
    figures.push(("CPU of all replies, %", format!("{:.2}", echo.cpu_percent)));
    list(
        "Replies to probes",
        format!(
            "What probes cost their target: CPU time of {} ICMP echo requests at {} per second, ns, medians (quartiles). The kernel replies; \
             nothing is installed at the target.",
            echo.requests, echo.requests_per_s
        ),
        plot,
        &figures,
    )
}
