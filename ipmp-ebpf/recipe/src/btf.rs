//! The type information of a linked object: C's names for the types that have one, and no lines of source.
//!
//! `bpftool map dump` prints an array as text if BTF calls its integers `char`. rustc calls them `i8`, and there is no attribute for
//! another name, so the name is changed in the section `.BTF` of the object: a new section with one more string, at the end of
//! the file.
//!
//! The kernel keeps the lines of source of each loaded program, some 70 KiB, and shows them in the verifier's log alone: so they are
//! removed from the sections `.BTF.ext` and `.BTF`. Formats: Linux `Documentation/bpf/btf.rst`, and `elf.h`.

/// Offset of the table of sections in the ELF header, then of the size and the number of its entries.
const TABLE: usize = 40;
const ENTRY_SIZE: usize = 58;
const ENTRIES: usize = 60;
/// The index of the section that holds the names of the sections.
const NAMES: usize = 62;
/// Offsets in an entry of that table: where the section begins in the file, and its size.
const OFFSET: usize = 24;
const SIZE: usize = 32;

/// Offsets in the BTF header: its own length, and offset and length of types and strings.
const HEADER_LENGTH: usize = 4;
const TYPES: usize = 8;
const TYPES_LENGTH: usize = 12;
const STRINGS: usize = 16;
const STRINGS_LENGTH: usize = 20;
/// The same of `.BTF.ext`, with its parts for functions, lines and relocations.
const FUNCTIONS: usize = 8;
const FUNCTIONS_LENGTH: usize = 12;
const LINES_LENGTH: usize = 20;
const RELOCATIONS_LENGTH: usize = 28;
/// Bytes of a type before what its kind adds: name, information, size.
const TYPE_LENGTH: usize = 12;

/// Renames the integer `i8` of an object to `char`. `None` if the object has no BTF, or a malformed one.
pub(crate) fn name_chars(object: &[u8]) -> Option<Vec<u8>> {
    let (header, btf) = section(object, b".BTF")?;
    let btf = renamed(btf, b"i8", b"char")?;
    let mut object = object.to_vec();
    object.resize(object.len().next_multiple_of(8), 0);
    let offset = object.len() as u64;
    object[header + OFFSET..][..8].copy_from_slice(&offset.to_le_bytes());
    object[header + SIZE..][..8].copy_from_slice(&(btf.len() as u64).to_le_bytes());
    object.extend(btf);
    Some(object)
}

/// Removes the lines of source of an object. `None` as of [`name_chars`], or if the object has CO-RE relocations, which have names too.
pub(crate) fn without_lines(object: &[u8]) -> Option<Vec<u8>> {
    let (btf_header, btf) = section(object, b".BTF")?;
    let (ext_header, ext) = section(object, b".BTF.ext")?;
    let (new_btf, new_ext) = compact(btf, ext)?;
    let place = |header: usize| word(object, header + OFFSET);
    let (btf_place, ext_place) = (place(btf_header)?, place(ext_header)?);
    let mut object = object.to_vec();
    object[btf_place..][..new_btf.len()].copy_from_slice(&new_btf);
    object[btf_header + SIZE..][..8].copy_from_slice(&(new_btf.len() as u64).to_le_bytes());
    object[ext_place..][..new_ext.len()].copy_from_slice(&new_ext);
    Some(object)
}

/// The sections `.BTF` and `.BTF.ext` without lines, and without the names that only lines had.
fn compact(btf: &[u8], ext: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut ext = ext.to_vec();
    let core_relocations =
        if int(&ext, HEADER_LENGTH)? > LINES_LENGTH + 4 { int(&ext, RELOCATIONS_LENGTH)? } else { 0 };
    if core_relocations != 0 {
        return None;
    }
    ext.get_mut(LINES_LENGTH..)?.get_mut(..4)?.fill(0);

    let (strings, old) = strings(btf)?;
    let mut names = Names { old, new: vec![0] };
    let mut result = btf.get(..strings)?.to_vec();
    for Type { at, kind, members } in types(btf)? {
        names.keep(&mut result, at)?;
        for member in 0..if names_members(kind) { members } else { 0 } {
            names.keep(&mut result, at + TYPE_LENGTH + tail(kind, member)?)?;
        }
    }
    // The names of the sections that functions are in: each with the number of its functions.
    let functions = int(&ext, HEADER_LENGTH)? + int(&ext, FUNCTIONS)?;
    let end = functions + int(&ext, FUNCTIONS_LENGTH)?;
    ext.get(..end)?;
    let (record, mut at) = (int(&ext, functions)?, functions + 4);
    while at < end {
        names.keep(&mut ext, at)?;
        at += 8 + record * int(&ext, at + 4)?;
    }
    result.extend(&names.new);
    result[STRINGS_LENGTH..][..4].copy_from_slice(&(names.new.len() as u32).to_le_bytes());
    Some((result, ext))
}

