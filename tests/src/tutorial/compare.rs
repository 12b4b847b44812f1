//! Splits output into cells and compares them: widths, spaces and line breaks are ignored.

use std::collections::BTreeMap;

use crate::log_file;

/// Every cell, by its subject and its name.
pub type Cells = BTreeMap<(String, String), String>;

/// The order of the rows of a table.
pub const ORDER: &str = "order";
/// The columns of a table.
pub const COLUMNS: &str = "columns";

/// A cell that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its subject: an interface, or `table`.
    pub of: String,
    /// Its name: a column, a flag, `mtu`.
    pub cell: String,
    /// Its value in the tutorial.
    pub tutorial: Option<String>,
    /// Its value here.
    pub here: Option<String>,
}

/// The cells of a table of `ipmpstat`. Its first column names the rows; its last may contain spaces. Lines with a prompt
/// are ignored.
pub fn table(text: &str) -> Cells {
    let mut lines = text.lines().filter(|line| !is_prompt(line));
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut cells = Cells::new();
    let mut order = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(row) = words.first() else { continue };
        order.push(*row);
        for (column, name) in header.iter().enumerate() {
            let words = words.get(column..).unwrap_or_default();
            let length = if column + 1 == header.len() { words.len() } else { words.len().min(1) };
            cells.insert((row.to_string(), name.to_string()), words[..length].join(" "));
        }
    }
    cells.insert(("table".into(), ORDER.into()), order.join(" "));
    cells.insert(("table".into(), COLUMNS.into()), header.join(" "));
    cells
}

/// The cells of an aggregate and its ports, as `dladm show-aggr -x` prints them, or lines of `/proc/net/bonding`.
pub fn aggregate(text: &str) -> Cells {
    let mut cells = Cells::new();
    let mut put = |of: &str, cell: &str, value: &str| cells.insert((of.into(), cell.into()), value.into());
    let is_bond = text.contains("MII Status: ");
    let mut port = String::from("aggregate0");
    for line in text.lines().filter(|line| !is_prompt(line)) {
        if is_bond {
            let Some((key, value)) = line.trim().split_once(": ") else { continue };
            match key {
                "Slave Interface" => value.clone_into(&mut port),
                "MII Status" => {
                    put(&port, "STATE", value);
                    if port != "aggregate0" {
                        put(&port, "PORTSTATE", if value == "up" { "attached" } else { "standby" });
                    }
                }
                "Speed" => drop(put(&port, "SPEED", value)),
                "Duplex" => drop(put(&port, "DUPLEX", value)),
                "Permanent HW addr" => drop(put(&port, "ADDRESS", value)),
                _ => {}
            }
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (of, rest) = match words[..] {
            ["LINK", ..] | [] => continue,
            [link, "--", ref rest @ ..] => (link, rest),
            [port, ref rest @ ..] => (port, rest),
        };
        for (cell, value) in ["SPEED", "DUPLEX", "STATE", "ADDRESS", "PORTSTATE"].iter().zip(rest) {
            if *value != "--" {
                put(of, cell, value);
            }
        }
    }
    cells
}

/// The routes of the group's subnet, and the default route, as `netstat -nr` or `ip route` prints them.
pub fn routes(text: &str) -> Cells {
    let destinations = text.lines().filter_map(|line| line.split_whitespace().next());
    let destinations = destinations.map(|to| to.split('/').next().unwrap_or(to));
    let known = destinations.filter(|to| *to == "default" || to.starts_with("192.168.178."));
    known.map(|to| ((to.to_owned(), "route".to_owned()), "set".to_owned())).collect()
}

/// The cells of an interface's block, as `ifconfig` prints it: every flag, and every keyword with its value.
pub fn block(text: &str, interface: &str) -> Cells {
    let mut cells = Cells::new();
    let mut put = |cell: &str, value: &str| cells.insert((interface.into(), cell.into()), value.into());
    let lines: Vec<&str> = lines_of(text, interface);
    // A list of flags can be broken, too.
    let text = lines.join(" ").replace(", ", ",");
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "mtu" | "index" | "inet" | "netmask" | "broadcast" | "groupname" | "ether" | "inet6" => {
                put(word, words.next().unwrap_or_default());
            }
            _ => {
                let flags = word.strip_prefix("flags=").and_then(|word| word.split_once('<'));
                let Some((number, names)) = flags else { continue };
                if !number.is_empty() {
                    put("flags", number);
                }
                names.trim_end_matches('>').split(',').for_each(|flag| {
                    put(&format!("flag {flag}"), "set");
                });
            }
        }
    }
    cells
}

/// The lines of an interface's block that `ifconfig` prints too. `ipmpctl show` prints further lines.
pub fn lines_of<'text>(text: &'text str, interface: &str) -> Vec<&'text str> {
    let head = format!("{interface}: flags=");
    let mut lines = Vec::new();
    for line in text.lines().skip_while(|line| !line.starts_with(&head)) {
        let first = line.split([' ', ':']).find(|word| !word.is_empty()).unwrap_or_default();
        let begins_another = !line.starts_with(' ') && line.contains(": ");
        if begins_another && !lines.is_empty() {
            break;
        }
        // The tutorial breaks lines at the width of its page.
        if !line.starts_with(' ') || ["inet", "inet6", "groupname", "ether"].contains(&first) {
            lines.push(line);
        }
    }
    lines
}

