//! Set-up, demo, tests and benchmarks of ipmp.

fn main() {}
