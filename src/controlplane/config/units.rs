//! Values with units: `"1m30s"`, `"64KiB"`, `"10%"`. Text in, number out; messages for people.
//!
//! Generous where it is unambiguous (several units, fractions), strict where it is not: a number
//! without a unit is refused, and so is `k`, which some read as 1000 and some as 1024.

use std::time::Duration;

/// What is wrong with a value, and what to write instead.
pub(in crate::controlplane) type UnitError = (String, String);

const DURATION_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Parses a duration: one or more numbers with a unit each, largest unit first or not:
/// `"250ms"`, `"1m30s"`, `"0.5s"`. Units: `ns`, `us`, `ms`, `s`, `m`, `h`, `d`.
pub(in crate::controlplane) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let hint = || String::from("write a number and a unit: \"250ms\", \"5s\", \"1m30s\", \"1h\"");
    if text.is_empty() {
        return Err(("an empty duration".into(), hint()));
    }
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit);
        (number, unit, rest) = split_unit(rest);
        let Some(&(_, nanos)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(duration_unit_error(text, number, unit));
        };
        let Some(part) = scale(number, nanos) else {
            return Err((format!("\"{text}\" is not a duration"), hint()));
        };
        total = total
            .checked_add(part)
            .ok_or_else(|| (format!("\"{text}\" is too long"), "write a shorter one".into()))?;
    }
    Ok(Duration::from_nanos(total))
}

fn duration_unit_error(text: &str, number: &str, unit: &str) -> UnitError {
    if text.starts_with('-') {
        return (format!("\"{text}\" is negative"), "durations start at \"0s\"".into());
    }
    if number.is_empty() || scale(number, 1).is_none() && !number.contains('.') {
        return (
            format!("\"{text}\" is not a duration"),
            "write it like \"250ms\" or \"5s\"".into(),
        );
    }
    if unit.is_empty() {
        return (
            format!("\"{text}\" has no unit"),
            format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"),
        );
    }
    let known = match unit.trim().to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        "us" | "µs" | "usec" | "microseconds" => Some("us"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "d" | "day" | "days" => Some("d"),
        _ => None,
    };
    let hint = match known {
        Some(known) => format!("write \"{number}{known}\""),
        None => "units are \"ns\", \"us\", \"ms\", \"s\", \"m\", \"h\", \"d\"".into(),
    };
    if unit.starts_with(' ') {
        return (format!("\"{text}\" has a space in it"), hint);
    }
    (format!("\"{text}\": unknown unit \"{unit}\""), hint)
}

/// Parses a size in bytes: `"512B"`, `"64KiB"` (1024), `"64KB"` (1000), `"1.5MiB"`.
pub(super) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let hint = || String::from("write a number and a unit: \"512B\", \"64KiB\", \"10MiB\"");
    let (number, unit, rest) = split_unit(text);
    if text.starts_with('-') {
        return Err((format!("\"{text}\" is negative"), "sizes start at \"0B\"".into()));
    }
    if number.is_empty() || !rest.is_empty() {
        return Err((format!("\"{text}\" is not a size"), hint()));
    }
    let Some(&(_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        if unit.is_empty() {
            let hint = format!("write \"{number}B\" for bytes or \"{number}KiB\" for kibibytes");
            return Err((format!("\"{text}\" has no unit"), hint));
        }
        let hint = match unit.trim().to_ascii_lowercase().as_str() {
            "k" => format!("write \"{number}KiB\" (1024 bytes) or \"{number}KB\" (1000 bytes)"),
            "kib" | "kb" => format!("write \"{number}KiB\""),
            "m" => format!("write \"{number}MiB\" or \"{number}MB\""),
            "mib" | "mb" => format!("write \"{number}MiB\""),
            "g" => format!("write \"{number}GiB\" or \"{number}GB\""),
            "gib" | "gb" => format!("write \"{number}GiB\""),
            "b" | "byte" | "bytes" => format!("write \"{number}B\""),
            _ => "units are \"B\", \"KiB\", \"MiB\", \"GiB\", \"KB\", \"MB\", \"GB\"".into(),
        };
        if unit.starts_with(' ') {
            return Err((format!("\"{text}\" has a space in it"), hint));
        }
        return Err((format!("\"{text}\": unknown unit \"{unit}\""), hint));
    };
    scale(number, bytes).ok_or_else(|| (format!("\"{text}\" is not a size"), hint()))
}

