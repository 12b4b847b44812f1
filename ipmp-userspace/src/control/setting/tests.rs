use super::*;

const GROUP: &str = "a group has address-detection=yes|no, announce-count=auto|1..20, announce-interval=1s..3600s, \
                     announce-rate=auto|1..1000, capture=auto|on|off, classic=yes|no, confirm=fast|even, evidence=on|off, fail-open=yes|no, \
                     failback=yes|no|idle, failback-limit=1s..36000s, fdt=10ms..3600s, hash=connection|flow|destination, loss-fail=off|0.01%..100%, loss-warn=off|0.01%..100%, manage-sysctls=yes|warn, probe=off|auto|arp|nd, \
                     source-spread=on|off, split=prefer-router|keep, targets=auto|ADDRESS[,ADDRESS...], updelay=0ms..600s";
const MEMBER: &str = "a member has updelay=0ms..600s, match=auto|permanent-mac|mac|name, standby=on|off, weight=1..1000000, \
                      xdp=off|driver|auto";

fn read(text: &str) -> Result<Setting, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

#[test]
fn every_value_is_read_as_it_is_written() {
    for text in [
        "address-detection=yes",
        "address-detection=no",
        "announce-count=auto",
        "announce-count=1",
        "announce-count=20",
        "announce-interval=1s",
        "announce-interval=3600s",
        "announce-rate=auto",
        "announce-rate=1",
        "announce-rate=1000",
        "capture=auto",
        "capture=on",
        "capture=off",
        "classic=yes",
        "classic=no",
        "confirm=fast",
        "confirm=even",
        "evidence=on",
        "evidence=off",
        "fail-open=yes",
        "fail-open=no",
        "failback=yes",
        "failback=no",
        "failback=idle",
        "failback-limit=1s",
        "failback-limit=36000s",
        "fdt=10ms",
        "fdt=1000ms",
        "fdt=1s",
        "hash=connection",
        "hash=flow",
        "hash=destination",
        "loss-fail=off",
        "loss-fail=5%",
        "loss-warn=off",
        "loss-warn=0.01%",
        "loss-warn=0.25%",
        "loss-warn=100%",
        "manage-sysctls=yes",
        "manage-sysctls=warn",
        "probe=off",
        "probe=auto",
        "probe=arp",
        "probe=nd",
        "source-spread=on",
        "source-spread=off",
        "split=prefer-router",
        "split=keep",
        "targets=auto",
        "targets=192.168.178.1",
        "targets=192.168.178.1,2001:db8::1",
        "updelay=0ms",
        "updelay=0s",
        "updelay=35s",
        "updelay=600s",
        "match=auto",
        "match=permanent-mac",
        "match=mac",
        "match=name",
        "standby=on",
        "standby=off",
        "weight=1",
        "weight=1000000",
        "xdp=off",
        "xdp=driver",
        "xdp=auto",
    ] {
        assert_eq!(read(text).unwrap().to_string(), text);
    }
    assert_eq!(read("hash=flow"), Ok(Setting::Hash(HashPolicy::Flow)));
    assert_eq!(read("weight=10"), Ok(Setting::Weight(10)));
    assert_eq!(read("fdt=100ms"), Ok(Setting::Fdt("100ms".parse().unwrap())));
    assert_eq!(read("targets=auto"), Ok(Setting::Targets(vec![])));
    assert_eq!(read("standby=on"), Ok(Setting::Standby(true)));
    assert_eq!(read("failback=no"), Ok(Setting::Failback(Failback::No)));
    assert_eq!(read("probe=arp"), Ok(Setting::Probe(ProbePolicy::Arp)));
}

#[test]
fn what_is_none_is_refused_with_what_there_is() {
    let all = format!("{GROUP}; {MEMBER}");
    assert_eq!(read("capture"), Err(format!("expected KEY=VALUE, got \"capture\"; {all}")));
    assert_eq!(read("colour=red"), Err(format!("there is no setting \"colour\": {all}")));
    assert_eq!(read("=on"), Err(format!("there is no setting \"\": {all}")));
    assert_eq!(
        read("capture=maybe"),
        Err("capture cannot be \"maybe\": write capture=auto|on|off".to_owned())
    );
    for value in ["", "0", "-1", "+1", "1.5", "1000001", "99999999999"] {
        let refused = format!("weight cannot be {value:?}: write weight=1..1000000");
        assert_eq!(read(&format!("weight={value}")), Err(refused));
    }
    for (text, values) in [
        ("announce-count=0", "auto|1..20"),
        ("announce-count=+1", "auto|1..20"),
        ("announce-interval=5", "1s..3600s"),
        ("announce-interval=0s", "1s..3600s"),
        ("announce-interval=s", "1s..3600s"),
        ("announce-rate=1001", "auto|1..1000"),
        ("announce-rate=", "auto|1..1000"),
        ("fdt=9ms", "10ms..3600s"),
        ("fdt=10", "10ms..3600s"),
        ("confirm=slow", "fast|even"),
        ("evidence=tcp", "on|off"),
        ("source-spread=yes", "on|off"),
        ("failback=on", "yes|no|idle"),
        ("failback-limit=300", "1s..36000s"),
        ("failback-limit=0s", "1s..36000s"),
        ("failback-limit=36001s", "1s..36000s"),
        ("fail-open=", "yes|no"),
        ("loss-fail=5", "off|0.01%..100%"),
        ("loss-warn=0%", "off|0.01%..100%"),
        ("manage-sysctls=no", "yes|warn"),
        ("probe=icmp", "off|auto|arp|nd"),
        ("split=router", "prefer-router|keep"),
        ("targets=", "auto|ADDRESS[,ADDRESS...]"),
        ("updelay=601s", "0ms..600s"),
        ("updelay=30", "0ms..600s"),
        ("match=ifindex", "auto|permanent-mac|mac|name"),
        ("standby=yes", "on|off"),
        ("xdp=generic", "off|driver|auto"),
    ] {
        let (key, value) = text.split_once('=').unwrap();
        assert_eq!(read(text), Err(format!("{key} cannot be {value:?}: write {key}={values}")));
    }
    assert_eq!(
        read("targets=192.168.178.1,224.0.0.1"),
        Err("224.0.0.1 is a multicast address, which cannot be a target: name a host on the link of the group"
            .to_owned())
    );
    let twice = Setting::all_of(&["capture=on".into(), "capture=on".into()]).unwrap_err();
    assert_eq!(twice.to_string(), "capture is set twice: set it once");
}

#[test]
fn a_group_is_no_member() {
    let refused = |text: &str, name, owner| read(text).unwrap().check(name, owner).unwrap_err().to_string();
    assert_eq!(
        refused("weight=1", "production0", Owner::Group),
        format!("production0 is a group and has no weight: {GROUP}")
    );
    assert_eq!(
        refused("hash=flow", "eth0", Owner::Member),
        format!("eth0 is a member and has no hash: {MEMBER}")
    );
    assert_eq!(read("weight=1").unwrap().check("eth0", Owner::Member), Ok(()));
    let updelay = read("updelay=35s").unwrap();
    assert_eq!([Owner::Group, Owner::Member].map(|owner| updelay.check("x", owner)), [Ok(()), Ok(())]);
}

#[test]
fn the_last_word_counts() {
    let mut settings = Setting::all_of(&["capture=on".into(), "hash=flow".into()]).unwrap();
    read("capture=off").unwrap().put_into(&mut settings);
    assert_eq!(settings, [Setting::Hash(HashPolicy::Flow), Setting::Capture(CaptureMode::Off)]);
}