/// Names that are kept.
struct Names<'a> {
    old: &'a [u8],
    new: Vec<u8>,
}

impl Names<'_> {
    /// Keeps the name whose offset is here, and writes its new offset.
    fn keep(&mut self, bytes: &mut [u8], at: usize) -> Option<()> {
        let name = [string(self.old, int(bytes, at)?)?, &[0]].concat();
        let place = match self.new.windows(name.len()).position(|there| there == name) {
            Some(place) => place,
            None => {
                self.new.extend(&name);
                self.new.len() - name.len()
            }
        };
        bytes[at..][..4].copy_from_slice(&(place as u32).to_le_bytes());
        Some(())
    }
}

/// The offset of a section's header in the file, and the section.
fn section<'a>(object: &'a [u8], name: &[u8]) -> Option<(usize, &'a [u8])> {
    let table = word(object, TABLE)?;
    let (size, count, names) = (half(object, ENTRY_SIZE)?, half(object, ENTRIES)?, half(object, NAMES)?);
    let contents =
        |header: usize| object.get(word(object, header + OFFSET)?..)?.get(..word(object, header + SIZE)?);
    let names = contents(table + size * names)?;
    (0..count).map(|index| table + size * index).find_map(|header| {
        let found = string(names, int(object, header)?)?;
        (found == name).then(|| Some((header, contents(header)?)))?
    })
}