/// Parses a share into parts of 10,000: `"10%"`, `"0.5%"`, `"100%"`. Finer than 0.01 % is refused.
pub(super) fn parse_share(text: &str) -> Result<u16, UnitError> {
    let hint = || String::from("write a percentage from \"0%\" to \"100%\", such as \"10%\"");
    let Some(number) = text.strip_suffix('%') else {
        return Err((format!("\"{text}\" is not a percentage"), hint()));
    };
    match scale(number, 100) {
        Some(share @ 0..=10_000) => Ok(share as u16),
        Some(_) => Err((format!("\"{text}\" is more than everything"), hint())),
        None => Err((format!("\"{text}\" is not a percentage in steps of 0.01%"), hint())),
    }
}

/// A duration in the form the documentation uses: the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, size) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, size)| nanos >= u128::from(*size) && nanos.is_multiple_of(u128::from(*size)))
        .unwrap_or(&("s", 1_000_000_000));
    format!("{}{unit}", nanos / u128::from(*size))
}

/// A size in the form the documentation uses.
pub(super) fn show_size(bytes: u64) -> String {
    let binary = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1u64 << 10)];
    match binary.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

/// Splits `12.5ms3s` into `12.5`, `ms` and `3s`.
fn split_unit(text: &str) -> (&str, &str, &str) {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let number = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let unit = text[number..].find(is_number).map_or(text.len(), |length| number + length);
    (&text[..number], &text[number..unit], &text[unit..])
}

/// A decimal number times a whole one, exactly; `None` if it is not a number, has a rest or
/// overflows.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !whole.is_empty() && !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !(fraction.is_empty() || digits(fraction)) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let unit = 10u128.pow(fraction.len() as u32);
    let part = fraction.parse::<u128>().ok()? * u128::from(factor);
    part.is_multiple_of(unit).then_some(())?;
    whole.checked_add(u64::try_from(part / unit).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_with_one_unit_several_and_fractions() {
        let millis = |text| parse_duration(text).unwrap().as_millis();
        assert_eq!(millis("5s"), 5_000);
        assert_eq!(millis("250ms"), 250);
        assert_eq!(millis("1m30s"), 90_000);
        assert_eq!(millis("1h"), 3_600_000);
        assert_eq!(millis("0.5s"), 500);
        assert_eq!(millis("1.5h"), 5_400_000);
        assert_eq!(millis("0s"), 0);
        assert_eq!(parse_duration("500us").unwrap().as_micros(), 500);
    }

    #[test]
    fn durations_that_nobody_can_be_sure_of_are_refused() {
        for text in
            ["", "5", "s", "5 s", "5S", "5sec", "-5s", "5s5", "1,5s", "5..5s", ".5s", "1e3s"]
        {
            let (message, hint) = parse_duration(text).unwrap_err();
            assert!(!message.is_empty() && !hint.is_empty(), "{text}");
        }
        assert!(parse_duration("5").unwrap_err().1.contains("\"5s\""));
        assert!(parse_duration("5 parsecs").unwrap_err().0.contains("space"));
        assert!(parse_duration("99999999999999d").is_err());
    }

    #[test]
    fn sizes_in_powers_of_1024_and_of_1000() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("64KB"), Ok(64_000));
        assert_eq!(parse_size("1.5MiB"), Ok(1_572_864));
        assert_eq!(parse_size("0B"), Ok(0));
        for text in ["", "64", "64K", "64kib", "-1B", "0.3B", "64 KiB", "KiB", "1KiB1B", "1e3B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_in_steps_of_a_hundredth_percent() {
        assert_eq!(parse_share("10%"), Ok(1_000));
        assert_eq!(parse_share("0.01%"), Ok(1));
        assert_eq!(parse_share("100%"), Ok(10_000));
        for text in ["10", "101%", "-1%", "0.001%", "%", "ten%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_parses_to_the_same() {
        for text in ["1ms", "90s", "1h", "24h"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&show_duration(duration)).unwrap(), duration);
        }
        for bytes in [0, 1, 1024, 49_152, 1_000_000] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
    }
}
