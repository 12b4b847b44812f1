//! The metrics of a report, in the order of `docs/metrics.md`.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text},
    metrics::MetricType,
    registry::Registry,
};

use super::counts::{Announced, BUCKETS, EventCount};
use crate::{
    control::report::{
        Exchanged, GroupReport, MemberReport,
        probing::{Passed, ProbedTarget, Probing},
    },
    types::{GroupState, LinkState, MemberState},
};

/// Names and values of the labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// What a scrape gets. Its `Display` is the text format of Prometheus, version 0.0.4.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    metrics: Vec<Metric>,
}

/// All samples of one name.
#[derive(Clone, Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Gauge(Vec<(Labels, f64)>),
    Counter(Vec<(Labels, u64)>),
    Histogram(Vec<(Labels, Announced)>),
}

impl Samples {
    /// The metrics of groups.
    pub(super) fn of(groups: &[GroupReport]) -> Self {
        let mut samples = Self::default();
        samples.add_groups(groups);
        samples.add_members(groups);
        samples.add_early_drops(groups);
        samples.add_probes(groups);
        samples
    }

    /// Whether the daemon has replied.
    pub(super) fn add_up(&mut self, is_up: bool) {
        self.gauge("ipmp_up", "Whether ipmpd has replied: 1 or 0", vec![(vec![], flag(is_up))]);
    }

    /// What has happened since the exporter began to watch.
    pub(super) fn add_events(&mut self, counts: Vec<EventCount>, announced: Vec<(String, Announced)>) {
        let counts =
            counts.into_iter().map(|(group, kind, count)| (vec![("group", group), ("kind", kind)], count));
        self.counter("ipmp_events", "Events of the log, by kind", counts.collect());
        self.metrics.push(Metric {
            name: "ipmp_announcement_seconds",
            help: "From the detection of a link change to the announcement of the addresses that it moved",
            values: Values::Histogram(
                announced.into_iter().map(|(group, all)| (vec![("group", group)], all)).collect(),
            ),
        });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) {
        self.metrics.push(Metric { name, help, values: Values::Gauge(samples) });
    }

    fn counter(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) {
        self.metrics.push(Metric { name, help, values: Values::Counter(samples) });
    }

    fn add_groups(&mut self, groups: &[GroupReport]) {
        let states = groups.iter().flat_map(|group| {
            GroupState::ALL.map(|state| {
                ([of_group(group), vec![("state", state.to_string())]].concat(), flag(group.state == state))
            })
        });
        self.gauge("ipmp_group_state", "The state of the group is this one: 1 or 0", states.collect());
        let mut per_group = |name, help, value: fn(&GroupReport) -> f64| {
            self.gauge(name, help, groups.iter().map(|group| (of_group(group), value(group))).collect());
        };
        per_group("ipmp_group_members", "Members, as node_bonding_slaves", |group| {
            group.members.len() as f64
        });
        per_group("ipmp_group_members_functioning", "Members in state ok, as node_bonding_active", |group| {
            group.members.iter().filter(|member| member.state == MemberState::Ok).count() as f64
        });
        per_group("ipmp_group_members_active", "Members over which traffic is distributed", |group| {
            group.members.iter().filter(|member| member.active).count() as f64
        });
        per_group("ipmp_group_addresses", "Data addresses", |group| group.addresses.len() as f64);
        per_group("ipmp_group_addresses_received", "Data addresses with an inbound member", |group| {
            group.addresses.iter().filter(|address| address.inbound.is_some()).count() as f64
        });
        per_group("ipmp_group_addresses_duplicate", "Data addresses that another host has", |group| {
            group.addresses.iter().filter(|address| address.duplicate).count() as f64
        });
        per_group("ipmp_group_split_targets", "Targets that reply to some members only", |group| {
            group.detection.split.len() as f64
        });
        per_group(
            "ipmp_group_families_without_replies",
            "Families in which no target replies on any member",
            |group| group.detection.unreachable_families.len() as f64,
        );
        let times = groups.iter().filter_map(|group| {
            let ms = group.fdt_ms?;
            Some((of_group(group), ms as f64 / 1e3))
        });
        self.gauge(
            "ipmp_group_failure_detection_time_seconds",
            "Failure detection time; none while no member is probed",
            times.collect(),
        );
        let drops = groups.iter().flat_map(|group| {
            let drops = group.drops;
            [
                ("no_member", drops.no_member),
                ("foreign_source", drops.foreign_source),
                ("truncated", drops.truncated),
                ("reflected", drops.reflected),
                ("other_copy", drops.other_copy),
            ]
            .map(|(reason, count)| ([of_group(group), vec![("reason", reason.into())]].concat(), count))
        });
        self.counter("ipmp_group_dropped_packets", "Packets that the datapath dropped", drops.collect());
    }

