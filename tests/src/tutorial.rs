//! The output in the tutorial, copied to the directory beside this file. Dashes that its typesetting removed are missing.
//! [`compare`] finds the differences between it and ours, [`permitted`] lists those that are permitted.

pub mod compare;
pub mod files;
pub mod permitted;

/// 1.6: the group just created.
pub const GROUP: &str = include_str!("tutorial/1.6-production0.txt");
/// 1.6.1: a member.
pub const RGE0: &str = include_str!("tutorial/1.6.1-rge0.txt");
/// 1.6.1: all members, before the first pull.
pub const INITIAL: &str = include_str!("tutorial/1.6.1-initial.txt");
/// 1.6.1: cable 1 is unplugged.
pub const CABLE_1_OUT: &str = include_str!("tutorial/1.6.1-cable-1-out.txt");
/// 1.6.1: cable 1 is plugged in again.
pub const CABLE_1_IN: &str = include_str!("tutorial/1.6.1-cable-1-in.txt");
/// 1.6.1: cable 4 is unplugged.
pub const CABLE_4_OUT: &str = include_str!("tutorial/1.6.1-cable-4-out.txt");
/// 1.6.2: the group without members, then with one, two and three. 1.6.1 shows no such
/// tables.
pub const JOINING: [&str; 4] = [
    include_str!("tutorial/1.6.2-empty.txt"),
    include_str!("tutorial/1.6.2-one.txt"),
    include_str!("tutorial/1.6.2-two.txt"),
    include_str!("tutorial/1.6.2-three.txt"),
];
/// 1.6.2: cable 1 is unplugged.
pub const PROBED_CABLE_1_OUT: &str = include_str!("tutorial/1.6.2-cable-1-out.txt");
/// 1.6.2: cable 1 is plugged in again, and its member failed until its probes are answered.
pub const PROBED_CABLE_1_IN: &str = include_str!("tutorial/1.6.2-cable-1-in.txt");
/// 1.6.2: its probes are answered.
pub const PROBED_CABLE_1_REPAIRED: &str = include_str!("tutorial/1.6.2-cable-1-repaired.txt");
/// 1.6.2: before cable 4 is pulled.
pub const PROBED_INITIAL: &str = include_str!("tutorial/1.6.2-initial.txt");
/// 1.6.2: cable 4 is unplugged, and the members behind it have failed.
pub const PROBED_CABLE_4_OUT: &str = include_str!("tutorial/1.6.2-cable-4-out.txt");
/// 1.6.2: cable 4 is plugged in again; both members are still failed.
pub const PROBED_CABLE_4_IN: &str = include_str!("tutorial/1.6.2-cable-4-in.txt");
/// 1.6.2: the members behind it are repaired.
pub const PROBED_CABLE_4_REPAIRED: &str = include_str!("tutorial/1.6.2-cable-4-repaired.txt");
/// 1.6.4: the aggregate, and interfaces and groups with it as a member: before its cables are plugged in, complete, without one
/// cable, without both, with one again, complete again.
pub const AGGREGATES: [&str; 6] = [
    include_str!("tutorial/1.6.4-unplugged.txt"),
    include_str!("tutorial/1.6.4-complete.txt"),
    include_str!("tutorial/1.6.4-one-leg.txt"),
    include_str!("tutorial/1.6.4-no-leg.txt"),
    include_str!("tutorial/1.6.4-one-leg-again.txt"),
    include_str!("tutorial/1.6.4-complete-again.txt"),
];
/// 1.6.4: interfaces and groups with an aggregate that has a port. The tables without one cable are the same.
pub const WITH_AGGREGATE: [&str; 2] =
    [include_str!("tutorial/1.6.4-interfaces.txt"), include_str!("tutorial/1.6.4-groups.txt")];
/// 1.6.4: the same without both cables.
pub const WITHOUT_LEGS: [&str; 2] =
    [include_str!("tutorial/1.6.4-no-leg-interfaces.txt"), include_str!("tutorial/1.6.4-no-leg-groups.txt")];
