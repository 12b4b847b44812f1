use super::*;

const ALL: MemberSet = MemberSet::from_bits(0b111);

fn connection(member: u8, remote: &str, sent: u32, retransmitted: u32) -> Connection {
    let remote = remote.parse().expect("an address");
    Connection {
        group: 7,
        member,
        hash: 0x100 + u32::from(member),
        remote,
        sent,
        retransmitted,
        duplicates: 0,
    }
}

/// Two sweeps over these connections, each as it was before and after.
fn compare(connections: &[(Connection, Connection)]) -> Lost {
    let mut sweeps = Sweeps::default();
    let at = |now: bool| {
        let of = |(before, after): &(Connection, Connection)| if now { *after } else { *before };
        (1u64..).zip(connections.iter().map(of)).collect::<HashMap<_, _>>()
    };
    assert_eq!(sweeps.compare(at(false), |_| ALL), BTreeMap::new(), "nothing to compare with");
    sweeps.compare(at(true), |_| ALL).remove(&7).unwrap_or_default()
}

/// What a member lost, and what others did.
fn counts(lost: &Lost, member: u8) -> Option<(Count, Count)> {
    let sum = lost.get(&member)?.sum();
    Some((sum.own(), sum.others()))
}

fn count(sent: f64, lost: f64) -> Count {
    Count { sent, lost }
}

#[test]
fn members_are_compared_within_one_destination() {
    let start = |member, remote| connection(member, remote, 1000, 50);
    let lost = compare(&[
        (start(0, "192.0.2.1"), connection(0, "192.0.2.1", 1050, 55)),
        (start(1, "192.0.2.200"), connection(1, "192.0.2.200", 1020, 50)),
        // Another network, which one member alone reaches.
        (start(0, "198.51.100.1"), connection(0, "198.51.100.1", 1080, 90)),
        (start(2, "2001:db8::1"), connection(2, "2001:db8::1", 1010, 51)),
        (start(1, "2001:db8::2:0:0:1"), connection(1, "2001:db8::2:0:0:1", 1040, 50)),
        (start(1, "2001:db8:0:1::1"), connection(1, "2001:db8:0:1::1", 1100, 150)),
    ]);
    assert_eq!(counts(&lost, 0), Some((count(50.0, 5.0), count(20.0, 0.0))));
    assert_eq!(counts(&lost, 1).map(|(own, _)| own), Some(count(60.0, 0.0)));
    assert_eq!(counts(&lost, 2), Some((count(10.0, 1.0), count(40.0, 0.0))));
}

#[test]
fn connection_counts_only_while_its_path_and_its_counters_last() {
    let before = connection(0, "192.0.2.1", 1000, 50);
    let after = Connection { sent: 1080, retransmitted: 58, ..before };
    let other = (connection(1, "192.0.2.1", 10, 0), connection(1, "192.0.2.1", 90, 0));
    assert_eq!(counts(&compare(&[(before, after), other]), 0), Some((count(80.0, 8.0), count(80.0, 0.0))));
    for (what, after) in [
        ("another hash", Connection { hash: 0x777, ..after }),
        ("another member for its slot", Connection { member: 2, ..after }),
        ("another group", Connection { group: 8, ..after }),
        ("fewer segments than before", Connection { sent: 999, ..after }),
        ("fewer retransmissions", Connection { retransmitted: 49, ..after }),
        ("nothing sent", Connection { sent: before.sent, ..after }),
    ] {
        assert_eq!(compare(&[(before, after), other]), Lost::new(), "{what}");
    }
}

#[test]
fn connection_that_a_sweep_missed_begins_anew() {
    let mut sweeps = Sweeps::default();
    let found = |sent| {
        let both = [(1, connection(0, "192.0.2.1", sent, 0)), (2, connection(1, "192.0.2.1", sent, 0))];
        HashMap::from(both)
    };
    for (found, counts) in [
        (found(10), false),
        (found(20), true),
        (HashMap::new(), false),
        (found(30), false),
        (found(40), true),
    ] {
        assert_eq!(!sweeps.compare(found, |_| ALL).is_empty(), counts);
    }
}

