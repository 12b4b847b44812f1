//! The kernel's description of its types, and our programs with a call put in by it.

use ipmp::datapath::btf::Kernel;

pub fn run(input: &[u8]) -> bool {
    let Some(kernel) = Kernel::parse(input) else { return false };
    assert_eq!(kernel.adapt(input).len(), input.len());
    true
}
