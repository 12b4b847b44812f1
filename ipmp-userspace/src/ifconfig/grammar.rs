//! The grammar: from the words of a command line to what it wants, without knowledge of the host.

use std::net::Ipv4Addr;

use crate::control::name;

/// Printed for a command line without words.
pub const USAGE: &str =
    "usage: ifconfig -a[4][6][u][d] [--classic] | INTERFACE [inet|inet6] [--classic | WORDS]";

/// After `-a` or an interface: show groups as classic IPMP does.
const CLASSIC: &str = "--classic";

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Show interfaces.
    Show(Show),
    /// Change one.
    Change(Change),
}

/// Which interfaces to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// This one; `None`: all.
    pub interface: Option<Interface>,
    /// Of this family only: `true` for IPv6.
    pub v6: Option<bool>,
    /// Only those that are up, or down.
    pub up: Option<bool>,
    /// All groups as classic IPMP shows them.
    pub classic: bool,
}

/// An interface: `eth0`, or the logical interface `eth0:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Number of the logical interface; 0 is the interface itself.
    pub logical: u16,
}

/// A netmask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// `+`: by the rules of [`super::netmask`].
    Default,
    /// Prefix length in bits.
    Prefix(u8),
}

/// A broadcast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// `+`: the last address of the network.
    Default,
    /// This one.
    Is(Ipv4Addr),
}

/// What a line says of one address: that of the interface, or that of an `addif`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logical {
    /// Address, `ADDRESS/PREFIX` or host name.
    pub address: Option<String>,
    /// `netmask`
    pub netmask: Option<Mask>,
    /// `broadcast`
    pub broadcast: Option<Broadcast>,
    /// `up`, or `down`.
    pub up: Option<bool>,
    /// `failover`, or `-failover`: a test address.
    pub failover: Option<bool>,
    /// `deprecated`, or `-deprecated`.
    pub deprecated: Option<bool>,
}

impl Logical {
    /// Whether it is a test address.
    pub fn is_test(&self) -> bool {
        self.failover == Some(false)
    }
}

/// A change of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The interface.
    pub interface: Interface,
    /// `inet6`
    pub v6: bool,
    /// `plumb`
    pub plumb: bool,
    /// `unplumb`: the only word.
    pub unplumb: bool,
    /// `ipmp`: create a group.
    pub ipmp: bool,
    /// The address of the interface.
    pub base: Logical,
    /// Each `addif`, with the words after it.
    pub added: Vec<Logical>,
    /// Each `removeif`.
    pub removed: Vec<String>,
    /// `group`; empty: leave it.
    pub group: Option<String>,
    /// `standby`, or `-standby`.
    pub standby: Option<bool>,
}

