//! How long the kernel's verifier walks through the programs: it gives up at a million instructions, and other kernels walk
//! other ways.

use crate::harness::run;

const MOST: u32 = 200_000;

#[test]
fn it_is_far_from_giving_up() {
    lab::needs_root!();
    run(|bench| {
        for (name, walked) in bench.verified() {
            println!("{name}: {walked} instructions");
            assert!(walked < MOST, "{name}: {walked} instructions");
        }
    });
}
