//! Figures as people read them.

/// Bytes with a decimal unit: `14.7 MB`.
pub fn bytes(n: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut n = n;
    while n >= 1000.0 && unit + 1 < UNITS.len() {
        n /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 {
        0
    } else if n < 10.0 {
        2
    } else {
        1
    };
    format!("{n:.digits$} {}", UNITS[unit])
}

/// Seconds with a fitting unit.
pub fn seconds(s: f64) -> String {
    match s {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Three significant digits, without an exponent where it can be read.
pub fn figure(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        a if a < 1e-4 => format!("{x:.1e}"),
        a if a < 0.01 => format!("{x:.5}"),
        a if a < 1.0 => format!("{x:.4}"),
        a if a < 100.0 => format!("{x:.2}"),
        _ => format!("{x:.0}"),
    }
}

/// A count as it is, anything else as a [`figure`].
pub fn number(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 1e15 { format!("{x}") } else { figure(x) }
}

/// A share as a percentage.
pub fn percent(x: f64) -> String {
    let digits = if x.abs() < 0.1 { 2 } else { 1 };
    format!("{:.digits$} %", 100.0 * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(999.0), "999 B");
        assert_eq!(bytes(14_696_792.0), "14.7 MB");
        assert_eq!(bytes(4.58e9), "4.58 GB");
        assert_eq!(seconds(0.0123), "12 ms");
        assert_eq!(seconds(300.0), "5.0 min");
        assert_eq!(figure(0.01234), "0.0123");
        assert_eq!(figure(59.123), "59.12");
        assert_eq!(percent(0.0123), "1.23 %");
    }
}
