//! `${NAME}` and `${file:PATH}` inside strings. `$${` is a literal `${`.

use std::{borrow::Cow, path::Path};

/// Bytes of a file named in `${file:...}`: enough for any secret, too little to fill memory.
const FILE_BYTES_MAX: u64 = crate::base::limits::CONFIG_SECRET_BYTES_MAX;

/// What is wrong with an expression, and what to do.
pub(super) type InterpolateError = (String, String);

/// Whether a string holds an expression, so that its text must not be shown to people.
pub(super) fn is_interpolated(text: &str) -> bool {
    text.contains("${")
}

/// Replaces all expressions of a string. Relative paths start at `directory`.
///
/// # Errors
/// An expression that is not closed, has no name, or names what does not exist.
pub(super) fn interpolate<'a>(
    text: &'a str,
    directory: &Path,
) -> Result<Cow<'a, str>, InterpolateError> {
    if !is_interpolated(text) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let Some(length) = rest[start + 2..].find('}') else {
            return Err((
                format!("\"{}\" is not closed", &rest[start..]),
                "write \"${NAME}\"; for a literal \"${\" write \"$${\"".into(),
            ));
        };
        out.push_str(&expand(&rest[start + 2..start + 2 + length], directory)?);
        rest = &rest[start + 2 + length + 1..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn expand(expression: &str, directory: &Path) -> Result<String, InterpolateError> {
    if let Some(path) = expression.strip_prefix("file:") {
        return read_secret(path, directory);
    }
    let name_ok = !expression.is_empty()
        && !expression.starts_with(|c: char| c.is_ascii_digit())
        && expression.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !name_ok {
        return Err((
            format!("\"${{{expression}}}\" names no environment variable"),
            "write \"${NAME}\" or \"${file:/path}\"; for a literal \"${\" write \"$${\"".into(),
        ));
    }
    match std::env::var(expression) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Err((
            format!("the environment variable {expression} is not set"),
            format!("set it: {expression}=... ringway run"),
        )),
        Err(std::env::VarError::NotUnicode(_)) => Err((
            format!("the environment variable {expression} is not UTF-8"),
            "set it to text in UTF-8".into(),
        )),
    }
}

/// The content of a file without its last line end.
fn read_secret(path: &str, directory: &Path) -> Result<String, InterpolateError> {
    if path.is_empty() {
        return Err(("\"${file:}\" names no file".into(), "write \"${file:/path}\"".into()));
    }
    let unreadable = |error: std::io::Error| {
        (
            format!("{path}: can't be read: {error}"),
            "name a file that is there and that ringway may read".to_owned(),
        )
    };
    let full = directory.join(path);
    let metadata = std::fs::metadata(&full).map_err(unreadable)?;
    if metadata.len() > FILE_BYTES_MAX {
        let message = format!("{path}: is larger than {FILE_BYTES_MAX} bytes");
        return Err((message, "name a file with just the value".into()));
    }
    let mut text = std::fs::read_to_string(&full).map_err(unreadable)?;
    let kept = text
        .strip_suffix('\n')
        .map_or(text.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    text.truncate(kept);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, InterpolateError> {
        interpolate(text, Path::new("/nonexistent")).map(Cow::into_owned)
    }

    #[test]
    fn variables_and_files_are_put_in_place() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "s3cret\n").unwrap();
        let path = std::env::var("PATH").unwrap();
        assert_eq!(run("a${PATH}b").unwrap(), format!("a{path}b"));
        assert_eq!(interpolate("<${file:token}>", directory.path()).unwrap(), "<s3cret>");
    }

    #[test]
    fn dollars_that_mean_dollars() {
        assert_eq!(run("^/a$").unwrap(), "^/a$");
        assert_eq!(run("$${X}").unwrap(), "${X}");
        assert_eq!(run("$5 {x}").unwrap(), "$5 {x}");
    }

    #[test]
    fn what_does_not_exist_is_named() {
        assert!(run("${RINGWAY_NO_SUCH}").unwrap_err().0.contains("RINGWAY_NO_SUCH"));
        assert!(run("${file:/no/such}").unwrap_err().0.contains("/no/such"));
        for text in ["${", "a${b", "${}", "${a-b}", "${file:}", "${1A}"] {
            assert!(run(text).is_err(), "{text}");
        }
    }
}
