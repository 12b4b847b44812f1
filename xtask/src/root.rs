//! Becoming root for what needs it, and for nothing else: no build runs as root that its user did not start as root.

use nix::unistd::geteuid;
use std::ffi::OsStr;
use std::process::Command;

/// Environment variables that reach a command run as root, besides those named by the caller.
const KEPT: [&str; 7] =
    ["RUST_BACKTRACE", "RUST_LOG", "NO_COLOR", "TERM", "IPMP_ATTACH", "IPMP_SOCKET", "PROPTEST_CASES"];

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// `program` as root: through sudo if need be, with `variables` set. Arguments may be added.
pub fn command(program: impl AsRef<OsStr>, variables: &[(&str, &OsStr)]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        return command;
    }
    // sudo clears the environment, and its policy may forbid -E: `env` sets what is wanted on the other side.
    let mut command = Command::new("sudo");
    command.args(["--", "env"]);
    let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let named = variables.iter().map(|(name, value)| (*name, value.to_os_string()));
    for (name, value) in kept.chain(named) {
        let mut word = std::ffi::OsString::from(name);
        word.push("=");
        word.push(value);
        command.arg(word);
    }
    command.arg(program);
    command
}
