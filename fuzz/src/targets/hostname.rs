//! Boot files of Solaris: the interface is the first line, its hostname file the rest, which is also the hosts file.

use ipmp::ifconfig::{
    hostname::{self, Files},
    import::{self, Defaults},
    resolve::{self, Names},
};

pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let (interface, text) = text.split_once('\n').unwrap_or((&text, ""));
    let file = format!("hostname.{}", interface.replace('/', "-"));
    let lines = hostname::lines(&file, text);
    assert!(!lines.is_empty());
    for (place, line) in &lines {
        assert!(place.line >= 1 && place.line <= text.lines().count().max(1), "{place}");
        if let Err(error) = line {
            let error = error.to_string();
            assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
        }
    }
    let hosts = Some(resolve::hosts(text).collect());
    let names = Names { hosts, netmasks: text.into(), routes: String::new() };
    match import::configuration(Files { lines, names }, Defaults::default(), "fuzz") {
        Ok(printed) => {
            let is_known = |line: &str| {
                let starts = ["#", "[group.", "groupname = ", "addresses = ["];
                line.is_empty() || starts.iter().any(|start| line.starts_with(start)) || line.contains(" = {")
            };
            assert!(printed.lines().all(is_known), "{printed:?}");
            true
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            false
        }
    }
}
