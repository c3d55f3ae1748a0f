//! Points in time as text, without allocating and without the machine's time zone.

use std::io::Write;

/// A point in time split into the parts of a calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The year, such as 2026.
    pub year: u64,
    /// 1..=12.
    pub month: u64,
    /// 1..=31.
    pub day: u64,
    /// 0..=23.
    pub hour: u64,
    /// 0..=59.
    pub minute: u64,
    /// 0..=59.
    pub second: u64,
    /// 0..=999_999.
    pub micros: u64,
}

impl Civil {
    /// Splits microseconds since 1970. Source: Howard Hinnant, "chrono-compatible low-level date
    /// algorithms", `civil_from_days`, for days after the epoch.
    pub fn from_unix_micros(unix_micros: u64) -> Self {
        let (seconds, micros) = (unix_micros / 1_000_000, unix_micros % 1_000_000);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let shifted = days + 719_468; // days since 0000-03-01, so that leap days end a year
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
            micros,
        }
    }
}

/// Appends `2026-11-20T11:16:22.000123Z`. Source: RFC 3339.
pub fn write_rfc3339(unix_micros: u64, out: &mut Vec<u8>) {
    let Civil { year, month, day, hour, minute, second, micros } =
        Civil::from_unix_micros(unix_micros);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put_digits(&mut text[0..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..10], day);
    put_digits(&mut text[11..13], hour);
    put_digits(&mut text[14..16], minute);
    put_digits(&mut text[17..19], second);
    put_digits(&mut text[20..26], micros);
    out.extend_from_slice(&text);
}

/// Appends `20/Nov/2026:11:16:22 +0000`, the form of Apache's logs.
pub fn write_clf(unix_micros: u64, out: &mut Vec<u8>) {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let Civil { year, month, day, hour, minute, second, .. } = Civil::from_unix_micros(unix_micros);
    let name_at = (month as usize - 1) % 12 * 3;
    let mut text = *b"00/Jan/0000:00:00:00 +0000";
    put_digits(&mut text[0..2], day);
    text[3..6].copy_from_slice(&MONTHS[name_at..name_at + 3]);
    put_digits(&mut text[7..11], year);
    put_digits(&mut text[12..14], hour);
    put_digits(&mut text[15..17], minute);
    put_digits(&mut text[18..20], second);
    out.extend_from_slice(&text);
}

/// Writes the last digits of `number`, as many as there is room for. By hand: with `format!` the
/// time alone would cost more than all the rest of a log line.
fn put_digits(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Appends a number in decimal.
pub(crate) fn write_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writing to a `Vec` cannot fail.
pub(crate) fn write_to(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc3339(micros: u64) -> String {
        let mut out = Vec::new();
        write_rfc3339(micros, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn known_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(rfc3339(1_709_251_199_999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(rfc3339(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
        let mut out = Vec::new();
        write_clf(1_763_637_382_000_000, &mut out);
        assert_eq!(out, b"20/Nov/2025:11:16:22 +0000");
    }

    #[test]
    fn every_day_of_a_century_and_a_half_follows_the_one_before() {
        let mut last = Civil::from_unix_micros(0);
        for day in 1..55_000u64 {
            let now = Civil::from_unix_micros(day * 86_400_000_000);
            let next_day = now.day == last.day + 1 && now.month == last.month;
            let next_month = now.day == 1 && last.day >= 28 && now.month == last.month % 12 + 1;
            assert!(next_day || next_month, "{last:?} -> {now:?}");
            last = now;
        }
    }
}
