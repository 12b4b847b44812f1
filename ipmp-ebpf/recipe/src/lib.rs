//! How `ipmp-ebpf` is compiled, and where its compiler is found.
