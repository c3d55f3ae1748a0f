//! Command lines without a library: `--name value`, `--flag`, and nothing left over.

use std::collections::VecDeque;
use std::fmt::Display;
use std::str::FromStr;

/// The arguments not yet asked for.
#[derive(Debug)]
pub struct Args {
    left: VecDeque<String>,
}

impl Args {
    /// The arguments of this process, without its name.
    pub fn from_env() -> Self {
        Self { left: std::env::args().skip(1).collect() }
    }

    /// The first word; takes it out.
    pub fn word(&mut self) -> Option<String> {
        self.left.pop_front()
    }

    /// Whether `--name` is there; takes it out.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.left.iter().position(|word| word == name);
        found.map(|index| self.left.remove(index)).is_some()
    }

    /// The word after `--name`; takes both out.
    ///
    /// # Errors
    /// `--name` is the last word.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(index) = self.left.iter().position(|word| word == name) else { return Ok(None) };
        self.left.remove(index);
        self.left.remove(index).map(Some).ok_or_else(|| format!("{name} needs a value"))
    }

    /// The words after each `--name`, in order.
    ///
    /// # Errors
    /// One of them is the last word.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        while let Some(text) = self.text(name)? {
            all.push(text);
        }
        Ok(all)
    }

    /// The value after `--name`, or `default`.
    ///
    /// # Errors
    /// The value is missing or does not parse.
    pub fn value<T>(&mut self, name: &str, default: T) -> Result<T, String>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|error| format!("{name} {text}: {error}")),
        }
    }

    /// Ends the parsing.
    ///
    /// # Errors
    /// Words that nobody asked for.
    pub fn finish(self) -> Result<(), String> {
        match self.left.front() {
            None => Ok(()),
            Some(word) => Err(format!("{word}: not an option here; try --help")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args { left: line.split_whitespace().map(str::to_owned).collect() }
    }

    #[test]
    fn takes_what_it_is_asked_for_and_refuses_the_rest() {
        let mut args = args("--smoke --cycles 3 --also a --also b --what");
        assert!(args.flag("--smoke"));
        assert_eq!(args.value("--cycles", 20), Ok(3));
        assert_eq!(args.value("--slice-ms", 100), Ok(100));
        assert_eq!(args.texts("--also"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(args.finish().unwrap_err().contains("--what"));
    }

    #[test]
    fn a_missing_value_is_named() {
        assert_eq!(args("--json").text("--json"), Err("--json needs a value".to_owned()));
        assert!(args("--cycles x").value("--cycles", 1).unwrap_err().starts_with("--cycles x"));
    }
}
