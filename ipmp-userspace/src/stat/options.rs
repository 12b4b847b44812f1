//! The command line, parsed as `getopt` of OpenSolaris does (docs/reference.md 6.1). By hand, since the texts of errors and
//! their order are those of the reference.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// Printed after an error in the command line. The reference fixes the text, except for --socket and --netns.
pub const USAGE: &str = "\
usage: ipmpstat [-n] [-o <field> [-P]] -a|-g|-i|-p|-t

  output modes:\t -a  display IPMP data address information
\t\t -g  display IPMP group information
\t\t -i  display IPMP-related IP interface information
\t\t -p  display IPMP probe information
\t\t -t  display IPMP target information

       options:\t -n  display IP addresses numerically
\t\t -o  display only the specified fields, in order
\t\t -P  display using parsable output mode
\t\t --socket <path>  use the daemon at this socket
\t\t --netns <name>   use the daemon of this network namespace
";

/// What `--help` prints before the usage.
pub const PURPOSE: &str =
    "Show the state of IP multipathing groups, members, addresses, targets and probes\n\n";
/// What `--help` prints after the usage.
pub const NOTES: &str = "
Without -o, the fields that fit into 80 columns are shown; -o all shows all. Host names that cannot be resolved within 2 s
are shown as addresses. -p prints probes until it is interrupted. -P requires -o with field names: it prints no header,
separates fields by ':' and escapes ':' and '\\' in values.

Socket of the daemon: --socket, else /run/ipmp/NAME.sock with --netns NAME, else $IPMP_SOCKET, else /run/ipmp/ipmpd.sock.
Exit status: 0 success, 1 error. No privileges are required, and no daemon is started.

Examples:
  ipmpstat -g                          state and failure detection time of every group
  ipmpstat -in                         state of every member
  ipmpstat -gP -o group,state          the same for scripts
";

/// The table that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `-a`
    Addresses,
    /// `-g`
    Groups,
    /// `-i`
    Interfaces,
    /// `-p`
    Probes,
    /// `-t`
    Targets,
}

/// The parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is printed.
    pub mode: Mode,
    /// `-n`: addresses instead of host names.
    pub numeric: bool,
    /// `-P`: parsable output.
    pub parsable: bool,
    /// `-o`: field names, separated by commas.
    pub fields: Option<String>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--netns`
    pub netns: Option<String>,
}

/// Why the command line is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `--help`: not an error.
    #[error("help requested")]
    Help,
    /// No output mode, or operands. Only the usage is printed.
    #[error("an output mode is missing, or there are operands")]
    Usage,
    /// Unknown option.
    #[error("illegal option -- {0}")]
    Illegal(String),
    /// Option without its argument.
    #[error("option requires an argument -- {0}")]
    Argument(String),
    /// More than one mode.
    #[error("only one output format may be specified")]
    SeveralModes,
}

impl Options {
    /// Parses the arguments, without the program's name. As in `getopt`, the first error is reported, letters may be combined
    /// after one dash, and options end at the first operand.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let mut arguments = arguments.into_iter().peekable();
        let mut mode = None;
        let (mut numeric, mut parsable, mut fields, mut socket, mut netns) = (false, false, None, None, None);
        while let Some(argument) = arguments.next_if(|a| a.len() > 1 && a.as_encoded_bytes()[0] == b'-') {
            if argument == "--" {
                break;
            }
            if let Some(long) = argument.as_encoded_bytes().strip_prefix(b"--") {
                let (name, value) = match long.iter().position(|&byte| byte == b'=') {
                    Some(at) => (&long[..at], Some(OsString::from_vec(long[at + 1..].to_vec()))),
                    None => (long, None),
                };
                let name = String::from_utf8_lossy(name).into_owned();
                let value_of = match name.as_str() {
                    "socket" => &mut socket,
                    "netns" => &mut netns,
                    "help" if value.is_none() => return Err(Error::Help),
                    _ => return Err(Error::Illegal(name)),
                };
                *value_of = Some(value.or_else(|| arguments.next()).ok_or(Error::Argument(name))?);
                continue;
            }
            let letters = argument.to_string_lossy();
            let mut letters = letters[1..].chars();
            while let Some(letter) = letters.next() {
                let selected = match letter {
                    'a' => Mode::Addresses,
                    'g' => Mode::Groups,
                    'i' => Mode::Interfaces,
                    'p' => Mode::Probes,
                    't' => Mode::Targets,
                    'n' => {
                        numeric = true;
                        continue;
                    }
                    'P' => {
                        parsable = true;
                        continue;
                    }
                    'o' => {
                        let rest = letters.as_str();
                        fields = Some(if rest.is_empty() {
                            let next = arguments.next().ok_or(Error::Argument("o".into()))?;
                            next.to_string_lossy().into_owned()
                        } else {
                            rest.to_owned()
                        });
                        break;
                    }
                    other => return Err(Error::Illegal(other.into())),
                };
                if mode.replace(selected).is_some() {
                    return Err(Error::SeveralModes);
                }
            }
        }
        let (Some(mode), None) = (mode, arguments.next()) else { return Err(Error::Usage) };
        let netns = netns.map(|name: OsString| name.to_string_lossy().into_owned());
        Ok(Self { mode, numeric, parsable, fields, socket: socket.map(PathBuf::from), netns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn valid_command_line_is_parsed() {
        let plain =
            |mode| Options { mode, numeric: false, parsable: false, fields: None, socket: None, netns: None };
        for (line, options) in [
            ("-a", plain(Mode::Addresses)),
            ("-g", plain(Mode::Groups)),
            ("-i --", plain(Mode::Interfaces)),
            ("-p", plain(Mode::Probes)),
            ("-n -t", Options { numeric: true, ..plain(Mode::Targets) }),
            ("-an", Options { numeric: true, ..plain(Mode::Addresses) }),
            (
                "-gP -o groupname,group",
                Options { parsable: true, fields: Some("groupname,group".into()), ..plain(Mode::Groups) },
            ),
            ("-ogroup -g -o state", Options { fields: Some("state".into()), ..plain(Mode::Groups) }),
            // -o takes the next argument, even if it starts with a dash.
            ("-go -i", Options { fields: Some("-i".into()), ..plain(Mode::Groups) }),
            (
                "--socket /s -i --netns=blue",
                Options { socket: Some("/s".into()), netns: Some("blue".into()), ..plain(Mode::Interfaces) },
            ),
        ] {
            assert_eq!(parse(line), Ok(options), "{line}");
        }
    }

    #[test]
    fn first_error_in_command_line_is_reported() {
        for (line, error) in [
            ("", Error::Usage),
            ("-n", Error::Usage),
            ("-g production0", Error::Usage),
            ("production0 -g -g", Error::Usage),
            ("- -g", Error::Usage),
            ("-g -- -i", Error::Usage),
            ("-gg", Error::SeveralModes),
            ("-g -n -i -x", Error::SeveralModes),
            ("-gxi", Error::Illegal("x".into())),
            ("-L -g", Error::Illegal("L".into())),
            ("-g --json", Error::Illegal("json".into())),
            ("-g -o", Error::Argument("o".into())),
            ("-g --socket", Error::Argument("socket".into())),
            ("--help", Error::Help),
            ("-g --help -x", Error::Help),
            ("-gx --help", Error::Illegal("x".into())),
            ("--help=g", Error::Illegal("help".into())),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }
}
