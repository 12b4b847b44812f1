//! What a capture on a member shows.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Instant;

use lab::network::counterpart;
use lab::probe_capture::{CapturedFrame, Message};
use lab::production::test_address;
use lab::{MeasurementLock, ProbeCapture, TIMEOUT, show_mac};

use super::*;
use ipmp::types::MemberState;

/// A fifth of it lies between two probes.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long is listened.
const LISTEN: Duration = Duration::from_millis(2500);
/// So many probes at least in that time: a machine that tests may lose a round now and then.
const ENOUGH: usize = 12;

/// The median of the times between them is a fifth of the failure detection time, within a quarter of that.
fn assert_even(what: &str, times: &[Instant]) {
    assert!(times.len() >= ENOUGH, "only {} {what} in {LISTEN:?}", times.len());
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    println!(
        "{what}: {} in {LISTEN:?}, {median:?} apart in the median, {:?} at most",
        times.len(),
        gaps.last()
    );
    assert!(median > INTERVAL * 3 / 4 && median < INTERVAL * 5 / 4, "{what}: {gaps:?}");
}

#[test]
fn echo_requests_leave_from_the_test_address_numbered_and_a_fifth_of_the_fdt_apart() {
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
    let heard = capture.read(LISTEN).unwrap();
    let sources = [IpAddr::from(test_address(number)), counterpart(test_address(number)).into()];
    let mut identifiers = BTreeSet::new();
    for (source, target) in sources.into_iter().zip(targets) {
        let of = |heard: &CapturedFrame, wanted: bool| match heard.message {
            Message::Echo { reply, source: from, destination, identifier, sequence, cookie }
                if reply == wanted && heard.outgoing != wanted =>
            {
                let (asker, asked) = if reply { (destination, from) } else { (from, destination) };
                // Whoever looks for hosts asks them all, with numbers of its own.
                (asked == target).then_some((asker, identifier, sequence, cookie))
            }
            _ => None,
        };
        let requests: Vec<_> = heard.iter().filter_map(|heard| Some((heard, of(heard, false)?))).collect();
        let times: Vec<Instant> = requests.iter().map(|(heard, _)| heard.at).collect();
        assert_even(&format!("echo requests from {source} to {target}"), &times);
        for (heard, (from, identifier, ..)) in &requests {
            assert_eq!(
                (*from, heard.from, heard.to),
                (source, member.mac(), lab.router().mac()),
                "{heard:?}"
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
        let replies: BTreeSet<(u16, u64)> = heard
            .iter()
            .filter_map(|heard| of(heard, true).map(|(_, _, sequence, cookie)| (sequence, cookie)))
            .collect();
        let answered =
            requests.iter().filter(|(_, (_, _, n, cookie))| replies.contains(&(*n, *cookie))).count();
        // The last one may be answered too late to be heard.
        assert!(answered + 1 >= requests.len(), "{answered} of {} were answered", requests.len());
    }
    assert_eq!(identifiers.len(), 1, "an identifier is the daemon's: {identifiers:?}");
    production.assert_clean();
}

#[test]
fn arp_and_neighbour_probes_need_no_address_and_find_a_cut_cable() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let (target, target6) = (ROUTER, counterpart(ROUTER));
    let production =
        without_test_addresses(&lab, &format!("fdt=500ms probe=auto targets={target},{target6}"));
    let member = &lab.members()[2];
    let capture = ProbeCapture::on(lab.host(), member.name()).unwrap();
    let heard = capture.read(LISTEN).unwrap();
    let (us, router) = (member.mac(), lab.router().mac());
    let arp = Message::Arp { reply: false, sender: Ipv4Addr::UNSPECIFIED, target };
    let requests: Vec<&CapturedFrame> =
        heard.iter().filter(|heard| heard.outgoing && heard.message == arp).collect();
    let times: Vec<Instant> = requests.iter().map(|heard| heard.at).collect();
    assert_even(&format!("ARP probes for {target}"), &times);
    for heard in requests {
        assert_eq!((heard.from, heard.to), (us, router), "{heard:?}");
        assert_eq!(heard.frame[22..28], us, "{heard:?}");
    }
    let to_nobody = Message::Arp { reply: true, sender: target, target: Ipv4Addr::UNSPECIFIED };
    let replies = heard.iter().filter(|heard| !heard.outgoing && heard.message == to_nobody).count();
    assert!(replies + 1 >= times.len(), "{replies} of {} ARP probes were answered", times.len());

    let probes = |heard: &&CapturedFrame| {
        let unicast = matches!(heard.message, Message::Nd { reply: false, destination, target, .. }
            if target == target6 && destination == target6);
        heard.outgoing && unicast
    };
    let solicitations: Vec<&CapturedFrame> = heard.iter().filter(probes).collect();
    let times: Vec<Instant> = solicitations.iter().map(|heard| heard.at).collect();
    assert_even(&format!("neighbour solicitations to {target6}"), &times);
    for heard in solicitations {
        let Message::Nd { source, .. } = heard.message else { unreachable!() };
        assert!(Ipv6Addr::is_unicast_link_local(&source), "{heard:?}");
        assert_eq!((heard.from, heard.to), (us, router), "{heard:?}");
    }
    println!("{} probed from {}", member.name(), show_mac(us));

    member.cable().cut().unwrap();
    production.wait_state(member.name(), MemberState::Failed, TIMEOUT).unwrap();
    production.wait_usable(2).unwrap();
    member.cable().restore().unwrap();
    production.wait_state(member.name(), MemberState::Ok, TIMEOUT).unwrap();
    production.wait_usable(3).unwrap();
    production.assert_clean();
}
