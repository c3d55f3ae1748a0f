//! The cores of this machine, and lists of them as Linux writes them: `0-7,16-23`.

use std::collections::BTreeSet;

use crate::base::limits::CORE_ID_MAX;

/// What is wrong with a list of cores, and what to do.
pub(super) type CoresError = (String, String);

/// The cores that are switched on.
pub(super) fn online_cores() -> BTreeSet<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_list(text.trim()).unwrap_or_else(|_| guess())
}

/// The cores that this process may use: those that are switched on, but for what taskset and
/// cgroups leave out.
pub(super) fn allowed_cores() -> BTreeSet<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = line.and_then(|list| parse_list(list.trim()).ok());
    let online = online_cores();
    let both: BTreeSet<usize> = match allowed {
        Some(allowed) => online.intersection(&allowed).copied().collect(),
        None => online,
    };
    if both.is_empty() { guess() } else { both }
}

/// Without /proc and /sys: as many as the library counts.
fn guess() -> BTreeSet<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// Parses a list: numbers and ranges, separated by commas.
///
/// # Errors
/// What is not a number or range, a range that runs backwards, a core that is named twice.
pub(super) fn parse_list(text: &str) -> Result<BTreeSet<usize>, CoresError> {
    let hint = || String::from("write \"all\" or a list such as \"0-3,8\"");
    let mut cores = BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (parse_core(first), parse_core(last)) else {
            let shown = if part.is_empty() { "an empty place" } else { part };
            return Err((format!("\"{text}\" is not a list of cores: {shown}"), hint()));
        };
        if first > last {
            let hint = format!("write \"{last}-{first}\"");
            return Err((format!("the range {part} runs backwards"), hint));
        }
        for core in first..=last {
            if !cores.insert(core) {
                return Err((format!("core {core} is named twice"), "name each core once".into()));
            }
        }
    }
    Ok(cores)
}

fn parse_core(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|core| digits && *core <= CORE_ID_MAX)
}

/// The shortest list of some cores.
pub(super) fn show_list(cores: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let show = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_linux_writes_them() {
        for text in ["0", "0-7,16-23", "3,5,7-9"] {
            assert_eq!(show_list(&parse_list(text).unwrap()), text);
        }
        assert_eq!(show_list(&parse_list("2, 0-1").unwrap()), "0-2");
        for text in ["", "0-", "-1", "a", "3-1", "0,0", "0-2,1", "0,,1", "0-1-2", "99999", "+1"] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_has_a_core() {
        assert!(allowed_cores().is_subset(&online_cores()));
        assert!(!allowed_cores().is_empty());
    }
}
