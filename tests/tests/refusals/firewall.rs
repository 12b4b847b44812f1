//! Firewall rules that name an interface: they do not apply to the group, so attach and apply are refused unless they are accepted.

use std::fs;

use lab::command;

use crate::{REFUSED, Scene, quiet_lab};

/// Rules of nftables for members, and some that are none for them, or are for the group, too.
const RULES: &str = "
table inet filter {
    set trusted { type ifname; flags interval; elements = { e1000g1, rge* } }
    set pairs { type ifname . ipv4_addr; elements = { e1000g0 . 192.0.2.1, eth9 . 192.0.2.2 } }
    chain input {
        type filter hook input priority 0; policy accept
        iifname e1000g0 tcp dport 22 accept
        iifname { e1000g1, production0 } accept
        iifname { e1000g0, lo } accept comment \"anonymous set\"
        iifname @trusted accept
        iifname . ip saddr @pairs accept
        iif vmap { e1000g0 : accept, lo : drop }
        oifname != e1000g0 accept
        iifname e1000g accept
        ip saddr 101.49.48.48 accept
        iifname production0 accept
    }
}
table netdev wires { chain in { type filter hook ingress devices = { e1000g1 } priority 0; }; }
table inet firewalld {
    chain filter_IN_public { tcp dport 22 accept; };
    chain filter_IN_dmz { drop; };
    chain filter_INPUT_ZONES {
        iifname e1000g0 goto filter_IN_dmz
        iifname e1000g1 goto filter_IN_public
        goto filter_IN_public
    }
}";

#[test]
fn interface_of_firewall_rules_is_refused_unless_they_are_accepted() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::new(&lab);
    let run = |line: &str| {
        let mut words = line.split_whitespace();
        command::run(lab.host().command(words.next().unwrap()).args(words)).unwrap()
    };
    let rules = lab.directory().join("rules.nft");
    fs::write(&rules, RULES).unwrap();
    run(&format!("nft -f {}", rules.display()));
    run("iptables-nft -A OUTPUT -o e1000g1 -j ACCEPT");
    run("iptables-legacy -A INPUT -s 192.0.2.9 -j ACCEPT");
    run("iptables-legacy -A INPUT ! -i e1000g1 -j ACCEPT");
    run("ip6tables-legacy -N mine");
    run("ip6tables-legacy -A mine -o e1000+ -j ACCEPT");
    // The numbers of rules are nftables' own.
    let listing = run("nft --handle list ruleset");
    let handle = |text: &str| {
        let line = listing.lines().find(|line| line.contains(text)).unwrap();
        line.rsplit_once("handle ").unwrap().1.trim().to_owned()
    };
    let input = |text: &str| format!("nftables inet filter input handle {}", handle(text));
    let expected = [
        ("e1000g0", input("iifname \"e1000g0\" tcp")),
        ("e1000g0", input("oifname != \"e1000g0\"")),
        ("e1000g0", "firewalld zone dmz".to_owned()),
        ("e1000g0", input("anonymous set")),
        ("e1000g0", input("iif vmap")),
        ("e1000g0", input("iifname . ip saddr")),
        ("e1000g0", "ip6tables filter mine rule 1 (legacy)".to_owned()),
        ("e1000g1", "nftables netdev wires in (device)".to_owned()),
        ("e1000g1", format!("nftables ip filter OUTPUT handle {}", handle("oifname \"e1000g1\" counter"))),
        ("e1000g1", input("iifname @trusted")),
        ("e1000g1", "iptables filter INPUT rule 2 (legacy)".to_owned()),
        ("e1000g1", "ip6tables filter mine rule 1 (legacy)".to_owned()),
    ];
    let of = |interface: &str| -> Vec<String> {
        let of = expected.iter().filter(|(name, _)| *name == interface);
        of.map(|(name, place)| {
            format!("a firewall rule names {name} and does not apply to production0: {place}")
        })
        .collect()
    };
    let sorted = |lines: Vec<String>| {
        let mut lines = lines;
        lines.sort();
        lines
    };
    let firewall_lines = |output: &str| -> Vec<String> {
        let lines = output.lines().filter_map(|line| line.split_once("a firewall rule"));
        sorted(lines.map(|(_, rest)| format!("a firewall rule{rest}")).collect())
    };

    let plan = scene.daemon.ctl("attach e1000g0 --group production0 --dry-run").unwrap();
    println!("{plan}");
    assert_eq!(firewall_lines(&plan), sorted(of("e1000g0")));
    assert!(plan.contains("refused without --accept-firewall or --confirm: a firewall rule names e1000g0"));
    let places: Vec<&str> = firewall_places(&plan);
    let line = format!(
        "firewall rules name e1000g0 and do not apply to production0: {} and {} more (--dry-run lists them); new connections \
         may be refused. Add rules for production0 first, then attach with --accept-firewall, or with --confirm SECONDS",
        places[..3].join(", "),
        places.len() - 3
    );
    scene.refused("attach e1000g0 --group production0", REFUSED, "firewall", &line);
    let output = scene.daemon.ctl("attach e1000g0 --group production0 --accept-firewall").unwrap();
    assert_eq!(firewall_lines(&output), sorted(of("e1000g0")));

    // The same of a file
    scene.known.take();
    let file = lab.directory().join("ipmp.toml");
    fs::write(&file, "[group.production0]\n[group.production0.members]\ne1000g0 = {}\ne1000g1 = {}\n")
        .unwrap();
    let apply = format!("apply {}", file.display());
    let plan = scene.daemon.ctl(&format!("{apply} --dry-run")).unwrap();
    assert_eq!(firewall_lines(&plan), sorted(of("e1000g1")));
    let refused = scene.daemon.ctl(&apply).unwrap_err().to_string();
    assert!(refused.contains("firewall rules name e1000g1 and do not apply to production0"), "{refused}");
    let output = scene.daemon.ctl(&format!("{apply} --accept-firewall")).unwrap();
    assert_eq!(firewall_lines(&output), sorted(of("e1000g1")));
    // A member has been checked before.
    assert_eq!(firewall_lines(&scene.daemon.ctl(&format!("{apply} --dry-run")).unwrap()), [""; 0]);
}

/// The places of the rules, in the order of the output.
fn firewall_places(plan: &str) -> Vec<&str> {
    let lines = plan.lines().filter(|line| line.contains("a firewall rule"));
    lines.filter_map(|line| Some(line.rsplit_once(": ")?.1)).collect()
}
