//! The defaults of a table that is not written: those of the same table, written and empty. So each
//! default stands in one place, its declaration.

use std::path::Path;

use super::{errors::Report, syntax, table::Table, text::Source};

/// Reads a text as a file without mistakes.
pub(super) fn with<T>(text: &str, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Option<T> {
    let report = Report::default();
    let source = Source::new(report.add_file("defaults"), Path::new(""), text);
    let tree = syntax::parse_repaired(&source);
    // What it reports (a name is missing) is of no interest: nobody wrote it.
    read(&Table::root(&source, &report, &tree))
}
