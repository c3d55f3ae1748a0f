//! Which files a configuration is made of, and their trees.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{Spanned, de::DeTable};

use super::{
    errors::{Place, Report},
    kept::{Cut, Kept},
    syntax,
    text::Source,
    tree::{Text, Texts},
};

/// The files of a configuration, in order, and repaired copies of those that are not TOML.
pub(super) struct Files {
    /// What was named: a file or a directory.
    name: Box<str>,
    sources: Vec<Source>,
    repaired: std::cell::OnceCell<Vec<Option<Source>>>,
}

impl Files {
    /// Reads a file, or the files of a directory.
    pub(super) fn read(path: &Path, report: &Report) -> Self {
        let name = path.display().to_string();
        let paths = if path.is_dir() { list(path, &name, report) } else { vec![path.to_owned()] };
        let read = |path: &PathBuf| Source::read(path, &path.display().to_string(), report);
        Self::of(&name, paths.iter().filter_map(read).collect())
    }

    /// Files that are already in memory.
    pub(super) fn of(name: &str, sources: Vec<Source>) -> Self {
        Self { name: name.into(), sources, repaired: std::cell::OnceCell::new() }
    }

    /// Files that were read before.
    pub(super) fn again(texts: &Texts, report: &Report) -> Self {
        let source =
            |text: &Text| Source::new(report.add_file(&text.name), &text.directory, &*text.text);
        let name = texts.0.first().map_or("", |text| &*text.name);
        Self::of(name, texts.0.iter().map(source).collect())
    }

    /// Whether a text stands in one of them.
    pub(super) fn contain(&self, text: &str) -> bool {
        self.sources.iter().any(|source| source.text.contains(text))
    }

    /// What was read.
    pub(super) fn into_texts(self, report: &Report) -> Texts {
        let text = |source: Source| Text {
            name: report.file_name(source.file),
            directory: source.directory,
            text: Arc::new(source.text),
        };
        Texts(self.sources.into_iter().map(text).collect())
    }

    /// Cuts each file by what was read before.
    pub(super) fn cut(&self, before: &Kept, report: &Report) -> Vec<Cut> {
        let cut = |source: &Source| Cut::new(&report.file_name(source.file), source, before);
        self.sources.iter().map(cut).collect()
    }

    /// Each file with its cut.
    pub(super) fn with<'a>(
        &'a self,
        cuts: &'a [Cut],
    ) -> impl Iterator<Item = (&'a Source, &'a Cut)> {
        self.sources.iter().zip(cuts)
    }

    /// The trees of what is left of each file, with the text that their places refer to; `None` if
    /// one is not TOML.
    pub(super) fn parse_rest<'a>(
        &'a self,
        cuts: &'a [Cut],
    ) -> Option<Vec<(&'a Source, Spanned<DeTable<'a>>)>> {
        let parse = |(source, cut): (&'a Source, &'a Cut)| {
            let rest = cut.rest(source);
            Some((rest, syntax::parse(&rest.text)?))
        };
        self.with(cuts).map(parse).collect()
    }

    /// The trees of all files, with the text that their places refer to.
    pub(super) fn parse(&self, report: &Report) -> Vec<(&Source, Spanned<DeTable<'_>>)> {
        let clean: Vec<_> = self.sources.iter().map(|source| syntax::parse(&source.text)).collect();
        let repaired = self.repaired.get_or_init(|| {
            let pairs = self.sources.iter().zip(&clean);
            pairs
                .map(|(source, tree)| tree.is_none().then(|| syntax::repair(source, report)))
                .collect()
        });
        let files = self.sources.iter().zip(clean).zip(repaired);
        files
            .filter_map(|((source, tree), repaired)| match (tree, repaired) {
                (Some(tree), _) => Some((source, tree)),
                (None, Some(repaired)) => Some((repaired, syntax::parse_repaired(repaired))),
                (None, None) => None,
            })
            .collect()
    }

    /// Where something stands that is missing from the configuration as a whole: the start of its
    /// only file, or the directory.
    pub(super) fn place(&self, report: &Report) -> Place {
        match &self.sources[..] {
            [source] => Place { file: source.file, line: 1, column: 1 },
            _ => Place { file: report.add_file(&self.name), line: 1, column: 1 },
        }
    }
}

/// The `*.toml` files of a directory, in bytewise order of their names.
fn list(directory: &Path, name: &str, report: &Report) -> Vec<PathBuf> {
    let fail = |message: String, hint: &str| {
        let place = Place { file: report.add_file(name), line: 1, column: 1 };
        report.error(place, "", message, hint);
        report.set_incomplete();
        Vec::new()
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            return fail(
                format!("can't be read: {error}"),
                "name a directory that ringway may read",
            );
        }
    };
    let is_config = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir()
    };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_config).collect();
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    if paths.is_empty() {
        return fail(
            "no *.toml file in this directory".into(),
            "put a file such as ringway.toml in it",
        );
    }
    paths
}
