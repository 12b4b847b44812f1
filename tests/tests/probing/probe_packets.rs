//! The probe packets that a capture on a member shows.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Instant;

use lab::network::counterpart;
use lab::probe_capture::{CapturedFrame, Message};
use lab::production::test_address;
use lab::{MeasurementLock, ProbeCapture, TIMEOUT, show_mac};

use super::*;
use ipmp::types::MemberState;

/// The probe interval: a fifth of the failure detection time.
const INTERVAL: Duration = Duration::from_millis(100);
/// Duration of a capture.
const CAPTURE: Duration = Duration::from_millis(2500);
/// Minimum number of probes in that time: a busy machine may miss a round.
const MIN_PROBES: usize = 12;

/// Checks that the median time between probes is [`INTERVAL`], within 25 %.
fn assert_interval(what: &str, times: &[Instant]) {
    assert!(times.len() >= MIN_PROBES, "only {} {what} in {CAPTURE:?}", times.len());
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    println!("{what}: {} in {CAPTURE:?}, median interval {median:?}, maximum {:?}", times.len(), gaps.last());
    assert!(median > INTERVAL * 3 / 4 && median < INTERVAL * 5 / 4, "{what}: {gaps:?}");
}

#[test]
fn echo_requests_have_test_address_sequence_numbers_and_interval() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let targets = [IpAddr::from(ROUTER), counterpart(ROUTER).into()];
    let [v4, v6] = targets;
    let production =
        Production::create_probed(&lab, &Family::ALL, &format!("fdt=500ms targets={v4},{v6}")).unwrap();
    production.wait_answered().unwrap();
    let (number, member) = (2, &lab.members()[2]);
    let capture = ProbeCapture::on(lab.host(), member.name()).unwrap();
    let frames = capture.read(CAPTURE).unwrap();
    let sources = [IpAddr::from(test_address(number)), counterpart(test_address(number)).into()];
    let mut identifiers = BTreeSet::new();
    for (source, target) in sources.into_iter().zip(targets) {
        let of = |frame: &CapturedFrame, wanted: bool| match frame.message {
            Message::Echo { reply, source: from, destination, identifier, sequence, cookie }
                if reply == wanted && frame.outgoing != wanted =>
            {
                let (prober, probed) = if reply { (destination, from) } else { (from, destination) };
                // Multicast target discovery sends to all hosts, with sequence numbers of its own.
                (probed == target).then_some((prober, identifier, sequence, cookie))
            }
            _ => None,
        };
        let requests: Vec<_> = frames.iter().filter_map(|frame| Some((frame, of(frame, false)?))).collect();
        let times: Vec<Instant> = requests.iter().map(|(frame, _)| frame.at).collect();
        assert_interval(&format!("echo requests from {source} to {target}"), &times);
        for (frame, (from, identifier, ..)) in &requests {
            assert_eq!(
                (*from, frame.from, frame.to),
                (source, member.mac(), lab.router().mac()),
                "{frame:?}"
            );
            identifiers.insert(*identifier);
        }
        for pair in requests.windows(2) {
            let [(_, (_, _, one, _)), (_, (_, _, next, _))] = pair else { unreachable!() };
            let step = next.wrapping_sub(*one);
            assert!((1..=3).contains(&step), "{next} comes after {one}");
        }
        let cookies: BTreeSet<u64> = requests.iter().map(|(_, (.., cookie))| *cookie).collect();
        assert_eq!(cookies.len(), requests.len(), "a cookie was used twice");
        let replies: BTreeSet<(u16, u64)> = frames
            .iter()
            .filter_map(|frame| of(frame, true).map(|(_, _, sequence, cookie)| (sequence, cookie)))
            .collect();
        let answered =
            requests.iter().filter(|(_, (_, _, n, cookie))| replies.contains(&(*n, *cookie))).count();
        // The reply to the last request may be received after the capture.
        assert!(answered + 1 >= requests.len(), "{answered} of {} were answered", requests.len());
    }
    assert_eq!(identifiers.len(), 1, "more than one identifier: {identifiers:?}");
    production.assert_clean();
}

#[test]
fn arp_and_nd_probes_work_without_test_address_and_detect_cut_cable() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let (target, target6) = (ROUTER, counterpart(ROUTER));
    let production =
        without_test_addresses(&lab, &format!("fdt=500ms probe=auto targets={target},{target6}"));
    let member = &lab.members()[2];
    let capture = ProbeCapture::on(lab.host(), member.name()).unwrap();
    let frames = capture.read(CAPTURE).unwrap();
    let (own, router) = (member.mac(), lab.router().mac());
    let arp = Message::Arp { reply: false, sender: Ipv4Addr::UNSPECIFIED, target };
    let requests: Vec<&CapturedFrame> =
        frames.iter().filter(|frame| frame.outgoing && frame.message == arp).collect();
    let times: Vec<Instant> = requests.iter().map(|frame| frame.at).collect();
    assert_interval(&format!("ARP probes for {target}"), &times);
    for frame in requests {
        assert_eq!((frame.from, frame.to), (own, router), "{frame:?}");
        assert_eq!(frame.frame[22..28], own, "{frame:?}");
    }
    let to_unspecified = Message::Arp { reply: true, sender: target, target: Ipv4Addr::UNSPECIFIED };
    let replies = frames.iter().filter(|frame| !frame.outgoing && frame.message == to_unspecified).count();
    assert!(replies + 1 >= times.len(), "{replies} of {} ARP probes were answered", times.len());

    let probes = |frame: &&CapturedFrame| {
        let unicast = matches!(frame.message, Message::Nd { reply: false, destination, target, .. }
            if target == target6 && destination == target6);
        frame.outgoing && unicast
    };
    let solicitations: Vec<&CapturedFrame> = frames.iter().filter(probes).collect();
    let times: Vec<Instant> = solicitations.iter().map(|frame| frame.at).collect();
    assert_interval(&format!("neighbour solicitations to {target6}"), &times);
    for frame in solicitations {
        let Message::Nd { source, .. } = frame.message else { unreachable!() };
        assert!(Ipv6Addr::is_unicast_link_local(&source), "{frame:?}");
        assert_eq!((frame.from, frame.to), (own, router), "{frame:?}");
    }
    println!("{} probed from {}", member.name(), show_mac(own));

    member.cable().cut().unwrap();
    production.wait_state(member.name(), MemberState::Failed, TIMEOUT).unwrap();
    production.wait_usable(2).unwrap();
    member.cable().restore().unwrap();
    production.wait_state(member.name(), MemberState::Ok, TIMEOUT).unwrap();
    production.wait_usable(3).unwrap();
    production.assert_clean();
}
