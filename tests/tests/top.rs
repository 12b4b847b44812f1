//! `ipmpctl top` in a terminal of 80 columns and 24 lines, which tmux provides.

lab::lane!(side_by_side, seconds = 30, no_clsact = "a client does not depend on how programs are attached");

use std::path::PathBuf;
use std::process::Command;

use ipmp::types::{Family, MemberState};
use lab::daemon::binary;
use lab::{Lab, Production, Stream, TIMEOUT, command, wait_until};

/// A terminal of tmux in which a command runs.
struct Terminal<'lab> {
    lab: &'lab Lab,
    socket: PathBuf,
}

impl<'lab> Terminal<'lab> {
    fn start(lab: &'lab Lab, line: &str) -> Self {
        let terminal = Self { lab, socket: lab.directory().join("tmux") };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", line]);
        terminal
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.host().command("tmux");
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").arg("-S").arg(&self.socket).args(arguments);
        command
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        command::run(&mut self.command(arguments)).unwrap()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn lines(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    /// Waits for a line with these words, next to each other, and returns it.
    fn wait(&self, words: &str) -> String {
        let mut found = None;
        wait_until(TIMEOUT, || {
            let normal = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
            found = self.lines().iter().map(normal).find(|line| line.contains(words));
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no {words:?} in\n{}", self.lines().join("\n")))
    }

    fn has_ended(&self) -> bool {
        !self.command(&["has-session"]).output().unwrap().status.success()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.command(&["kill-server"]).output();
    }
}

#[test]
fn top_shows_failure_in_terminal_and_takes_member_offline_after_confirmation() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let mut production =
        Production::create_probed(&lab, &[Family::V4], "fdt=1s targets=192.168.178.1").unwrap();
    production.wait_answered().unwrap();
    let running = Stream::outbound(&lab).flows(32).rate(3_000).start().unwrap();
    running.wait_received(3_000, TIMEOUT).unwrap();
    let [program, socket] = [binary("ipmpctl").unwrap(), production.daemon.socket()];
    let line = format!("{} --socket {} top production0", program.display(), socket.display());
    let terminal = Terminal::start(&lab, &line);

    println!("{}", terminal.wait("production0 ok 3 of 3 active FDT 1.00s"));
    for member in lab.members() {
        let is_sending = || {
            let line = terminal.wait(&format!("{} ok up", member.name()));
            line.split_whitespace().nth(4).is_some_and(|rate| !["-", "0"].contains(&rate))
        };
        assert!(wait_until(TIMEOUT, is_sending), "{}", terminal.lines().join("\n"));
        terminal.wait(&format!("{} 192.168.178.1 ", member.name()));
    }

    lab.cable(1).pull().unwrap();
    terminal.wait("production0 degraded 2 of 3 active");
    terminal.wait("e1000g0 failed down 0 0");
    terminal.wait("The link has gone down on e1000g0 (");
    terminal.wait("IP interface failure detected on e1000g0 of group production0");
    println!("{}", terminal.lines().join("\n"));
    lab.cable(1).replug().unwrap();
    production.wait_usable(3).unwrap();
    terminal.wait("production0 ok 3 of 3 active");

    let state = || production.member("e1000g1").unwrap().state;
    terminal.press("Down");
    terminal.press("o");
    terminal.wait("Take e1000g1 offline? y: yes, any other key: no");
    terminal.press("n");
    terminal.wait("Nothing has been changed");
    assert_eq!(state(), MemberState::Ok);
    terminal.press("o");
    terminal.press("y");
    terminal.wait("e1000g1 offline up");
    assert_eq!(state(), MemberState::Offline);
    terminal.press("i");
    terminal.press("y");
    terminal.wait("e1000g1 is now online");
    terminal.wait("e1000g1 ok up");

    production.daemon.terminate().unwrap();
    println!("{}", terminal.wait("Not current: cannot contact ipmpd at"));
    production.daemon.start().unwrap();
    let is_current = || !terminal.lines().iter().any(|line| line.starts_with("Not current"));
    assert!(wait_until(TIMEOUT, is_current), "{}", terminal.lines().join("\n"));
    // A small terminal, and one that is too small.
    terminal.tmux(&["resize-window", "-x", "60", "-y", "12"]);
    terminal.wait("EVENTS");
    terminal.tmux(&["resize-window", "-x", "50", "-y", "12"]);
    terminal.wait("ipmpctl top needs 60 columns and 12 lines");
    terminal.press("q");
    assert!(wait_until(TIMEOUT, || terminal.has_ended()), "{}", terminal.lines().join("\n"));
    running.stop().unwrap().ensure_valid().unwrap();
    production.assert_clean();
}

#[test]
fn top_without_terminal_is_refused() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let refused = |line: &str| production.daemon.ctl_error(line).unwrap();
    assert_eq!(
        refused("top").trim(),
        "ipmpctl: top needs a terminal: ipmpctl show and ipmpctl monitor print the same without one"
    );
    assert!(refused("top --json").contains("ipmpctl monitor --json"), "{}", refused("top --json"));
    production.assert_clean();
}
