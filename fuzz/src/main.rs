//! libFuzzer on the target that `IPMP_FUZZ_TARGET` names: `cargo xtask fuzz` builds and runs it.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod fuzzer {
    use std::sync::OnceLock;

    static TARGET: OnceLock<&ipmp_fuzz::Target> = OnceLock::new();

    fn target() -> &'static ipmp_fuzz::Target {
        TARGET.get_or_init(|| {
            let name = std::env::var("IPMP_FUZZ_TARGET").unwrap_or_default();
            ipmp_fuzz::Target::named(&name).unwrap_or_else(|| panic!("there is no target {name:?}"))
        })
    }

    libfuzzer_sys::fuzz_target!(|input: &[u8]| {
        (target().run)(input);
    });
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    eprintln!("there is no fuzzer in this binary: run `cargo xtask fuzz`");
    std::process::ExitCode::FAILURE
}
