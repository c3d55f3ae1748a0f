//! Names that people mistype: the nearest known one, and what may be a name at all.

use crate::base::limits::NAME_BYTES_MAX;

/// The known name that was probably meant: nearly the same, in other case, or with other dashes.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let written = plain(written);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len().max(written.len()) / 3).clamp(1, 3))
        .filter(|(distance, name)| *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
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
    }

    #[test]
    fn names_fit_on_one_line() {
        assert_eq!(name_problem("user service / v2"), None);
        for name in ["", "a\nb", " a", &"x".repeat(256)] {
            assert!(name_problem(name).is_some());
        }
    }
}
