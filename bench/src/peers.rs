//! Which proxies can be compared, and how each is started with the configuration in `peers/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The proxies known by name, in the order of a table. The first is what ratios are about.
pub const NAMES: [&str; 7] =
    ["ringway", "nginx", "nginxb", "nginxt", "haproxy", "haproxyb", "envoy"];

/// What passes bytes on and does nothing else: not a peer, but what each of them has to pay.
const FLOOR: &str = "floor";
const FLOOR_WITH: &str = "floor:";

/// How to install what is missing.
pub const REMEDY: &str = "run scripts/bench-peers, or leave it out with --peers";

/// A program with a configuration.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: String,
    kind: Kind,
    binary: PathBuf,
    template: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ringway,
    Nginx,
    Haproxy,
    Envoy,
    Floor,
}

/// What is filled in between the @ of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Blanks<'a> {
    /// Where the proxy listens.
    pub port: u16,
    /// Where the origin listens.
    pub origin: u16,
    /// The core under test.
    pub core: usize,
    /// A directory of its own for temporary files.
    pub dir: &'a Path,
    /// Access logs on.
    pub logs: bool,
}

impl Peer {
    /// The peer with one of [`NAMES`]; `ringway` is the binary to use for that name.
    ///
    /// # Errors
    /// No such peer, or it is not installed; says what to do.
    pub fn named(name: &str, ringway: &Path) -> Result<Self, String> {
        if name == FLOOR || name.starts_with(FLOOR_WITH) {
            return Self::floor(name);
        }
        let (kind, binary, template) = match name {
            "ringway" => (Kind::Ringway, Some(ringway.to_owned()), "ringway.toml"),
            "nginx" => (Kind::Nginx, installed("nginx"), "nginx.conf"),
            "nginxb" => (Kind::Nginx, installed("nginx"), "nginxb.conf"),
            "nginxt" => (Kind::Nginx, installed("nginx"), "nginxt.conf"),
            "haproxy" => (Kind::Haproxy, installed("haproxy"), "haproxy.cfg"),
            "haproxyb" => (Kind::Haproxy, installed("haproxy"), "haproxyb.cfg"),
            "envoy" => (Kind::Envoy, envoy(), "envoy.yaml"),
            _ => return Err(format!("{name}: no such proxy; there are {}", NAMES.join(", "))),
        };
        let binary = binary.ok_or_else(|| format!("{name} is not installed; {REMEDY}"))?;
        if !binary.is_file() {
            let path = binary.display();
            return Err(format!("{path} is not there; cargo build --release, or --ringway PATH"));
        }
        let template = bench_dir().join("peers").join(template);
        Ok(Self { name: name.to_owned(), kind, binary, template })
    }

    /// The floor of `bench/floor`: `floor`, or with settings `floor:driver:epoll:buffers:16`.
    fn floor(name: &str) -> Result<Self, String> {
        let binary = bench_dir().join("floor/target/release/floor");
        if !binary.is_file() {
            return Err("floor is not built; cargo build --release --manifest-path \
                        bench/floor/Cargo.toml"
                .to_owned());
        }
        Ok(Self { name: name.to_owned(), kind: Kind::Floor, binary, template: PathBuf::new() })
    }

    /// Another ringway, from `NAME=BINARY` or `NAME=BINARY,CONFIG`: an older build, or other settings.
    ///
    /// # Errors
    /// It is not written like this, or a file is missing.
    pub fn other_ringway(text: &str) -> Result<Self, String> {
        let (name, files) = text
            .split_once('=')
            .ok_or_else(|| format!("--also {text}: expected NAME=BINARY or NAME=BINARY,CONFIG"))?;
        let (binary, config) = files.split_once(',').unwrap_or((files, ""));
        let mut peer = Self::named("ringway", Path::new(binary))?;
        peer.name = name.to_owned();
        if !config.is_empty() {
            peer.template = PathBuf::from(config);
        }
        Ok(peer)
    }

    /// The program it runs.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Whether the binary knows the sources of its code.
    pub fn has_sources(&self) -> bool {
        matches!(self.kind, Kind::Ringway | Kind::Floor)
    }

