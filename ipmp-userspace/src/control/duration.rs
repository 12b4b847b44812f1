//! Times as people read them.

use std::time::Duration;

/// A time in the unit that suits it, with two digits at least from a second to ten: `300 µs`, `200 ms`, `2.4 s`, `43 s`.
pub fn short(time: Duration) -> String {
    let (micros, millis) = (time.as_micros(), time.as_millis());
    match millis {
        0 if micros > 0 => format!("{micros} µs"),
        0..1000 => format!("{millis} ms"),
        1000..10_000 if millis % 1000 >= 100 => format!("{:.1} s", (millis / 100) as f64 / 10.0),
        _ => format!("{} s", millis / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let ms = Duration::from_millis;
        for (time, text) in [
            (ms(0), "0 ms"),
            (Duration::from_micros(300), "300 µs"),
            (ms(200), "200 ms"),
            (ms(1000), "1 s"),
            (ms(2000), "2 s"),
            (ms(2450), "2.4 s"),
            (ms(9999), "9.9 s"),
            (ms(43_999), "43 s"),
        ] {
            assert_eq!(short(time), text);
        }
    }
}