/// BTF with another name for each integer of this name.
fn renamed(btf: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let (strings, names) = strings(btf)?;
    let mut result = btf.get(..strings + names.len())?.to_vec();
    for Type { at, kind, .. } in types(btf)? {
        if kind == KIND_INT && string(names, int(btf, at)?)? == from {
            result[at..][..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        }
    }
    result.extend(to);
    result.push(0);
    let length = (names.len() + to.len() + 1) as u32;
    result[STRINGS_LENGTH..][..4].copy_from_slice(&length.to_le_bytes());
    Some(result)
}

/// A type: where it begins, and how many members it has.
struct Type {
    at: usize,
    kind: usize,
    members: usize,
}

/// All types, in their order.
fn types(btf: &[u8]) -> Option<Vec<Type>> {
    let start = int(btf, HEADER_LENGTH)? + int(btf, TYPES)?;
    let end = start + int(btf, TYPES_LENGTH)?;
    let (mut found, mut at) = (Vec::new(), start);
    while at < end {
        let info = int(btf, at + 4)?;
        let (kind, members) = (info >> 24 & 0x1f, info & 0xffff);
        found.push(Type { at, kind, members });
        at += TYPE_LENGTH + tail(kind, members)?;
    }
    Some(found)
}

/// Where the names begin, and all names.
fn strings(btf: &[u8]) -> Option<(usize, &[u8])> {
    let start = int(btf, HEADER_LENGTH)? + int(btf, STRINGS)?;
    Some((start, btf.get(start..)?.get(..int(btf, STRINGS_LENGTH)?)?))
}

const KIND_INT: usize = 1;

/// Bytes that a kind of type adds, with so many members.
fn tail(kind: usize, members: usize) -> Option<usize> {
    Some(match kind {
        // INT, VAR, DECL_TAG
        KIND_INT | 14 | 17 => 4,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => 12 * members,
        // ENUM, FUNC_PROTO
        6 | 13 => 8 * members,
        _ => return None,
    })
}

/// Whether what this kind adds begins with a name, for each of its members: STRUCT, UNION, ENUM, FUNC_PROTO, ENUM64.
const fn names_members(kind: usize) -> bool {
    matches!(kind, 4 | 5 | 6 | 13 | 19)
}

fn string(names: &[u8], at: usize) -> Option<&[u8]> {
    names.get(at..)?.split(|&byte| byte == 0).next()
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn int(bytes: &[u8], at: usize) -> Option<usize> {
    u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?).try_into().ok()
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, `i8`, an array of it, `u8`, and their names.
    fn btf() -> Vec<u8> {
        let names = b"\0i8\0u8\0";
        let types: Vec<u8> =
            [[1, 1 << 24, 1, 0x0100_0008].as_slice(), &[0, 3 << 24, 0, 1, 1, 16], &[4, 1 << 24, 1, 8]]
                .concat()
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .collect();
        let length = types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, length, length, names.len() as u32].map(u32::to_le_bytes).concat();
        [header, types, names.to_vec()].concat()
    }

    #[test]
    fn renamed_changes_one_name_and_keeps_all_other_bytes() {
        let before = btf();
        let after = renamed(&before, b"i8", b"char").unwrap();
        assert_eq!(&after[before.len()..], b"char\0");
        let changed: Vec<_> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
        assert_eq!(
            changed,
            [STRINGS_LENGTH, 24],
            "the length of the strings, and the name of the first type"
        );
        assert_eq!(string(&after[after.len() - 12..], int(&after, 24).unwrap()), Some(&b"char"[..]));
    }

    /// Two functions in the section `tc`, and two lines, whose text is the last name.
    fn with_functions_and_lines() -> (Vec<u8>, Vec<u8>) {
        let names = b"\0tc\0let a = b;\0u8\0field\0pair\0";
        let types = [[15, 1 << 24, 1, 8].as_slice(), &[24, 4 << 24 | 2, 2, 18, 1, 0, 18, 1, 8]].concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let length = types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, length, length, names.len() as u32].map(u32::to_le_bytes).concat();
        let ext =
            [0x0001_eb9f, 32, 0, 28, 28, 44, 72, 0, 8, 1, 2, 0, 1, 64, 1, 16, 1, 2, 0, 4, 4, 9, 8, 4, 4, 10];
        ([header, types, names.to_vec()].concat(), ext.map(u32::to_le_bytes).concat())
    }

    #[test]
    fn compact_keeps_names_of_types_members_and_sections_alone() {
        let (btf, ext) = with_functions_and_lines();
        let (new, new_ext) = compact(&btf, &ext).unwrap();
        assert_eq!(&new[24 + 52..], b"\0u8\0pair\0field\0tc\0");
        let names = &new[24 + 52..];
        let name = |bytes: &[u8], at| string(names, int(bytes, at).unwrap()).unwrap().to_vec();
        assert_eq!([24, 40, 52, 64].map(|at| name(&new, at)), [&b"u8"[..], b"pair", b"field", b"field"]);
        assert_eq!(int(&new, STRINGS_LENGTH), Some(names.len()));
        assert_eq!((name(&new_ext, 36), int(&new_ext, LINES_LENGTH)), (b"tc".to_vec(), Some(0)));
        let changed = (0..ext.len()).filter(|&at| ext[at] != new_ext[at]).collect::<Vec<_>>();
        assert_eq!(changed, [LINES_LENGTH, 36]);
        let mut relocated = ext;
        relocated[RELOCATIONS_LENGTH] = 8;
        assert!(compact(&btf, &relocated).is_none());
    }

    #[test]
    fn malformed_objects_are_refused() {
        assert_eq!(name_chars(b"\x7fELF"), None);
        assert_eq!(name_chars(&[0; 200]), None);
        assert_eq!(without_lines(&[0; 200]), None);
        let (btf_with_lines, ext) = with_functions_and_lines();
        for length in 0..btf_with_lines.len() {
            assert_eq!(compact(&btf_with_lines[..length], &ext), None, "{length} bytes");
        }
        // What follows the functions is not read.
        for length in 0..60 {
            assert_eq!(compact(&btf_with_lines, &ext[..length]), None, "{length} bytes");
        }
        for length in 0..btf().len() {
            assert_eq!(renamed(&btf()[..length], b"i8", b"char"), None, "{length} bytes");
        }
    }
}