/// 1.6.4: interfaces, with one cable again.
pub const WITH_ONE_LEG_AGAIN: &str = include_str!("tutorial/1.6.4-one-leg-again-interfaces.txt");
/// 1.6.5: log messages when one interface fails and is repaired.
pub const LOG_OF_ONE: &str = include_str!("tutorial/1.6.5-rge0.txt");
/// 1.6.5: log messages when all fail, and one is repaired.
pub const LOG_OF_ALL: &str = include_str!("tutorial/1.6.5-all.txt");
/// 1.6.3: all interfaces, with link-based failure detection.
pub const ALL_LINK_BASED: &str = include_str!("tutorial/1.6.3-link.txt");
/// 1.6.3: all interfaces, with probes. A page break is removed.
pub const ALL_PROBE_BASED: &str = include_str!("tutorial/1.6.3-probe.txt");
/// 1.6.3: groups and interfaces, with link-based failure detection.
pub const BOOTED_LINK_BASED: [&str; 2] =
    [include_str!("tutorial/1.6.3-link-groups.txt"), include_str!("tutorial/1.6.3-link-interfaces.txt")];
/// 1.6.3: interfaces, with probes.
pub const BOOTED_PROBE_BASED: &str = include_str!("tutorial/1.6.3-probe-interfaces.txt");
/// 1.7.2: classic IPMP, without probes.
pub const CLASSIC_LINK: &str = include_str!("tutorial/1.7.2-initial.txt");
/// 1.7.2: cable 1 is unplugged.
pub const CLASSIC_LINK_CABLE_1_OUT: &str = include_str!("tutorial/1.7.2-cable-1-out.txt");
/// 1.7.3: classic IPMP with probes. A page break is removed.
pub const CLASSIC_PROBE: &str = include_str!("tutorial/1.7.3-initial.txt");
/// 1.7.3: cable 1 is unplugged.
pub const CLASSIC_PROBE_CABLE_1_OUT: &str = include_str!("tutorial/1.7.3-cable-1-out.txt");
/// 1.7.4: the first again, after a start.
pub const CLASSIC_LINK_BOOTED: &str = include_str!("tutorial/1.7.4-link.txt");
/// 1.7.4: the one with probes, after a start.
pub const CLASSIC_PROBE_BOOTED: &str = include_str!("tutorial/1.7.4-probe.txt");

/// 1.9.2: the routing table with the host route of a target, and without it. A page break is removed.
pub const ROUTES: [&str; 2] =
    [include_str!("tutorial/1.9.2-enabled.txt"), include_str!("tutorial/1.9.2-disabled.txt")];
/// 1.9.4: the failure detection time in `/etc/default/mpathd`.
pub const MPATHD: &str = include_str!("tutorial/1.9.4-mpathd.txt");

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The sources below a directory.
    fn sources(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn tests_named_in_documentation_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut text = String::new();
        for directory in ["tests/tests", "ipmp-userspace/src", "ipmp-common/src"] {
            sources(&root.join(directory), &mut text);
        }
        let solaris = include_str!("../../docs/solaris.md");
        let (_, behaviour) = solaris.split_once("\n## Behaviour\n").unwrap();
        // Of all tables, the last cell of each row but the header.
        for (page, least) in [(behaviour, 55), (include_str!("../../docs/detection.md"), 25)] {
            let header = |row: &&str| row.ends_with(" Tests |") || row.ends_with(" Test |");
            let rows = page.lines().filter(|line| line.starts_with("| ") && !header(line));
            let rows: Vec<&str> = rows.collect();
            assert!(rows.len() >= least, "{} rows", rows.len());
            for row in rows {
                let names = row.trim_end_matches('|').trim_end().rsplit(" | ").next().unwrap();
                for name in names.split(", ").filter(|name| name.starts_with('`')) {
                    let name = name.trim_matches('`');
                    assert!(text.contains(&format!("fn {name}(")), "there is no test {name}: {row}");
                }
            }
        }
    }
}
