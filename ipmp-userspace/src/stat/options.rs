//! The command line, understood as `getopt` of the reference understands it (6.1): by hand, since what users see on an
//! error, and which error of several, are the reference's.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// What is printed when the command line is not understood.
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
\t\t --socket <path>  ask the daemon at this socket
\t\t --netns <name>   ask the daemon of this network namespace
";

/// What is printed.
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

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is printed.
    pub mode: Mode,
    /// `-n`: no names.
    pub numeric: bool,
    /// `-P`: for programs.
    pub parsable: bool,
    /// `-o`: the fields, with commas between them.
    pub fields: Option<String>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--netns`
    pub netns: Option<String>,
}

/// Why a command line was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The usage says enough.
    #[error("an output mode is missing, or there are operands")]
    Usage,
    /// There is no such option.
    #[error("illegal option -- {0}")]
    Illegal(String),
    /// Its argument is missing.
    #[error("option requires an argument -- {0}")]
    Argument(String),
    /// Two modes, or one twice.
    #[error("only one output format may be specified")]
    SeveralModes,
}

impl Options {
    /// Reads the arguments, without the program's name. As in `getopt`, the first mistake counts, letters may share a
    /// dash, and options end at the first operand.
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
                let place = match name.as_str() {
                    "socket" => &mut socket,
                    "netns" => &mut netns,
                    _ => return Err(Error::Illegal(name)),
                };
                *place = Some(value.or_else(|| arguments.next()).ok_or(Error::Argument(name))?);
                continue;
            }
            let letters = argument.to_string_lossy();
            let mut letters = letters[1..].chars();
            while let Some(letter) = letters.next() {
                let wanted = match letter {
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
                if mode.replace(wanted).is_some() {
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
    fn what_is_understood() {
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
            // The argument of -o is what comes next, whatever it is.
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
    fn the_first_mistake_counts() {
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
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }
}