#[test]
fn segments_that_arrived_twice_were_not_lost() {
    let other = (connection(1, "192.0.2.1", 10, 0), connection(1, "192.0.2.1", 60, 0));
    let before = connection(0, "192.0.2.1", 1000, 50);
    for (duplicates, lost) in [(0, 8.0), (5, 3.0), (8, 0.0), (20, 0.0)] {
        let after = Connection { sent: 1080, retransmitted: 58, duplicates, ..before };
        assert_eq!(counts(&compare(&[(before, after), other]), 0).unwrap().0, count(80.0, lost));
    }
}

#[test]
fn connection_that_sends_much_counts_as_one_that_sends_a_hundred_segments() {
    let other = (connection(1, "192.0.2.1", 10, 0), connection(1, "192.0.2.1", 60, 0));
    let busy = (connection(0, "192.0.2.1", 0, 0), connection(0, "192.0.2.1", 50_000, 10_000));
    assert_eq!(counts(&compare(&[busy, other]), 0), Some((count(100.0, 20.0), count(50.0, 0.0))));
}

#[test]
fn degraded_members_are_no_measure_for_others() {
    let all = [0, 1, 2].map(|member| {
        let lost = if member == 2 { 25 } else { 0 };
        (u64::from(member), connection(member, "192.0.2.1", 50, lost))
    });
    let start = all.map(|(cookie, of)| (cookie, Connection { sent: 0, retransmitted: 0, ..of }));
    let mut sweeps = Sweeps::default();
    let peers = |_| MemberSet::from_bits(0b011);
    sweeps.compare(HashMap::from(start), peers);
    let lost = sweeps.compare(HashMap::from(all), peers).remove(&7).unwrap();
    assert_eq!(counts(&lost, 0), Some((count(50.0, 0.0), count(50.0, 0.0))));
    assert_eq!(counts(&lost, 2), Some((count(50.0, 25.0), count(100.0, 0.0))));
}

/// Segments of a member whose parts lost these shares of a hundred each.
fn segments(parts: &[f64]) -> Segments {
    let mut segments = Segments::default();
    for (sum, lost) in segments.0.iter_mut().zip(parts) {
        sum.add_part(count(100.0, *lost), count(1600.0, 80.0), count(1600.0, 0.0));
    }
    segments
}

/// Against a table of Student's distribution: 99.9 %, two-sided.
#[test]
fn quantiles_are_those_of_student() {
    for (degrees, expected) in [(5.0, 6.869), (7.0, 5.408), (10.0, 4.587), (15.0, 4.073)] {
        let quantile = student(CONFIDENCE, degrees);
        assert!((quantile - expected).abs() < 0.03 * expected, "{degrees}: {quantile}");
    }
}

/// By hand: sixteen parts of which half lose nothing and half 10 of 100 have the share 5 % and the variance
/// 16/15 * 16 * 25 / 1600^2, 5.61 times that of independent segments, times (4.073 / 3.29)^2.
#[test]
fn share_is_as_sure_as_connections_are_alike() {
    let alike = segments(&[5.0; 16]);
    assert_eq!(alike.count(), Some(count(1600.0, 80.0)));
    let different = segments(&[0.0, 10.0].repeat(8));
    let effect = 1600.0 / different.count().unwrap().sent;
    assert!((effect - 5.61 * 1.533).abs() < 0.1, "{effect}");
    let one = segments(&[vec![60.0], vec![0.0; 15]].concat());
    let (least, _) = one.count().unwrap().bounds(CONFIDENCE);
    assert!(least < 0.002, "one connection alone shows nothing: {:?}", one.count());
}

#[test]
fn few_connections_show_nothing() {
    assert_eq!(segments(&[20.0; 5]).count(), None);
    assert_eq!(segments(&[20.0; 6]).count(), Some(count(600.0, 120.0)));
    let windows = |parts: &[f64]| {
        let mut windows = Windows::<Segments>::default();
        windows.update(Time(Duration::from_secs(3600)), |value| value.add(&segments(parts)));
        windows
    };
    let now = Time(Duration::from_secs(3601));
    let (many, few) = (windows(&[20.0; 16]), windows(&[0.0; 5]));
    assert_eq!(super::compare(now, &many, &[&few]), []);
    assert_eq!(super::compare(now, &few, &[&many]), []);
    assert_eq!(super::compare(now, &many, &[&few, &windows(&[0.0; 16])]).len(), WINDOWS.len());
}
