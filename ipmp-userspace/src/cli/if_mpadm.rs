//! `if_mpadm`: takes a member out of service and puts it back, with the command line, texts and exit statuses of the reference
//! (docs/reference.md 7.1).

use std::{ffi::OsString, io::Write};

use nix::{errno::Errno, net::if_::if_nametoindex};

use super::{
    error::{Error, Exit},
    output, verb,
};
use crate::control::{Request, Response, client, request::reason, socket};

/// Printed for an invalid command line.
pub const USAGE: &str = "Usage: if_mpadm -d | -r <ifname>\n";

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// `-d`
    Offline,
    /// `-r`
    Online,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Online => "undo-offline",
        }
    }

    /// The reason of the refusal where the member has the wanted state already, which the daemon accepts.
    fn reason_if_unchanged(self) -> &'static str {
        match self {
            Self::Offline => reason::ALREADY_OFFLINE,
            Self::Online => reason::NOT_OFFLINE,
        }
    }

    fn request(self, interface: String) -> Request {
        match self {
            Self::Offline => Request::Offline { interface },
            Self::Online => Request::Online { interface },
        }
    }
}

/// Runs `if_mpadm` with these arguments, the program's name first. Returns the exit status: 0, or 1 after an error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let words = arguments.into_iter().skip(1).map(|word| word.to_string_lossy().into_owned());
    let Some((action, interface)) = parse(words) else {
        let _ = err.write_all(USAGE.as_bytes());
        return 1;
    };
    match execute(action, &interface) {
        Ok(printed) => {
            let _ = out.write_all(printed.as_bytes());
            0
        }
        Err(error) => {
            let exists = if_nametoindex(interface.as_str()).is_ok();
            let text = format!("if_mpadm: fatal: {}", explain(action, &interface, &error, exists));
            let _ = writeln!(err, "{}", output::one_line(&text));
            1
        }
    }
}

/// Reads the options as `getopt` does: the last one has precedence, and operands after the options are ignored.
fn parse(words: impl IntoIterator<Item = String>) -> Option<(Action, String)> {
    let mut words = words.into_iter();
    let mut found = None;
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix('-').filter(|option| !option.is_empty() && *option != "-")
        else {
            break;
        };
        let action = match option.chars().next() {
            Some('d') => Action::Offline,
            Some('r') => Action::Online,
            _ => return None,
        };
        let value = match &option[1..] {
            "" => words.next()?,
            attached => attached.to_owned(),
        };
        found = Some((action, value));
    }
    found
}

fn execute(action: Action, interface: &str) -> Result<String, Error> {
    let request = action.request(interface.to_owned());
    request.check()?;
    let socket = socket::path(None, None)?;
    match verb::connect(&socket, None, request.changes())?.call(&request)? {
        Response::Done { notes, changed: false } => {
            let reason = action.reason_if_unchanged().to_owned();
            Err(Error::Daemon(client::Error::Refused { reason, message: notes.join("; ") }))
        }
        _ => Ok(String::new()),
    }
}

/// The reference's text for an error. `exists`: the kernel has this interface.
fn explain(action: Action, interface: &str, error: &Error, exists: bool) -> String {
    let failed = |why: &str| format!("cannot {} {interface}: {why}", action.verb());
    match error {
        Error::Daemon(client::Error::Refused { reason, message }) => match reason.as_str() {
            reason::ALREADY_OFFLINE => format!("interface {interface} is already offline"),
            reason::NOT_OFFLINE => format!("interface {interface} is not offline"),
            reason::LAST_FUNCTIONING => failed("no other functioning interfaces are in its IPMP group"),
            reason::DUPLICATE_MAC => failed("interface has duplicate hardware address"),
            // The flags of the interface are read first.
            reason::NOT_A_MEMBER if !exists => {
                format!("cannot get interface flags on {interface}: {}", Errno::ENODEV.desc())
            }
            reason::NOT_A_MEMBER if action == Action::Online => {
                format!("interface {interface} is not offline")
            }
            reason::NOT_A_MEMBER => failed("not a physical interface or not in an IPMP group"),
            _ => failed(message),
        },
        error if error.exit() == Exit::NoDaemon => failed(&format!("cannot contact in.mpathd: {error}")),
        error => failed(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(Action, String)> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn last_option_has_precedence_and_operands_are_ignored() {
        let offline = Some((Action::Offline, "eth0".to_owned()));
        for line in ["-d eth0", "-deth0", "-r eth1 -d eth0", "-d eth0 eth1 -r eth2", "-d eth0 -- -r eth2"] {
            assert_eq!(read(line), offline, "{line}");
        }
        assert_eq!(read("-r eth0"), Some((Action::Online, "eth0".to_owned())));
        for line in ["", "-d", "eth0", "eth0 -d eth0", "-x eth0", "-d eth0 -r", "-- -d eth0", "--help"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn refusals_have_the_texts_of_the_reference() {
        let refused = |reason: &str| {
            Error::Daemon(client::Error::Refused { reason: reason.into(), message: "own text".into() })
        };
        for (action, reason, exists, text) in [
            (Action::Offline, reason::ALREADY_OFFLINE, true, "interface eth0 is already offline"),
            (Action::Online, reason::NOT_OFFLINE, true, "interface eth0 is not offline"),
            (
                Action::Offline,
                reason::LAST_FUNCTIONING,
                true,
                "cannot offline eth0: no other functioning interfaces are in its IPMP group",
            ),
            (
                Action::Online,
                reason::DUPLICATE_MAC,
                true,
                "cannot undo-offline eth0: interface has duplicate hardware address",
            ),
            (
                Action::Offline,
                reason::NOT_A_MEMBER,
                true,
                "cannot offline eth0: not a physical interface or not in an IPMP group",
            ),
            (Action::Online, reason::NOT_A_MEMBER, true, "interface eth0 is not offline"),
            (
                Action::Online,
                reason::NOT_A_MEMBER,
                false,
                "cannot get interface flags on eth0: No such device",
            ),
            (Action::Offline, reason::SHUTTING_DOWN, true, "cannot offline eth0: own text"),
        ] {
            assert_eq!(explain(action, "eth0", &refused(reason), exists), text);
        }
        let denied = Error::Daemon(client::Error::NotPermitted("permission denied".into()));
        assert_eq!(explain(Action::Offline, "eth0", &denied, true), "cannot offline eth0: permission denied");
    }
}
