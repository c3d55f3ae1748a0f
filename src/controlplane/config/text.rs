//! The text of one configuration file, and what place an offset into it is.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use super::errors::{Place, Report};
use crate::base::limits::{CONFIG_FILE_BYTES_MAX, CONFIG_TEXT_LARGE_BYTES, CONFIG_TEXT_ROOM_BYTES};

/// One file: its text without a byte order mark, and where its lines start.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Index into the files of the report.
    pub(super) file: u32,
    /// Where relative paths of `${file:...}` start.
    pub(super) directory: PathBuf,
    /// What is parsed; where it was repaired, the same but for the repair.
    pub(super) text: String,
    line_starts: Vec<u32>,
    /// Offsets of single bytes that a repair put in; they do not count as columns.
    inserted: Vec<usize>,
}

impl Source {
    /// Wraps a text.
    pub(super) fn new(file: u32, directory: &Path, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        Self {
            file,
            directory: directory.to_owned(),
            line_starts: line_starts(&text),
            text,
            inserted: Vec::new(),
        }
    }

    /// Reads a file; says why it can't.
    pub(super) fn read(path: &Path, name: &str, report: &Report) -> Option<Self> {
        let file = report.add_file(name);
        let start = Place { file, line: 1, column: 1 };
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(message) => {
                report.error(
                    start,
                    "",
                    message,
                    "name a file that is there and that ringway may read",
                );
                report.set_incomplete();
                return None;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => Some(Self::new(file, path.parent().unwrap_or(Path::new("")), text)),
            Err(error) => {
                let (bytes, error) = (error.as_bytes(), error.utf8_error());
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let before = Self::new(file, Path::new(""), good);
                report.error(
                    before.place(before.text.len()),
                    "",
                    format!(
                        "byte {:#04x} at offset {} is not UTF-8",
                        bytes[error.valid_up_to()],
                        error.valid_up_to()
                    ),
                    "save the file as UTF-8",
                );
                report.set_incomplete();
                None
            }
        }
    }

    /// Line and column of a byte offset.
    pub(super) fn place(&self, offset: usize) -> Place {
        let offset = self.floor(offset);
        let line = self.line_starts.partition_point(|&start| start as usize <= offset) - 1;
        let start = self.line_starts[line] as usize;
        let inserted = self.inserted.iter().filter(|at| (start..offset).contains(at)).count();
        let column = self.text[start..offset].chars().count() - inserted + 1;
        Place { file: self.file, line: line as u32 + 1, column: column as u32 }
    }

    /// The offsets of the line that an offset is on, without its line end.
    pub(super) fn line_range(&self, offset: usize) -> std::ops::Range<usize> {
        let offset = self.floor(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at);
        start..start + self.text[start..end.max(start)].trim_end_matches('\r').len()
    }

    /// The last line of the table that starts at an offset: the one before the next header.
    pub(super) fn last_line_of_table(&self, header: usize) -> u32 {
        let first = self.place(header).line;
        let mut last = first;
        for line in self.text[self.line_range(header).end..].split('\n').skip(1) {
            if line.trim_start().starts_with('[') {
                break;
            }
            last += 1;
        }
        last
    }

    /// Replaces a range by spaces, so that all other places stay.
    pub(super) fn blank(&mut self, range: std::ops::Range<usize>) {
        let spaces = " ".repeat(range.len());
        self.text.replace_range(range, &spaces);
    }

    /// Puts a missing character in.
    pub(super) fn insert(&mut self, offset: usize, missing: char) {
        let offset = self.floor(offset);
        self.text.insert(offset, missing);
        for at in &mut self.inserted {
            *at += usize::from(*at >= offset);
        }
        self.inserted.push(offset);
        self.line_starts = line_starts(&self.text);
    }

    /// The nearest character boundary at or before an offset.
    fn floor(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }
}

fn line_starts(text: &str) -> Vec<u32> {
    let ends = || memchr::memchr_iter(b'\n', text.as_bytes());
    let mut starts = Vec::with_capacity(1 + ends().count());
    starts.extend(std::iter::once(0).chain(ends().map(|end| end as u32 + 1)));
    starts
}

/// How many bytes to reserve for a text of so many.
pub(super) fn room_for(bytes: usize) -> usize {
    match bytes {
        CONFIG_TEXT_LARGE_BYTES.. => bytes.max(CONFIG_TEXT_ROOM_BYTES),
        _ => bytes,
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("can't be read: {error}"))?;
    if metadata.is_file() && metadata.len() > CONFIG_FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB", CONFIG_FILE_BYTES_MAX >> 20));
    }
    let mut bytes = Vec::with_capacity(room_for(metadata.len() as usize + 1));
    let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|error| format!("can't be read: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(0, Path::new(""), text)
    }

    fn at(source: &Source, offset: usize) -> (u32, u32) {
        let place = source.place(offset);
        (place.line, place.column)
    }

    #[test]
    fn columns_count_characters_and_survive_crlf_and_a_byte_order_mark() {
        let plain = source("a = 1\nü = 22\n");
        assert_eq!(at(&plain, 0), (1, 1));
        assert_eq!(at(&plain, "a = 1\nü = ".len()), (2, 5));
        assert_eq!(at(&plain, plain.text.len()), (3, 1));
        let windows = source("\u{feff}a = 1\r\n\tb = 2\r\n");
        assert_eq!(at(&windows, 4), (1, 5));
        assert_eq!(at(&windows, "a = 1\r\n\t".len()), (2, 2));
        assert_eq!(windows.line_range(9), 7..13);
    }

    #[test]
    fn repairs_move_no_place() {
        let mut broken = source("[[a]\nb = 1\n[c\nd = 2");
        broken.insert(4, ']');
        assert_eq!(broken.text, "[[a]]\nb = 1\n[c\nd = 2");
        assert_eq!(at(&broken, broken.text.find("d =").unwrap()), (4, 1));
        assert_eq!(at(&broken, 5), (1, 5));
        assert_eq!(broken.last_line_of_table(0), 2);
        assert_eq!(broken.last_line_of_table(12), 4);
    }

    #[test]
    fn bytes_that_are_not_utf8_have_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
        let report = Report::default();
        assert!(Source::read(&path, "x.toml", &report).is_none());
        let (problems, _) = report.finish();
        assert_eq!(
            problems[0].to_string(),
            "x.toml:2:6: byte 0xff at offset 11 is not UTF-8; save the file as UTF-8"
        );
    }
}