    /// Writes the configuration into `blanks.dir` and returns the command that runs in the foreground.
    ///
    /// # Errors
    /// The template cannot be read or the result not written.
    pub fn command(&self, blanks: &Blanks<'_>) -> Result<Command, String> {
        let mut command = Command::new(&self.binary);
        if self.kind == Kind::Floor {
            command.args(["--port", &blanks.port.to_string()]);
            command.args(["--origin", &blanks.origin.to_string()]);
            let mut words = self.name.split(':').skip(1);
            while let (Some(key), Some(value)) = (words.next(), words.next()) {
                command.arg(format!("--{key}")).arg(value);
            }
            return Ok(command);
        }
        let config = self.write_config(blanks)?;
        match self.kind {
            Kind::Ringway => command.arg("run").arg("-c").arg(config),
            Kind::Nginx => command.arg("-p").arg(blanks.dir).arg("-c").arg(config),
            Kind::Haproxy => command.arg("-db").arg("-f").arg(config),
            Kind::Envoy => command.arg("-c").arg(config).args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "error",
            ]),
            Kind::Floor => &mut command, // has no configuration: above
        };
        Ok(command)
    }

    /// The first line of what it says about its version.
    pub fn version(&self) -> String {
        let flag =
            if matches!(self.kind, Kind::Nginx | Kind::Haproxy) { "-v" } else { "--version" };
        let Ok(output) = Command::new(&self.binary).arg(flag).output() else {
            return "unknown".to_owned();
        };
        let said = [output.stdout, output.stderr].concat(); // nginx says it on stderr
        let text = String::from_utf8_lossy(&said);
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown");
        let path = self.binary.to_string_lossy(); // Envoy begins with it
        first.strip_prefix(path.as_ref()).unwrap_or(first).trim().to_owned()
    }

    fn write_config(&self, blanks: &Blanks<'_>) -> Result<PathBuf, String> {
        let template = &self.template;
        let text = std::fs::read_to_string(template)
            .map_err(|error| format!("{}: {error}", template.display()))?;
        let filled = text
            .replace("@port@", &blanks.port.to_string())
            .replace("@origin@", &blanks.origin.to_string())
            .replace("@core@", &blanks.core.to_string())
            .replace("@access_log@", &self.access_log(blanks))
            .replace("@dir@", &blanks.dir.to_string_lossy());
        let extension = template.extension().unwrap_or_default();
        let path = blanks.dir.join("config").with_extension(extension);
        // Apart, as logs are: ringway watches the directory of its configuration.
        let logs = blanks.dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        std::fs::write(&path, filled).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// What a template says for `@access_log@`.
    fn access_log(&self, blanks: &Blanks<'_>) -> String {
        let text = match (self.kind, blanks.logs) {
            (Kind::Floor, _) => "",
            (Kind::Ringway | Kind::Nginx, false) => "off",
            (Kind::Ringway, true) => "@dir@/logs/access.log",
            (Kind::Nginx, true) => "@dir@/logs/access.log combined buffer=64k flush=1s",
            (Kind::Haproxy, false) => "",
            (Kind::Haproxy, true) => "log stdout format raw local0\n    option httplog",
            (Kind::Envoy, false) => "[]",
            (Kind::Envoy, true) => {
                "[{ name: file, typed_config: { \"@type\": \
                 type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, \
                 path: @dir@/logs/access.log } }]"
            }
        };
        text.to_owned()
    }
}

/// The directory `bench/`.
pub fn bench_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Looks for a program where distributions put servers, too.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path);
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    places.chain(usual).map(|place| place.join(program)).find(|path| path.is_file())
}

/// The one that scripts/bench-peers put into the repository's `.tools`, or the system's.
fn envoy() -> Option<PathBuf> {
    let ours = bench_dir().parent()?.join(".tools/envoy/bin/envoy");
    if ours.is_file() { Some(ours) } else { installed("envoy") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_there_and_gets_filled() {
        for (name, file) in [
            ("ringway", "ringway.toml"),
            ("nginx", "nginx.conf"),
            ("nginxb", "nginxb.conf"),
            ("nginxt", "nginxt.conf"),
            ("haproxy", "haproxy.cfg"),
            ("haproxyb", "haproxyb.cfg"),
            ("envoy", "envoy.yaml"),
        ] {
            let text = std::fs::read_to_string(bench_dir().join("peers").join(file)).unwrap();
            for blank in ["@port@", "@origin@", "@access_log@"] {
                assert!(text.contains(blank), "{file} of {name} lacks {blank}");
            }
        }
    }

    #[test]
    fn mistakes_name_the_way_out() {
        assert!(Peer::named("apache", Path::new("x")).unwrap_err().contains("haproxyb"));
        let missing = Peer::named("ringway", Path::new("/nonexistent")).unwrap_err();
        assert!(missing.contains("cargo build --release"));
        assert!(Peer::other_ringway("old").unwrap_err().contains("NAME=BINARY"));
    }
}
