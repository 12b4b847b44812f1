//! Boot files of Solaris: `hostname.*` and `hostname6.*`, with `hosts` and `netmasks` beside them (docs/solaris.md).

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    grammar::{self, Change, Line},
    netmask,
    resolve::{self, Names},
};

/// A longer file is rejected, in bytes.
const LARGEST: u64 = 64 << 10;
/// More files are rejected.
const MOST: usize = 1024;
/// The hosts file of the host.
const HOSTS: &str = "/etc/hosts";

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is longer than {LARGEST} bytes: it cannot be a boot file", .0.display())]
    Long(PathBuf),
    #[error("{} has no hostname.* files: name the directory that has them, for example /etc", .0.display())]
    None(PathBuf),
    #[error("{} has more than {MOST} hostname.* files", .0.display())]
    Many(PathBuf),
    #[error(transparent)]
    Line(#[from] LineError),
}

/// Why a line cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum LineError {
    #[error(transparent)]
    Grammar(#[from] grammar::Error),
    #[error("the line changes nothing: a line has the words of one ifconfig command, without the interface")]
    NoChange,
}

/// A line, by its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// Number of its first line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.escape_debug(), self.line)
    }
}

/// The files of a directory.
#[derive(Clone, Debug)]
pub struct Files {
    /// The lines in the order of their execution: those that create an IPMP interface, then by the names of the files.
    pub lines: Vec<(Place, Result<Change, LineError>)>,
    /// Names and netmasks, of files only: at the start of a host there may be no name server.
    pub names: Names,
}

/// Reads the files of a directory. The hosts file of the host is used after the one beside them, and its netmasks are used if
/// there are none.
///
/// # Errors
/// A file cannot be read, or there is none.
pub fn read(directory: &Path) -> Result<Files, Error> {
    let failed = |source| Error::File { path: directory.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        files.extend(name.into_string().ok().filter(|name| interface(name).is_some()));
    }
    match files.len() {
        0 => return Err(Error::None(directory.into())),
        1..=MOST => {}
        _ => return Err(Error::Many(directory.into())),
    }
    files.sort();
    let mut all = Vec::new();
    for name in &files {
        let text = text(&directory.join(name))?.unwrap_or_default();
        all.extend(lines(name, &text));
    }
    let is_ipmp = |line: &Result<Change, LineError>| line.as_ref().is_ok_and(|change| change.ipmp);
    all.sort_by_key(|(_, line)| !is_ipmp(line));
    let mut hosts = Vec::new();
    for path in [directory.join("hosts"), HOSTS.into()] {
        hosts.extend(resolve::hosts(&text(&path)?.unwrap_or_default()));
    }
    let netmasks = match text(&directory.join("netmasks"))? {
        Some(own) => own,
        None => text(Path::new(netmask::NETMASKS))?.unwrap_or_default(),
    };
    let routes = fs::read_to_string(netmask::ROUTES).unwrap_or_default();
    Ok(Files { lines: all, names: Names { hosts: Some(hosts), netmasks, routes } })
}