    fn add_members(&mut self, groups: &[GroupReport]) {
        let all: Vec<(&GroupReport, &MemberReport)> =
            groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member))).collect();
        let states = all.iter().flat_map(|(group, member)| {
            MemberState::ALL.map(|state| {
                let labels = [of_member(group, member), vec![("state", state.to_string())]].concat();
                (labels, flag(member.state == state))
            })
        });
        self.gauge("ipmp_member_state", "The state of the member is this one: 1 or 0", states.collect());
        let mut gauge = |name, help, value: fn(&GroupReport, &MemberReport) -> f64| {
            let samples = all.iter().map(|(group, member)| (of_member(group, member), value(group, member)));
            self.gauge(name, help, samples.collect());
        };
        gauge("ipmp_member_link_up", "Its link is up: 1 or 0", |_, member| {
            flag(member.link == LinkState::Up)
        });
        gauge("ipmp_member_active", "Traffic is distributed over it: 1 or 0", |_, member| {
            flag(member.active)
        });
        gauge("ipmp_member_standby", "It is a standby member: 1 or 0", |_, member| flag(member.standby));
        gauge(
            "ipmp_member_mtu_hole",
            "Large packets are lost on it that pass on another member: 1 or 0",
            |_, member| flag(member.mtu_hole.is_some()),
        );
        gauge(
            "ipmp_member_router_unreached",
            "It does not reach the default router that other members reach, and is avoided for that: 1 or 0",
            |_, member| flag(member.unreached_router.is_some()),
        );
        gauge("ipmp_member_degraded", "It loses far more packets than other members: 1 or 0", |_, member| {
            flag(member.degraded.is_some())
        });
        gauge("ipmp_member_slots", "Of the 4096 slots, those that prefer it", |_, member| {
            f64::from(member.slots)
        });
        gauge("ipmp_member_inbound_addresses", "Data addresses that it receives for", |group, member| {
            let receives = |inbound: &Option<String>| inbound.as_ref() == Some(&member.name);
            group.addresses.iter().filter(|address| receives(&address.inbound)).count() as f64
        });
        let lost = all.iter().flat_map(|(group, member)| {
            member.loss.iter().filter(|loss| loss.probes > 0).map(|loss| {
                let window = vec![("window", format!("{}m", loss.minutes))];
                ([of_member(group, member), window].concat(), loss.lost as f64 / loss.probes as f64)
            })
        });
        self.gauge(
            "ipmp_member_loss_ratio",
            "Share of its probes that were lost in this time",
            lost.collect(),
        );
        let mut counter = |name, help, value: fn(&MemberReport) -> u64| {
            let samples = all.iter().map(|(group, member)| (of_member(group, member), value(member)));
            self.counter(name, help, samples.collect());
        };
        counter("ipmp_member_transmitted_packets", "Packets of the group that it transmitted", |member| {
            member.traffic.out_packets
        });
        counter("ipmp_member_transmitted_bytes", "Bytes of the group that it transmitted", |member| {
            member.traffic.out_bytes
        });
        counter("ipmp_member_received_packets", "Packets that it received for the group", |member| {
            member.traffic.in_packets
        });
        counter("ipmp_member_received_bytes", "Bytes that it received for the group", |member| {
            member.traffic.in_bytes
        });
        counter(
            "ipmp_member_failed_over_packets",
            "Packets that it transmitted because a more preferred member could not",
            |member| member.traffic.failed_over_packets,
        );
    }

    fn add_early_drops(&mut self, groups: &[GroupReport]) {
        let members = groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
        let drops = members.filter_map(|(group, member)| Some((group, member, member.xdp.as_ref()?)));
        let samples = drops.flat_map(|(group, member, xdp)| {
            [("reflected", xdp.reflected), ("other_copy", xdp.other_copy), ("flooded", xdp.flooded)].map(
                |(reason, count)| {
                    ([of_member(group, member), vec![("reason", reason.into())]].concat(), count)
                },
            )
        });
        self.counter(
            "ipmp_member_early_dropped_packets",
            "Packets that the member dropped by XDP, with the setting xdp",
            samples.collect(),
        );
    }

    fn add_probes(&mut self, groups: &[GroupReport]) {
        let all: Vec<(Labels, &Probing)> = groups
            .iter()
            .flat_map(|group| group.members.iter().map(move |member| (group, member)))
            .flat_map(|(group, member)| {
                member.probing.iter().map(move |probing| {
                    let family = vec![("family", probing.family.to_string())];
                    ([of_member(group, member), family].concat(), probing)
                })
            })
            .collect();
        let failed = all.iter().map(|(labels, probing)| (labels.clone(), flag(probing.failed)));
        self.gauge("ipmp_probing_failed", "The member has failed by its probes: 1 or 0", failed.collect());
        let mut passed = |name, help, value: fn(Passed) -> f64| {
            let samples =
                all.iter().filter_map(|(labels, probing)| Some((labels.clone(), value(probing.passed?))));
            self.gauge(name, help, samples.collect());
        };
        passed("ipmp_probing_passed_bytes", "Bytes of the largest packet that passed both ways", |passed| {
            f64::from(passed.bytes)
        });
        passed("ipmp_probing_passed_age_seconds", "Time since that was last sent", |passed| {
            passed.ago_ms as f64 / 1e3
        });
        let exchanged: Vec<(Labels, Exchanged)> = groups
            .iter()
            .flat_map(|group| group.members.iter().map(move |member| (of_member(group, member), member)))
            .filter_map(|(labels, member)| Some((labels, member.exchanged?)))
            .collect();
        let bytes = exchanged.iter().map(|(labels, of)| (labels.clone(), f64::from(of.bytes)));
        self.gauge(
            "ipmp_member_exchanged_bytes",
            "Bytes of the frames of full size that passed to and from other members",
            bytes.collect(),
        );
        let age = exchanged.iter().map(|(labels, of)| (labels.clone(), of.ago_ms as f64 / 1e3));
        self.gauge(
            "ipmp_member_exchanged_age_seconds",
            "Time since both directions were proven",
            age.collect(),
        );
        let mut counter = |name, help, value: fn(&Probing) -> u64| {
            let samples = all.iter().map(|(labels, probing)| (labels.clone(), value(probing)));
            self.counter(name, help, samples.collect());
        };
        counter("ipmp_probes_sent", "Probes sent", |probing| probing.counters.sent);
        counter("ipmp_probes_answered", "Probes answered, in time or not", |probing| {
            probing.counters.answered
        });
        counter("ipmp_probes_lost", "Probes lost", |probing| probing.counters.lost);
        counter("ipmp_probes_discarded", "Probes neither lost nor answered", |probing| {
            probing.counters.discarded
        });
        counter("ipmp_probes_unsent", "Probes that could not be sent", |probing| probing.counters.unsent);
        let targets: Vec<(Labels, &ProbedTarget)> = all
            .iter()
            .flat_map(|(labels, probing)| {
                probing.targets.iter().map(move |target| {
                    ([labels.clone(), vec![("target", target.address.to_string())]].concat(), target)
                })
            })
            .collect();
        let mut seconds = |name, help, us: fn(&ProbedTarget) -> Option<u64>| {
            let samples = targets
                .iter()
                .filter_map(|(labels, target)| Some((labels.clone(), us(target)? as f64 / 1e6)));
            self.gauge(name, help, samples.collect());
        };
        seconds("ipmp_target_rtt_seconds", "Average round-trip time", |target| target.average_us);
        seconds("ipmp_target_rtt_deviation_seconds", "Mean deviation of the round-trip time", |target| {
            target.deviation_us
        });
        let losses = targets.iter().map(|(labels, target)| (labels.clone(), f64::from(target.losses)));
        self.gauge("ipmp_target_lost_in_a_row", "Probes to it lost in a row", losses.collect());
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        prometheus_text::encode(f, &registry)
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric { name, help, values } in &self.metrics {
            match values {
                Values::Gauge(samples) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                    for (labels, value) in samples {
                        metric.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
                Values::Counter(samples) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                    for (labels, value) in samples {
                        metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
                    }
                }
                Values::Histogram(samples) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
                    for (labels, Announced { sum, count, buckets }) in samples {
                        let buckets: Vec<(f64, u64)> = BUCKETS.into_iter().zip(*buckets).collect();
                        let mut metric = metric.encode_family(labels)?;
                        metric.encode_histogram::<NoLabelSet>(*sum, *count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn of_group(group: &GroupReport) -> Labels {
    vec![("group", group.name.clone())]
}

fn of_member(group: &GroupReport, member: &MemberReport) -> Labels {
    vec![("group", group.name.clone()), ("member", member.name.clone())]
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::{explanation, report};

    fn probed() -> GroupReport {
        GroupReport {
            members: [report::sample().members, vec![explanation::sample().member]].concat(),
            fdt_ms: Some(1500),
            ..report::sample()
        }
    }

    fn all() -> Samples {
        let mut samples = Samples::of(&[probed()]);
        samples.add_up(true);
        let mut announced = Announced::default();
        announced.add(0.0007);
        announced.add(3.0);
        let group = || "production0".to_owned();
        samples.add_events(vec![(group(), "failed".to_owned(), 2)], vec![(group(), announced)]);
        samples
    }

    #[test]
    fn report_is_encoded_as_prometheus_reads_it() {
        let text = all().to_string();
        for line in [
            "# TYPE ipmp_group_state gauge",
            "ipmp_group_state{group=\"production0\",state=\"degraded\"} 1.0",
            "ipmp_group_state{group=\"production0\",state=\"ok\"} 0.0",
            "ipmp_group_members{group=\"production0\"} 4.0",
            "ipmp_group_members_functioning{group=\"production0\"} 1.0",
            "ipmp_group_addresses_received{group=\"production0\"} 1.0",
            "ipmp_group_addresses_duplicate{group=\"production0\"} 1.0",
            "ipmp_group_failure_detection_time_seconds{group=\"production0\"} 1.5",
            "ipmp_group_dropped_packets_total{group=\"production0\",reason=\"other_copy\"} 5",
            "ipmp_member_state{group=\"production0\",member=\"e1000g1\",state=\"failed\"} 1.0",
            "ipmp_member_link_up{group=\"production0\",member=\"e1000g1\"} 0.0",
            "ipmp_member_slots{group=\"production0\",member=\"e1000g0\"} 1366.0",
            "ipmp_member_inbound_addresses{group=\"production0\",member=\"rge0\"} 0.0",
            "ipmp_member_transmitted_bytes_total{group=\"production0\",member=\"e1000g0\"} 98234123",
            "ipmp_member_failed_over_packets_total{group=\"production0\",member=\"e1000g0\"} 17",
            "ipmp_member_early_dropped_packets_total{group=\"production0\",member=\"e1000g0\",reason=\"flooded\"} 9",
            "ipmp_member_mtu_hole{group=\"production0\",member=\"rge0\"} 0.0",
            "ipmp_member_loss_ratio{group=\"production0\",member=\"e1000g0\",window=\"1m\"} 0.3076923076923077",
            "ipmp_member_degraded{group=\"production0\",member=\"rge0\"} 0.0",
            "ipmp_probing_passed_bytes{group=\"production0\",member=\"e1000g0\",family=\"inet\"} 1500.0",
            "ipmp_probing_passed_age_seconds{group=\"production0\",member=\"e1000g0\",family=\"inet\"} 3.0",
            "ipmp_member_exchanged_bytes{group=\"production0\",member=\"e1000g0\"} 1500.0",
            "ipmp_member_exchanged_age_seconds{group=\"production0\",member=\"e1000g0\"} 3.0",
            "ipmp_probes_lost_total{group=\"production0\",member=\"e1000g0\",family=\"inet\"} 9",
            "ipmp_target_rtt_seconds{group=\"production0\",member=\"e1000g0\",family=\"inet\",target=\"192.168.178.1\"} 0.000312",
            "ipmp_up 1.0",
            "ipmp_events_total{group=\"production0\",kind=\"failed\"} 2",
            "ipmp_announcement_seconds_count{group=\"production0\"} 2",
            "ipmp_announcement_seconds_bucket{group=\"production0\",le=\"0.001\"} 1",
            "ipmp_announcement_seconds_bucket{group=\"production0\",le=\"+Inf\"} 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn documentation_has_exactly_these_metrics() {
        let suffix = |metric: &Metric| match metric.values {
            Values::Counter(_) => "_total",
            _ => "",
        };
        let exported: BTreeSet<String> =
            all().metrics.iter().map(|metric| format!("{}{}", metric.name, suffix(metric))).collect();
        let documented: BTreeSet<String> = include_str!("../../../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
            .filter(|name| name.starts_with("ipmp_"))
            .map(str::to_owned)
            .collect();
        assert_eq!(exported, documented);
    }

    #[test]
    fn alert_rules_and_dashboard_use_metrics_that_exist() {
        let text = all().to_string();
        let names: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        for file in [
            include_str!("../../../../packaging/prometheus/ipmp.rules.yml"),
            include_str!("../../../../packaging/grafana/ipmp.json"),
        ] {
            let used: BTreeSet<&str> = file
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("ipmp_"))
                .collect();
            assert!(used.len() > 5 && used.is_subset(&names), "{:?}", used.difference(&names));
        }
    }
}
