//! Names of group interfaces, members and groups.

/// Longest interface name in bytes: `IFNAMSIZ` with its NUL is 16.
pub const MAX_INTERFACE_NAME: usize = 15;
/// Longest group name in bytes (docs/reference.md 1.2); longer ones are refused, not truncated.
pub const MAX_GROUP_NAME: usize = 31;

/// Why a name is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Empty.
    #[error("{what} has an empty name: give it 1 to {max} bytes")]
    Empty {
        /// The named object.
        what: &'static str,
        /// Longest name in bytes.
        max: usize,
    },
    /// Too long.
    #[error("{name:?} is too long for {what}: {} bytes, and the limit is {max}", name.len())]
    Long {
        /// The named object.
        what: &'static str,
        /// The name.
        name: String,
        /// Longest name in bytes.
        max: usize,
    },
    /// It contains an invalid character.
    #[error("{name:?} cannot name {what}: choose one without {character:?}")]
    Character {
        /// The named object.
        what: &'static str,
        /// The name.
        name: String,
        /// The first invalid character.
        character: char,
    },
}

/// Checks the name of a group interface. The kernel permits a dot; pins under `/sys/fs/bpf` and sysctl paths do not.
pub fn check_group(name: &str) -> Result<(), Error> {
    check("a group", name, MAX_INTERFACE_NAME, |c| matches!(c, '/' | '.' | ':' | '%'))
}

/// Checks the name of an existing interface, by the rules of the kernel.
pub fn check_interface(name: &str) -> Result<(), Error> {
    let dots = matches!(name, "." | "..");
    check("an interface", name, MAX_INTERFACE_NAME, |c| matches!(c, '/' | ':') || dots)
}

/// Checks a group's second name.
pub fn check_groupname(name: &str) -> Result<(), Error> {
    check("a group", name, MAX_GROUP_NAME, |_| false)
}

fn check(what: &'static str, name: &str, max: usize, refused: impl Fn(char) -> bool) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Empty { what, max });
    }
    if let Some(character) = name.chars().find(|&c| c.is_whitespace() || c.is_control() || refused(c)) {
        return Err(Error::Character { what, name: name.into(), character });
    }
    if name.len() > max {
        return Err(Error::Long { what, name: name.into(), max });
    }
    Ok(())
}

/// The note on a group interface whose name does not end in a digit, as interface names of the reference do.
pub fn note(group: &str) -> Option<String> {
    (!group.ends_with(|c: char| c.is_ascii_digit())).then(|| {
        format!("the name {group} does not end in a digit, as {group}0 would: some tools expect that")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<(), Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn valid_names_are_accepted() {
        for name in ["production0", "a", "fifteen-bytes-0", "größe0"] {
            check_group(name).unwrap_or_else(|e| panic!("{name}: {e}"));
            check_interface(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        check_interface("eth0.100").unwrap();
        check_groupname("31-bytes-of-a-second-group-name").unwrap();
        check_groupname("a.b/c").unwrap();
    }

    #[test]
    fn invalid_names_are_refused_with_reason() {
        assert_eq!(text(check_group("")), "a group has an empty name: give it 1 to 15 bytes");
        assert_eq!(
            text(check_group("sixteen-bytes-00")),
            r#""sixteen-bytes-00" is too long for a group: 16 bytes, and the limit is 15"#
        );
        for (name, character) in [
            ("a/0", "'/'"),
            ("a.0", "'.'"),
            ("a 0", "' '"),
            ("a\u{1b}0", r"'\u{1b}'"),
            ("a%d", "'%'"),
            ("a:0", "':'"),
        ] {
            assert_eq!(
                text(check_group(name)),
                format!("{name:?} cannot name a group: choose one without {character}")
            );
        }
        assert_eq!(text(check_interface("..")), r#"".." cannot name an interface: choose one without '.'"#);
        assert_eq!(
            text(check_groupname("32-bytes-of-a-second-group-name.")),
            r#""32-bytes-of-a-second-group-name." is too long for a group: 32 bytes, and the limit is 31"#
        );
    }

    #[test]
    fn name_without_final_digit_gets_a_note() {
        assert_eq!(note("production0"), None);
        assert_eq!(
            note("production").unwrap(),
            "the name production does not end in a digit, as production0 would: some tools expect that"
        );
    }
}
