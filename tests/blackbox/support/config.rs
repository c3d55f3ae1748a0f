//! Configurations as text with holes: `{listen}`, `{listen2}` and `{admin}` are filled with addresses
//! whose ports the kernel chose, when [`super::Ringway`] starts.

use std::net::SocketAddr;

/// A configuration with one listener (`edge`), one route (`all`) and one upstream (`origin`), that
/// tests extend line by line.
#[derive(Clone, Debug)]
pub(crate) struct Conf {
    runtime: Vec<String>,
    listener: Vec<String>,
    limits: Vec<String>,
    route: Vec<String>,
    upstream: Vec<String>,
    timeouts: Vec<String>,
    pool: Vec<String>,
    more: Vec<String>,
}

impl Conf {
    /// Everything goes to one endpoint.
    pub(crate) fn to(endpoint: SocketAddr) -> Self {
        Conf::to_all(&[endpoint])
    }

    /// Everything goes to these endpoints, in turn.
    pub(crate) fn to_all(endpoints: &[SocketAddr]) -> Self {
        let urls: Vec<String> =
            endpoints.iter().map(|to| format!("{{ url = \"http://{to}\" }}")).collect();
        Conf {
            runtime: Vec::new(),
            listener: Vec::new(),
            limits: Vec::new(),
            route: Vec::new(),
            upstream: vec![format!("endpoints = [{}]", urls.join(", "))],
            timeouts: Vec::new(),
            pool: Vec::new(),
            more: Vec::new(),
        }
    }

    /// One worker, not bound to a CPU: what one core does in which order is then certain, and tests
    /// that run side by side share the machine.
    pub(crate) fn one_core(self) -> Self {
        self.runtime("cores = \"0\"").runtime("pin = false")
    }

    /// A line of `[runtime]`.
    pub(crate) fn runtime(mut self, line: &str) -> Self {
        self.runtime.push(line.to_owned());
        self
    }

    /// A line of the `[[listener]]`.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener.push(line.to_owned());
        self
    }

    /// A line of `[listener.limits]`.
    pub(crate) fn limit(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }

    /// A line of the `[[route]]`.
    pub(crate) fn route(mut self, line: &str) -> Self {
        self.route.push(line.to_owned());
        self
    }

    /// A line of the `[[upstream]]`.
    pub(crate) fn upstream(mut self, line: &str) -> Self {
        self.upstream.push(line.to_owned());
        self
    }

    /// A line of `[upstream.timeouts]`.
    pub(crate) fn timeout(mut self, line: &str) -> Self {
        self.timeouts.push(line.to_owned());
        self
    }

    /// A line of `[upstream.pool]`.
    pub(crate) fn pool(mut self, line: &str) -> Self {
        self.pool.push(line.to_owned());
        self
    }

    /// Whole sections behind the others.
    pub(crate) fn more(mut self, text: &str) -> Self {
        self.more.push(text.to_owned());
        self
    }

    /// The text, holes and all.
    pub(crate) fn text(&self) -> String {
        let section = |title: &str, lines: &[String]| {
            if lines.is_empty() {
                String::new()
            } else {
                format!("{title}\n{}\n", lines.join("\n"))
            }
        };
        let mut text = section("[runtime]", &self.runtime);
        text += "[[listener]]\nname = \"edge\"\naddress = \"{listen}\"\n";
        text += &section("", &self.listener);
        text += &section("[listener.limits]", &self.limits);
        text += "[[route]]\nid = \"all\"\nupstream = \"origin\"\n";
        text += &section("", &self.route);
        text += "[[upstream]]\nname = \"origin\"\n";
        text += &section("", &self.upstream);
        text += &section("[upstream.timeouts]", &self.timeouts);
        text += &section("[upstream.pool]", &self.pool);
        text += &section("", &self.more);
        text
    }
}
