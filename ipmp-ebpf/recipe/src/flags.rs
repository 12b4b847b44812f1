//! Compiler flags that `core` and the programs share.

/// Lets the compiler read words where they lie; without it LLVM 22 loads unaligned fields byte by byte.
pub(crate) const MISALIGNED: &str = "allows-misaligned-mem-access";

/// Flags for every crate of the target, `core` included: LLVM inlines only between functions of one CPU and feature set.
///
/// v3 has 32-bit registers and atomics that return a value. Debug information is what BTF is made of.
pub(crate) const CODEGEN: [&str; 3] =
    ["-Ctarget-cpu=v3", "-Ctarget-feature=+allows-misaligned-mem-access", "-Cdebuginfo=2"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_crates_of_the_target_share_the_feature_that_is_checked_for() {
        assert!(CODEGEN.iter().any(|flag| flag.ends_with(MISALIGNED)));
    }
}