/// The messages of a log, in their order, without time, program and severity. The tutorial breaks lines at the width of
/// its page, and its messages begin with a month.
pub fn log(text: &str) -> Cells {
    let mut messages: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !is_prompt(line)) {
        let begins = line.starts_with("Jan ").then(|| line.rsplit_once("] ")).flatten();
        let here = || line.starts_with("ipmpd: ").then(|| log_file::parts(line).1);
        match begins.map(|(_, rest)| rest).or_else(here) {
            Some(message) => messages.push(message.to_owned()),
            None => {
                if let Some(last) = messages.last_mut() {
                    *last = format!("{last} {}", line.trim());
                }
            }
        }
    }
    let numbered = messages.into_iter().enumerate();
    numbered.map(|(at, message)| (("log".into(), format!("line {}", at + 1)), message)).collect()
}

/// Every cell that only one has, or that differs.
pub fn differences(tutorial: &Cells, here: &Cells) -> Vec<Difference> {
    let mut all: Vec<&(String, String)> = tutorial.keys().chain(here.keys()).collect();
    all.sort();
    all.dedup();
    let cell = |key: &(String, String)| Difference {
        of: key.0.clone(),
        cell: key.1.clone(),
        tutorial: tutorial.get(key).cloned(),
        here: here.get(key).cloned(),
    };
    all.into_iter().map(cell).filter(|cell| cell.tutorial != cell.here).collect()
}

/// Whether a line shows a typed command.
fn is_prompt(line: &str) -> bool {
    let is_typed = |prompt: &str| line.contains(prompt) && line.contains('@');
    line.starts_with("# ") || is_typed("# ") || is_typed("$ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(of: &str, cell: &str, tutorial: Option<&str>, here: Option<&str>) -> Difference {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Difference { of: of.into(), cell: cell.into(), tutorial: own(tutorial), here: own(here) }
    }

    #[test]
    fn tables_are_compared_by_cell() {
        let tutorial = "root@host:~# ipmpstat -g\nGROUP   STATE INTERFACES\np0      ok    b a\n";
        assert_eq!(
            differences(&table(tutorial), &table("GROUP STATE   INTERFACES\np0    ok      b a\n")),
            []
        );
        assert_eq!(
            differences(&table(tutorial), &table("# ipmpstat -g\nGROUP STATE INTERFACES\np0 failed a\n")),
            [
                difference("p0", "INTERFACES", Some("b a"), Some("a")),
                difference("p0", "STATE", Some("ok"), Some("failed")),
            ]
        );
    }

    #[test]
    fn missing_row_extra_column_and_other_order_are_found() {
        let tutorial = table("A B\nx 1\ny 2\n");
        assert_eq!(
            differences(&tutorial, &table("A B\ny 2\nx 1\n")),
            [difference("table", ORDER, Some("x y"), Some("y x"))]
        );
        assert_eq!(
            differences(&tutorial, &table("A B\nx 1\n")),
            [
                difference("table", ORDER, Some("x y"), Some("x")),
                difference("y", "A", Some("y"), None),
                difference("y", "B", Some("2"), None),
            ]
        );
        assert_eq!(
            differences(&tutorial, &table("A B C\nx 1 3\ny 2 3\n"))
                .iter()
                .map(|d| d.cell.as_str())
                .collect::<Vec<_>>(),
            [COLUMNS, "C", "C"]
        );
        assert!(!differences(&tutorial, &table("")).is_empty());
    }

    #[test]
    fn logs_are_compared_by_message() {
        let tutorial = log(
            "Jan  8 20:01:06 hivemind in.mpathd[15113]: [ID 215189 daemon.error] The link has gone down on\nrge0\n\
             Jan  8 20:01:07 hivemind in.mpathd[15113]: [ID 1 daemon.error] Good\n",
        );
        assert_eq!(
            differences(&tutorial, &log("ipmpd: warning: The link has gone down on rge0\nipmpd: Good\n")),
            []
        );
        assert_eq!(
            differences(&tutorial, &log("ipmpd: The link has gone down on rge1\n")),
            [
                difference(
                    "log",
                    "line 1",
                    Some("The link has gone down on rge0"),
                    Some("The link has gone down on rge1")
                ),
                difference("log", "line 2", Some("Good"), None),
            ]
        );
    }

    #[test]
    fn blocks_are_compared_by_keyword() {
        let tutorial =
            "e0: flags=9<UP,IPv4> mtu\n1500 index 5\n    inet 0.0.0.0 netmask ff000000\n    groupname p0\n";
        let here = "p0: flags=<UP,IPMP> mtu 1400 index 1\n        groupname p0\ne0: flags=<UP> mtu 1500 index 6\n        \
                    groupname p0\n        state ok, inet 7\nf0: flags=<UP> mtu 9000 index 9\n";
        assert_eq!(
            differences(&block(tutorial, "e0"), &block(here, "e0")),
            [
                difference("e0", "flag IPv4", Some("set"), None),
                difference("e0", "flags", Some("9"), None),
                difference("e0", "index", Some("5"), Some("6")),
                difference("e0", "inet", Some("0.0.0.0"), None),
                difference("e0", "netmask", Some("ff000000"), None),
            ]
        );
        assert_eq!(block(here, "g0"), Cells::new());
    }
}
