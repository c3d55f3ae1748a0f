//! What is wrong with a configuration: a list of [`Problem`]s, each with its place and a remedy.
//!
//! The form of a line (`file:line:column: key: message; hint`) and the fields of the JSON form are
//! an interface: editors and scripts parse them. Tests: below and `tests/config_errors.rs`.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt,
};

use serde::Serialize;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, but probably not as meant.
    Warning,
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named on the command line, or the path below the directory named there.
    pub file: Box<str>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// The dotted TOML path (`listener.limits.idle_timeout`); empty for the file as a whole.
    pub key: Box<str>,
    /// What is wrong, in one line.
    pub message: Box<str>,
    /// What to do, in one line.
    pub hint: Box<str>,
    /// Error or warning.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    /// `file:line:column: key: message; hint`, a warning with that word before its message; `{:#}` leaves it out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if self.severity == Severity::Warning && !f.alternate() {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// Why a configuration was refused: all its problems (warnings too), by file, line and column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl ConfigErrors {
    /// How many of the problems are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|problem| problem.severity == severity).count()
    }

    /// The JSON of `ringway check --json`: an array with one object per problem.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_else(|_| String::from("[]"))
    }
}

impl fmt::Display for ConfigErrors {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Where in the configuration something stands. Small, because every route keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Index into the list of files.
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

/// Collects problems while a configuration is read; reading always goes on.
#[derive(Debug, Default)]
pub(super) struct Report {
    files: RefCell<Vec<Box<str>>>,
    problems: RefCell<Vec<(Place, Problem)>>,
    errors: Cell<usize>,
    /// Lines that are not TOML: what else seems wrong there is a consequence.
    broken_lines: RefCell<HashSet<(u32, u32)>>,
    /// Whether parts of the text could not be read at all, so that names may be missing.
    incomplete: RefCell<bool>,
}

impl Report {
    /// Makes a file known and returns its index.
    pub(super) fn add_file(&self, name: &str) -> u32 {
        let mut files = self.files.borrow_mut();
        files.push(name.into());
        (files.len() - 1) as u32
    }

    /// The name of a file.
    pub(super) fn file_name(&self, file: u32) -> Box<str> {
        self.files.borrow()[file as usize].clone()
    }

    /// `file:line` of a place, for messages that point to another one.
    pub(super) fn describe(&self, place: Place) -> String {
        format!("{}:{}", self.files.borrow()[place.file as usize], place.line)
    }

    /// Adds something that must be corrected.
    pub(super) fn error(
        &self,
        place: Place,
        key: &str,
        message: impl Into<Box<str>>,
        hint: impl Into<Box<str>>,
    ) {
        if !self.is_broken(place) {
            self.push(place, key, message.into(), hint.into(), Severity::Error);
        }
    }

    /// Adds something that should be looked at.
    pub(super) fn warning(
        &self,
        place: Place,
        key: &str,
        message: impl Into<Box<str>>,
        hint: impl Into<Box<str>>,
    ) {
        if !self.is_broken(place) {
            self.push(place, key, message.into(), hint.into(), Severity::Warning);
        }
    }

    /// Adds a violation of TOML itself. One a line: a second is a consequence of the first.
    pub(super) fn syntax_error(&self, place: Place, key: &str, message: String, hint: String) {
        if self.broken_lines.borrow_mut().insert((place.file, place.line)) {
            self.push(place, key, message.into(), hint.into(), Severity::Error);
        }
    }

    /// Notes that a part of the configuration could not be read.
    pub(super) fn set_incomplete(&self) {
        *self.incomplete.borrow_mut() = true;
    }

    /// Whether names may be missing because a part could not be read.
    pub(super) fn is_incomplete(&self) -> bool {
        *self.incomplete.borrow()
    }

    /// Whether any line is not TOML.
    pub(super) fn has_broken_lines(&self) -> bool {
        !self.broken_lines.borrow().is_empty()
    }

    /// Whether a line between two of a file is not TOML.
    pub(super) fn is_broken_between(&self, file: u32, first: u32, last: u32) -> bool {
        let broken = self.broken_lines.borrow();
        broken.iter().any(|&(f, line)| f == file && (first..=last).contains(&line))
    }

    /// Whether there is an error so far.
    pub(super) fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    /// How many errors there are so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.get()
    }

    /// How many problems there are so far, warnings among them.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Begins anew, with the first `files` files known.
    pub(super) fn begin_again(&self, files: usize) {
        self.files.borrow_mut().truncate(files);
        self.problems.borrow_mut().clear();
        self.broken_lines.borrow_mut().clear();
        self.errors.set(0);
        *self.incomplete.borrow_mut() = false;
    }

    /// How many files are known.
    pub(super) fn file_count(&self) -> usize {
        self.files.borrow().len()
    }

    /// All problems by file, line and column, and the names of the files.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Box<str>>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(place, _)| *place);
        problems.dedup();
        (problems.into_iter().map(|(_, problem)| problem).collect(), self.files.into_inner())
    }

    fn is_broken(&self, place: Place) -> bool {
        self.broken_lines.borrow().contains(&(place.file, place.line))
    }

    fn push(&self, place: Place, key: &str, message: Box<str>, hint: Box<str>, severity: Severity) {
        if severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        let problem = Problem {
            file: self.files.borrow()[place.file as usize].clone(),
            line: place.line,
            column: place.column,
            key: key.into(),
            message,
            hint,
            severity,
        };
        self.problems.borrow_mut().push((place, problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_out_in_order_and_in_the_promised_form() {
        let report = Report::default();
        let file = report.add_file("a.toml");
        let at = |line, column| Place { file, line, column };
        report.warning(at(9, 2), "route", "never used", "");
        report.error(at(3, 7), "route.path", "bad", "try this");
        report.syntax_error(at(5, 1), "", "not TOML".into(), "write it".into());
        report.error(at(5, 4), "route.id", "a consequence", "");
        let (problems, _) = report.finish();
        let errors = ConfigErrors(problems);
        assert_eq!(
            errors.to_string(),
            "a.toml:3:7: route.path: bad; try this\n\
             a.toml:5:1: not TOML; write it\n\
             a.toml:9:2: route: warning: never used\n"
        );
        assert_eq!((errors.count(Severity::Error), errors.count(Severity::Warning)), (2, 1));
        let json: serde_json::Value = serde_json::from_str(&errors.to_json()).unwrap();
        assert_eq!(json[2]["severity"], "warning");
        assert_eq!(json[0]["column"], 7);
    }
}
