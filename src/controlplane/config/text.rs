//! The text of one configuration file, and what place an offset into it is.

use std::{
    cell::OnceCell,
    io::Read,
    path::{Path, PathBuf},
};

use super::errors::{Place, Report};
use crate::base::{
    limits::{CONFIG_FILE_BYTES_MAX, CONFIG_TEXT_LARGE_BYTES, CONFIG_TEXT_ROOM_BYTES},
    pace,
};

/// Of how many bytes lines are counted at once: as many as are looked through for one place.
const BLOCK_BYTES: usize = 4096;

/// How much of a file is read at once; some 20 us.
const PIECE_BYTES: u64 = 64 * 1024;

/// One file: its text without a byte order mark, and what place an offset is.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Index into the files of the report.
    pub(super) file: u32,
    /// Where relative paths of `${file:...}` start.
    pub(super) directory: PathBuf,
    /// What is parsed; where it was repaired, the same but for the repair.
    pub(super) text: String,
    /// How many lines end before each block of [`BLOCK_BYTES`]; found out when a place is asked for.
    lines_before: OnceCell<Vec<u32>>,
    /// Offsets of single bytes that a repair put in; they do not count as columns.
    inserted: Vec<usize>,
    /// Where lines of the file were left out, ascending.
    gaps: Vec<Gap>,
}

/// Lines of a file that its text lacks.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Offset in the text of what stands behind them.
    at: usize,
    /// The same in the file.
    in_file: usize,
    /// How many lines are left out up to here.
    lines: u32,
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
            lines_before: OnceCell::new(),
            text,
            inserted: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// The same file, none of its text in it yet.
    pub(super) fn without_text(&self) -> Self {
        Self::new(self.file, &self.directory, "")
    }

    /// Adds what stands in the whole file from where this one ends up to `to`, and leaves out what
    /// stands up to `next`: what is left out ends where a line does.
    pub(super) fn add_and_skip(&mut self, whole: &Self, to: usize, next: usize) {
        let (from, lines) = match self.gaps.last() {
            Some(gap) => (gap.in_file + self.text.len() - gap.at, gap.lines),
            None => (self.text.len(), 0),
        };
        self.text.push_str(&whole.text[from..to]);
        let lines = lines + line_ends(&whole.text.as_bytes()[to..next]);
        self.gaps.push(Gap { at: self.text.len(), in_file: next, lines });
    }

    /// The offset in the file of one in the text.
    pub(super) fn in_file(&self, offset: usize) -> usize {
        self.gap_before(offset).map_or(offset, |gap| gap.in_file + offset - gap.at)
    }

    fn gap_before(&self, offset: usize) -> Option<&Gap> {
        let behind = self.gaps.partition_point(|gap| gap.at <= offset);
        behind.checked_sub(1).map(|index| &self.gaps[index])
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
        let before = self.lines_before.get_or_init(|| lines_before(&self.text));
        let block = offset / BLOCK_BYTES;
        let ends = line_ends(&self.text.as_bytes()[block * BLOCK_BYTES..offset]);
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let inserted = self.inserted.iter().filter(|at| (start..offset).contains(at)).count();
        let column = self.text[start..offset].chars().count() - inserted + 1;
        let left_out = self.gap_before(offset).map_or(0, |gap| gap.lines);
        let line = before[block] + ends + left_out + 1;
        Place { file: self.file, line, column: column as u32 }
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
        self.lines_before = OnceCell::new();
    }

    /// The nearest character boundary at or before an offset.
    fn floor(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }
}

/// One more than there are whole blocks: an offset may be that of the end.
fn lines_before(text: &str) -> Vec<u32> {
    let mut lines = 0;
    let mut before = Vec::with_capacity(text.len() / BLOCK_BYTES + 2);
    before.push(0);
    before.extend(text.as_bytes().chunks(BLOCK_BYTES).map(|block| {
        lines += line_ends(block);
        lines
    }));
    before
}

fn line_ends(bytes: &[u8]) -> u32 {
    memchr::memchr_iter(b'\n', bytes).count() as u32
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
    let read = |bytes: &mut Vec<u8>| {
        let mut file = std::fs::File::open(path)?;
        while file.by_ref().take(PIECE_BYTES).read_to_end(bytes)? > 0 {
            pace::long_step();
        }
        Ok(())
    };
    read(&mut bytes).map_err(|error: std::io::Error| format!("can't be read: {error}"))?;
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
    fn lines_are_counted_over_many_blocks() {
        let text = "x = 1\n".repeat(3 * BLOCK_BYTES / 6 + 1);
        let long = source(&text);
        for line in [0, 1, BLOCK_BYTES / 6, BLOCK_BYTES / 6 + 1, 3 * BLOCK_BYTES / 6] {
            assert_eq!(at(&long, line * 6 + 4), (line as u32 + 1, 5));
        }
        let exact = source(&"\n".repeat(BLOCK_BYTES));
        assert_eq!(at(&exact, BLOCK_BYTES), (BLOCK_BYTES as u32 + 1, 1));
    }

    #[test]
    fn what_is_left_out_moves_no_place() {
        let whole = source("a = 1\n[[b]]\nc = 2\nd = 3\n[[e]]\nf = 4\n[[g]]\n");
        let mut rest = whole.without_text();
        let find = |text: &str| whole.text.find(text).unwrap();
        rest.add_and_skip(&whole, find("\nc"), find("\n[[e"));
        rest.add_and_skip(&whole, find("\nf"), find("\n[[g"));
        rest.add_and_skip(&whole, whole.text.len(), whole.text.len());
        assert_eq!(rest.text, "a = 1\n[[b]]\n[[e]]\n[[g]]\n");
        for text in ["1", "[[b", "[[e", "[[g"] {
            let (offset, in_file) = (rest.text.find(text).unwrap(), find(text));
            assert_eq!(rest.in_file(offset), in_file);
            assert_eq!(rest.place(offset), whole.place(in_file), "{text}");
        }
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