/// A text file; `None` if there is none.
pub fn text(path: &Path) -> Result<Option<String>, Error> {
    let failed = |source| Error::File { path: path.into(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Long(path.into()));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The interface of a file, and whether the file is for IPv6.
fn interface(file: &str) -> Option<(&str, bool)> {
    let v4 = file.strip_prefix("hostname.").map(|interface| (interface, false));
    v4.or_else(|| file.strip_prefix("hostname6.").map(|interface| (interface, true)))
}

/// The lines of a file. A line has the words of a command line after the name of the interface, and continues after a
/// backslash; a single word is an address or host name, with `netmask + broadcast + up`. An empty file is `plumb`.
pub fn lines(file: &str, text: &str) -> Vec<(Place, Result<Change, LineError>)> {
    let Some((interface, v6)) = interface(file) else { return Vec::new() };
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut first = 1;
    for (number, line) in (1..).zip(text.lines()) {
        if words.is_empty() {
            first = number;
        }
        let line = line.trim_end();
        let (line, continues) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        let of_line = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        words.extend(of_line.map(|word| if word == "\"\"" { String::new() } else { word.to_owned() }));
        if !continues && !words.is_empty() {
            found.push((first, std::mem::take(&mut words)));
        }
    }
    if !words.is_empty() {
        found.push((first, words));
    }
    if found.is_empty() {
        found.push((1, vec!["plumb".into()]));
    }
    let change = |(line, words): (usize, Vec<String>)| {
        (Place { file: file.into(), line }, change(interface, v6, words))
    };
    found.into_iter().map(change).collect()
}

fn change(interface: &str, v6: bool, words: Vec<String>) -> Result<Change, LineError> {
    let parse = |words: Vec<String>| {
        let family = v6.then(|| "inet6".to_owned());
        let all: Vec<String> = [interface.to_owned()].into_iter().chain(family).chain(words).collect();
        match grammar::parse(&all)? {
            Line::Change(change) => Ok(change),
            Line::Show(_) => Err(LineError::NoChange),
        }
    };
    let is_single = words.len() == 1;
    let mut change = parse(words)?;
    if is_single && change.base.address.is_some() {
        change.base.up = Some(true);
        if !v6 {
            change.base.netmask = change.base.netmask.or(Some(grammar::Mask::Default));
        }
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifconfig::grammar::Mask;

    fn of(file: &str, text: &str) -> Vec<Change> {
        lines(file, text)
            .into_iter()
            .map(|(place, line)| line.unwrap_or_else(|error| panic!("{place}: {error}")))
            .collect()
    }

    /// The files of 1.6.3 and 1.7.4.
    #[test]
    fn files_of_tutorial_are_commands_without_interface() {
        let ipmp = of("hostname.production0", "ipmp group production0 hivemind-prod up\n");
        assert!(ipmp[0].ipmp && ipmp[0].base.address.as_deref() == Some("hivemind-prod"));
        let link = of("hostname.rge0", "group production0 -failover up\n");
        assert!(link[0].base.is_test() && link[0].interface.name == "rge0");
        let classic = of(
            "hostname.e1000g0",
            "vhivemind-e1000g0 deprecated -failover netmask + broadcast + group production0 up \\\naddif vhivemind-prod \
             netmask + broadcast + up\n",
        );
        assert_eq!((classic.len(), classic[0].added.len()), (1, 1));
    }

    #[test]
    fn each_line_is_a_command_and_a_single_word_an_address() {
        let places = |text| {
            lines("hostname.eth0", text)
                .into_iter()
                .map(|(place, line)| (place.line, line.is_ok()))
                .collect::<Vec<_>>()
        };
        assert_eq!(places("# eth0\n\ngroup a0 up # now\naddif 10.0.0.1 up\n"), [(3, true), (4, true)]);
        assert_eq!(places("group a0 \\\nup\nbad! \\\n"), [(1, true), (3, false)]);
        let single = of("hostname.eth0", "node1\n");
        assert_eq!((single[0].base.up, single[0].base.netmask), (Some(true), Some(Mask::Default)));
        assert!(of("hostname.eth0", "")[0].plumb && of("hostname.eth0", "\n # \n")[0].plumb);
        assert!(of("hostname6.eth0", "fd00::1/64")[0].v6);
        assert_eq!(of("hostname.eth0", "group \"\"")[0].group.as_deref(), Some(""));
        assert_eq!(lines("hosts", "group a0"), []);
        let (_, error) = lines("hostname.eth0", "inet").remove(0);
        assert_eq!(error, Err(LineError::NoChange));
    }

    #[test]
    fn names_are_those_of_hosts_files_only() {
        let hosts =
            resolve::hosts("127.0.0.1 localhost\n10.0.0.1\tnode1 node1.example # x\nbad node2\n").collect();
        let names = Names { hosts: Some(hosts), ..Names::default() };
        let wish =
            |text: &str| resolve::resolve(of("hostname.eth0", text).remove(0), &names, &mut Vec::new());
        assert_eq!(wish("node1.example").unwrap().base.unwrap().to_string(), "10.0.0.1/8");
        assert_eq!(
            wish("node2").unwrap_err().to_string(),
            "node2 is in no hosts file: specify an address, or add node2 to /etc/hosts; no name server is queried"
        );
    }
}
