//! Names that people mistype: the nearest known one, and what may be a name at all.

use crate::base::limits::NAME_BYTES_MAX;

/// Least length of a name that is taken for the beginning of another.
const PREFIX_BYTES_MIN: usize = 4;

/// The known name that was probably meant: nearly the same, in other case, with other dashes, or the
/// only one with the same beginning.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let written = plain(written);
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .copied()
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len().max(written.len()) / 3).clamp(1, 3))
        .filter(|(distance, name)| *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name);
    near.or_else(|| {
        // One that goes on where this one ends, or the other way round: `warning` for `warn`.
        let goes_on = |name: &str| {
            let name = plain(name);
            let begins = written.len() >= PREFIX_BYTES_MIN && name.starts_with(&*written);
            let ends = name.len() >= PREFIX_BYTES_MIN && name.len() * 2 >= written.len();
            begins || (ends && written.starts_with(&*name))
        };
        let mut longer = known.iter().copied().filter(|name| goes_on(name));
        longer.next().filter(|_| longer.next().is_none())
    })
}

/// The known name that this is but for one letter, which is missing, too much, wrong or misplaced.
pub(super) fn slip_of<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known.into_iter().find(|name| strsim::damerau_levenshtein(written, name) == 1)
}

/// `did you mean "x"?`, or other advice.
pub fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(written, known).map_or_else(otherwise, |name| format!("did you mean \"{name}\"?"))
}

/// `"a", "b", "c"`, cut after a dozen.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut out: Vec<String> = names.by_ref().take(12).map(|name| format!("\"{name}\"")).collect();
    match names.count() {
        0 => {}
        more => out.push(format!("{more} more")),
    }
    out.join(", ")
}

/// Why a text can't be the name of something, if it can't.
pub(super) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("an empty name")
    } else if name.len() > NAME_BYTES_MAX {
        Some("a name of more than 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("a name with control characters")
    } else if name.trim() != name {
        Some("a name that starts or ends with a space")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_case_and_dashes_find_the_name() {
        let known = ["path", "path_prefix", "path_regex", "upstream", "id"];
        assert_eq!(nearest("upsteam", known), Some("upstream"));
        assert_eq!(nearest("Path", known), Some("path"));
        assert_eq!(nearest("path-prefix", known), Some("path_prefix"));
        assert_eq!(nearest("pathregex", known), Some("path_regex"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("upstream_name", known), Some("upstream"));
        assert_eq!(nearest("path_rewrite", known), None, "too little of it is known");
        assert_eq!(nearest("warning", ["warn", "info"]), Some("warn"));
        assert_eq!(nearest("pat_", ["pat_one", "pat_two"]), None, "which one?");
    }

    #[test]
    fn names_fit_on_one_line() {
        assert_eq!(name_problem("user service / v2"), None);
        for name in ["", "a\nb", " a", &"x".repeat(256)] {
            assert!(name_problem(name).is_some());
        }
    }
}