/// Why a line is invalid, whatever the state of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error("{USAGE}")]
    Usage,
    #[error(transparent)]
    Name(#[from] name::Error),
    #[error("{0:?} is no logical interface: write INTERFACE:NUMBER, for example eth0:1")]
    Logical(String),
    #[error("unknown option {0:?}: -a shows all interfaces; 4, 6, u and d after it select some of them")]
    Option(String),
    #[error("{0:?} after -a: -a shows interfaces and changes none; name one interface instead")]
    AfterAll(String),
    #[error("--classic shows interfaces and changes none: leave out the other words")]
    ClassicChange,
    #[error("{0} needs a value: {1}")]
    NoValue(&'static str, &'static str),
    #[error("{0:?} is no netmask: write +, 255.255.255.0 or 0xffffff00, with all ones before all zeros")]
    Mask(String),
    #[error("{0:?} is no broadcast address: write + for the last address of the network")]
    Broadcast(String),
    #[error("{0} contradicts or repeats an earlier word: give one of them")]
    Twice(String),
    #[error("unknown word {0:?}: expected an address, a host name or a word of the manual")]
    Unknown(String),
    #[error("{word} is not supported: {remedy}")]
    Unsupported { word: &'static str, remedy: &'static str },
    #[error("second address {0:?}: a line has one address; write addif {0} for an additional one")]
    SecondAddress(String),
    #[error("{0} needs an address before it in the line")]
    NeedsAddress(&'static str),
    #[error("unplumb must be the only word, except for down: use two lines")]
    UnplumbWith,
    #[error("{0} is not possible on an IPMP interface: it is for members")]
    OnIpmp(&'static str),
    #[error("-deprecated is not possible with -failover: a test address is always deprecated")]
    DeprecatedTest,
    #[error("deprecated needs -failover: only test addresses are excluded from source address selection")]
    DeprecatedData,
    #[error("{0} is not possible on a logical interface: use it on the interface itself")]
    OnLogical(&'static str),
    #[error("an empty group name leaves the group, which is not possible with {0}: use two lines")]
    LeaveWith(&'static str),
    #[error("the prefix length of {0:?} contradicts netmask: give one of them")]
    MaskTwice(String),
    #[error("netmask and broadcast are for IPv4: write the IPv6 address as ADDRESS/PREFIX")]
    MaskOfV6,
}

/// A word of the grammar.
struct Word {
    text: &'static str,
    /// What its value is, if it has one.
    value: Option<&'static str>,
    apply: fn(&mut Change, &str) -> Result<(), Error>,
}

const fn word(text: &'static str, apply: fn(&mut Change, &str) -> Result<(), Error>) -> Word {
    Word { text, value: None, apply }
}

const fn with_value(
    text: &'static str,
    value: &'static str,
    apply: fn(&mut Change, &str) -> Result<(), Error>,
) -> Word {
    Word { text, value: Some(value), apply }
}

/// The words that are supported.
const WORDS: [Word; 20] = [
    word("plumb", |line, word| flag(&mut line.plumb, word)),
    word("unplumb", |line, word| flag(&mut line.unplumb, word)),
    word("ipmp", |line, word| flag(&mut line.ipmp, word)),
    word("inet", |line, word| if line.v6 { Err(Error::Twice(word.into())) } else { Ok(()) }),
    word("inet6", |line, word| flag(&mut line.v6, word)),
    word("up", |line, word| once(&mut line.current().up, true, word)),
    word("down", |line, word| once(&mut line.current().up, false, word)),
    word("failover", |line, word| once(&mut line.current().failover, true, word)),
    word("-failover", |line, word| once(&mut line.current().failover, false, word)),
    word("deprecated", |line, word| once(&mut line.current().deprecated, true, word)),
    word("-deprecated", |line, word| once(&mut line.current().deprecated, false, word)),
    word("standby", |line, word| once(&mut line.standby, true, word)),
    word("-standby", |line, word| once(&mut line.standby, false, word)),
    with_value("group", "a group name, or \"\" to leave the group", |line, value| {
        if !value.is_empty() {
            name::check_groupname(value)?;
        }
        once(&mut line.group, value.to_owned(), "group")
    }),
    with_value("netmask", "+, 255.255.255.0 or 0xffffff00", |line, value| {
        let mask = mask(value)?;
        once(&mut line.current().netmask, mask, "netmask")
    }),
    with_value("broadcast", "+, or an address", |line, value| {
        let broadcast = match value {
            "+" => Broadcast::Default,
            _ => Broadcast::Is(value.parse().map_err(|_| Error::Broadcast(value.into()))?),
        };
        once(&mut line.current().broadcast, broadcast, "broadcast")
    }),
    with_value("addif", "an address", |line, value| {
        line.added.push(Logical { address: Some(address(value)?), ..Logical::default() });
        Ok(())
    }),
    with_value("removeif", "an address", |line, value| {
        let removed = address(value)?;
        if line.removed.contains(&removed) {
            return Err(Error::Twice(format!("removeif {value}")));
        }
        line.removed.push(removed);
        Ok(())
    }),
    with_value("set", "an address", set_address),
    with_value("destination", "an address", |_, _| {
        Err(Error::Unsupported {
            word: "destination",
            remedy: "a point-to-point interface cannot be a member",
        })
    }),
];

/// Words of Solaris that are not supported, with the command to use.
const UNSUPPORTED: [(&str, &str); 30] = [
    ("arp", "members and groups need ARP"),
    ("-arp", "members and groups need ARP"),
    ("auto-dhcp", "use ipmpctl test-address add INTERFACE dhcp, or a DHCP client on the group interface"),
    ("auto-revarp", "use a DHCP client on the group interface"),
    ("dhcp", "use ipmpctl test-address add INTERFACE dhcp, or a DHCP client on the group interface"),
    ("ether", "use ip link set INTERFACE address"),
    ("index", "use ip link add with an index"),
    ("-local", "it has no equivalent on Linux"),
    ("local", "it has no equivalent on Linux"),
    ("metric", "use ip route with a metric"),
    ("modinsert", "module operations not supported on IPMP interfaces"),
    ("modlist", "module operations not supported on IPMP interfaces"),
    ("modremove", "module operations not supported on IPMP interfaces"),
    ("mtu", "use ip link set INTERFACE mtu; the MTU of a group is the smallest of its members"),
    ("-nud", "it has no equivalent on Linux"),
    ("nud", "it has no equivalent on Linux"),
    ("-preferred", "use ip address change with preferred_lft"),
    ("preferred", "use ip address change with preferred_lft"),
    ("-private", "it has no equivalent on Linux"),
    ("private", "it has no equivalent on Linux"),
    ("-router", "use sysctl net.ipv4.conf.INTERFACE.forwarding"),
    ("router", "use sysctl net.ipv4.conf.INTERFACE.forwarding"),
    ("subnet", "use netmask, or ADDRESS/PREFIX"),
    ("tdst", "use ip tunnel"),
    ("token", "use ip token set"),
    ("-trailers", "it has no equivalent on Linux"),
    ("trailers", "it has no equivalent on Linux"),
    ("tsrc", "use ip tunnel"),
    ("usesrc", "use ip route with src"),
    ("zone", "use ip link set INTERFACE netns"),
];

impl Change {
    fn of(interface: Interface) -> Self {
        Self {
            interface,
            v6: false,
            plumb: false,
            unplumb: false,
            ipmp: false,
            base: Logical::default(),
            added: Vec::new(),
            removed: Vec::new(),
            group: None,
            standby: None,
        }
    }

    /// The address that a word refers to: that of the last `addif`, else that of the interface.
    fn current(&mut self) -> &mut Logical {
        self.added.last_mut().unwrap_or(&mut self.base)
    }
}

fn flag(slot: &mut bool, word: &str) -> Result<(), Error> {
    if *slot {
        return Err(Error::Twice(word.into()));
    }
    *slot = true;
    Ok(())
}

fn once<T>(slot: &mut Option<T>, value: T, word: &str) -> Result<(), Error> {
    if slot.is_some() {
        return Err(Error::Twice(word.into()));
    }
    *slot = Some(value);
    Ok(())
}

/// Parses the words of a line, without the name of the program.
///
/// # Errors
/// The first mistake.
pub fn parse(words: &[String]) -> Result<Line, Error> {
    let Some((first, rest)) = words.split_first() else { return Err(Error::Usage) };
    let (classic, words) = match rest.split_last() {
        Some((last, before)) if last == CLASSIC => (true, before),
        _ => (false, rest),
    };
    if let Some(option) = first.strip_prefix('-') {
        return Ok(Line::Show(Show { classic, ..all(option, first, words)? }));
    }
    let interface = interface(first)?;
    match words {
        [] => Ok(Line::Show(Show { interface: Some(interface), classic, ..Show::default() })),
        [family] if family == "inet" || family == "inet6" => Ok(Line::Show(Show {
            interface: Some(interface),
            v6: Some(family == "inet6"),
            up: None,
            classic,
        })),
        _ if classic => Err(Error::ClassicChange),
        _ => change(interface, rest).map(Line::Change),
    }
}

fn all(letters: &str, option: &str, rest: &[String]) -> Result<Show, Error> {
    let unknown = || Error::Option(option.into());
    let mut show = Show::default();
    for letter in letters.strip_prefix('a').ok_or_else(unknown)?.chars() {
        match letter {
            '4' => once(&mut show.v6, false, "4")?,
            '6' => once(&mut show.v6, true, "6")?,
            'u' => once(&mut show.up, true, "u")?,
            'd' => once(&mut show.up, false, "d")?,
            _ => return Err(unknown()),
        }
    }
    match rest {
        [] => Ok(show),
        [family] if show.v6.is_none() && (family == "inet" || family == "inet6") => {
            show.v6 = Some(family == "inet6");
            Ok(show)
        }
        [other, ..] => Err(Error::AfterAll(other.clone())),
    }
}

fn interface(text: &str) -> Result<Interface, Error> {
    let (name, logical) = match text.split_once(':') {
        Some((name, number)) => {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|_| digits);
            (name, number.ok_or_else(|| Error::Logical(text.into()))?)
        }
        None => (text, 0),
    };
    name::check_interface(name)?;
    Ok(Interface { name: name.into(), logical })
}

fn change(interface: Interface, words: &[String]) -> Result<Change, Error> {
    let mut line = Change::of(interface);
    let mut words = words.iter();
    while let Some(text) = words.next() {
        if let Some(word) = WORDS.iter().find(|word| word.text == text) {
            let value = match word.value {
                Some(what) => words.next().ok_or(Error::NoValue(word.text, what))?,
                None => text,
            };
            (word.apply)(&mut line, value)?;
        } else if let Some((word, remedy)) = UNSUPPORTED.iter().find(|(word, _)| word == text) {
            return Err(Error::Unsupported { word, remedy });
        } else {
            set_address(&mut line, text)?;
        }
    }
    check(&line)?;
    Ok(line)
}

fn set_address(line: &mut Change, text: &str) -> Result<(), Error> {
    let text = address(text)?;
    let current = line.current();
    if current.address.is_some() {
        return Err(Error::SecondAddress(text));
    }
    current.address = Some(text);
    Ok(())
}

/// A word that can be an address or a host name.
fn address(text: &str) -> Result<String, Error> {
    let permitted =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'/');
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b':');
    if first && text.bytes().all(permitted) { Ok(text.into()) } else { Err(Error::Unknown(text.into())) }
}

fn mask(text: &str) -> Result<Mask, Error> {
    let wrong = || Error::Mask(text.into());
    if text == "+" {
        return Ok(Mask::Default);
    }
    let bits = match text.parse::<Ipv4Addr>() {
        Ok(dotted) => u32::from(dotted),
        Err(_) => {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            let is_hexadecimal = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hexadecimal {
                return Err(wrong());
            }
            u32::from_str_radix(digits, 16).map_err(|_| wrong())?
        }
    };
    prefix_of(bits).map(Mask::Prefix).ok_or_else(wrong)
}

/// The prefix length of a netmask, unless a zero is before a one, or there is no one.
pub fn prefix_of(mask: u32) -> Option<u8> {
    let ones = mask.leading_ones();
    let is_contiguous = mask.count_ones() == ones;
    u8::try_from(ones).ok().filter(|prefix| is_contiguous && *prefix > 0)
}

/// The rules between words.
fn check(line: &Change) -> Result<(), Error> {
    if line.unplumb {
        let mut alone = Change { unplumb: true, v6: line.v6, ..Change::of(line.interface.clone()) };
        alone.base.up = line.base.up.filter(|up| !up);
        return if *line == alone { Ok(()) } else { Err(Error::UnplumbWith) };
    }
    for address in [&line.base].into_iter().chain(&line.added) {
        match &address.address {
            None if address.netmask.is_some() => return Err(Error::NeedsAddress("netmask")),
            None if address.broadcast.is_some() => return Err(Error::NeedsAddress("broadcast")),
            Some(text) if text.contains('/') && address.netmask.is_some() => {
                return Err(Error::MaskTwice(text.clone()));
            }
            _ => {}
        }
        if line.v6 && (address.netmask.is_some() || address.broadcast.is_some()) {
            return Err(Error::MaskOfV6);
        }
        match (address.deprecated, address.is_test()) {
            (Some(false), true) => return Err(Error::DeprecatedTest),
            (Some(true), false) => return Err(Error::DeprecatedData),
            _ => {}
        }
        if line.ipmp && address.failover.is_some() {
            return Err(Error::OnIpmp("failover"));
        }
    }
    if line.ipmp && line.standby.is_some() {
        return Err(Error::OnIpmp("standby"));
    }
    if line.interface.logical > 0 {
        let misplaced = [
            ("ipmp", line.ipmp),
            ("group", line.group.is_some()),
            ("standby", line.standby.is_some()),
            ("addif", !line.added.is_empty()),
        ];
        if let Some((word, _)) = misplaced.iter().find(|(_, given)| *given) {
            return Err(Error::OnLogical(word));
        }
    }
    if line.group.as_deref() == Some("") {
        let with = [
            ("ipmp", line.ipmp),
            ("standby", line.standby.is_some()),
            ("an address", line.base.address.is_some() || !line.added.is_empty()),
        ];
        if let Some((word, _)) = with.iter().find(|(_, given)| *given) {
            return Err(Error::LeaveWith(word));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
