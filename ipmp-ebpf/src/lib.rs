//! Shared by the eBPF programs: reading a network device and a socket, counters, the timer of the sentinel, and what every object has.
#![no_std]

pub mod clock;
pub mod count;
pub mod device;
pub mod socket;

/// What every object has: its licence, and a handler of panics, which never runs, since the programs contain none.
#[macro_export]
macro_rules! object {
    () => {
        #[panic_handler]
        fn panic(_info: &core::panic::PanicInfo) -> ! {
            loop {}
        }

        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
