//! How an upstream picks endpoints: its strategy, and what goes with it.

use std::{borrow::Cow, sync::Arc};

use super::{keys::balance::STRATEGIES, names, table::Table, value::Value};
use crate::policy::{
    balance::{HashAlgorithm, HashTable, Kind, Rules, StickyCookie, find_registered},
    key::RequestKey,
};

/// What an upstream says about balancing; what it makes of it depends on the endpoints.
#[derive(Clone, Debug)]
pub struct BalanceConfig {
    strategy: StrategyConfig,
    /// Who takes part.
    pub rules: Rules,
    /// What requests are known by, if the strategy wants to know.
    pub key: Option<RequestKey>,
    sticky: Option<StickyConfig>,
}

#[derive(Clone, Debug)]
enum StrategyConfig {
    Plain(Kind),
    Hash(HashConfig),
}

#[derive(Clone, Debug)]
struct HashConfig {
    key: RequestKey,
    algorithm: HashAlgorithm,
    bounded_percent: Option<u32>,
}

/// The name of a cookie, and what follows its value.
type StickyConfig = (Box<str>, Box<str>);

impl BalanceConfig {
    /// How an endpoint is picked; over no endpoints yet.
    pub fn kind(&self) -> Kind {
        match &self.strategy {
            StrategyConfig::Plain(kind) => kind.clone(),
            StrategyConfig::Hash(hash) => Kind::ConsistentHash {
                table: Arc::new(HashTable::build(hash.algorithm, std::iter::empty())),
                bounded_percent: hash.bounded_percent,
            },
        }
    }

    /// Whether a cookie keeps clients where they are.
    pub fn is_sticky(&self) -> bool {
        self.sticky.is_some()
    }

    /// The cookie that keeps clients where they are; for no endpoints yet.
    pub fn sticky(&self) -> Option<StickyCookie> {
        let (cookie, attributes) = self.sticky.as_ref()?;
        Some(StickyCookie::new(cookie, attributes, std::iter::empty()))
    }
}

/// Reads the keys of an `[[upstream]]` that are about balancing.
pub(super) fn read(table: &Table<'_>) -> Option<BalanceConfig> {
    let strategy = strategy(table);
    let hash = match table.get("hash") {
        Some(value) => value.table().and_then(|hash| read_hash(&hash)),
        None => Some(DEFAULT_HASH),
    };
    let sticky = match table.get("sticky") {
        Some(value) => value.table().and_then(|sticky| read_sticky(&sticky)).map(Some),
        None => Some(None),
    };
    let failover_below = match table.get("failover_below") {
        Some(value) => percent(&value, 0, 100).map(|percent| percent as u8),
        None => Some(0),
    };
    let slow_start = table.duration_opt("slow_start").unwrap_or_default();
    let strategy = strategy?;
    let uses_key = match &strategy {
        StrategyConfig::Plain(kind) => kind.needs_key(),
        StrategyConfig::Hash(_) => true,
    };
    if !uses_key && let Some(value) = table.get("hash") {
        let hint = "write strategy = \"consistent-hash\", or remove it";
        value.error("only \"consistent-hash\" uses it", hint);
    }
    let hash = hash?;
    let key = uses_key.then(|| hash.key.clone());
    let rules = Rules {
        ignore_weights: matches!(strategy, StrategyConfig::Plain(Kind::RoundRobin)),
        slow_start_ms: u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX),
        failover_below_percent: failover_below?,
        endpoints_per_core: endpoints_per_core(table, matches!(strategy, StrategyConfig::Hash(_))),
    };
    let strategy = match strategy {
        StrategyConfig::Hash(_) => StrategyConfig::Hash(hash),
        plain => plain,
    };
    Some(BalanceConfig { strategy, rules, key, sticky: sticky? })
}

/// How many endpoints a core uses at least; 0 for all.
fn endpoints_per_core(table: &Table<'_>, is_hash: bool) -> u16 {
    let Some(pool) = table.get("pool").and_then(|value| value.table()) else { return 0 };
    let Some(value) = pool.get("endpoints_per_core") else { return 0 };
    if is_hash || table.get("sticky").is_some() {
        value.error(
            "requests that belong to an endpoint come to every core, so each uses all of them",
            "remove it, or choose another strategy without sticky",
        );
    }
    pool.integer_opt("endpoints_per_core").map_or(0, |count| count as u16)
}

const DEFAULT_HASH: HashConfig =
    HashConfig { key: RequestKey::Ip, algorithm: HashAlgorithm::Ring, bounded_percent: None };

/// Words of other proxies, and what they are here.
const OTHER_WORDS: [(&str, &str); 10] = [
    ("ring", "write strategy = \"consistent-hash\"; a ring is its default"),
    ("ketama", "write strategy = \"consistent-hash\"; a ring is its default"),
    ("maglev", "write strategy = \"consistent-hash\" and hash = { algorithm = \"maglev\" }"),
    ("ip-hash", "write strategy = \"consistent-hash\"; the client's address is its default key"),
    ("sticky", "write sticky = { cookie = \"ringway\" }; it goes with any strategy"),
    ("sticky-cookie", "write sticky = { cookie = \"ringway\" }; it goes with any strategy"),
    ("least-conn", "write strategy = \"least-connections\""),
    ("leastconn", "write strategy = \"least-connections\""),
    ("least-request", "write strategy = \"least-connections\""),
    ("ewma", "write strategy = \"p2c-ewma\""),
];

fn strategy(table: &Table<'_>) -> Option<StrategyConfig> {
    let Some(value) = table.get("strategy") else {
        return Some(StrategyConfig::Plain(Kind::RoundRobin));
    };
    if value.is_text() {
        let text = value.text()?;
        if !STRATEGIES.contains(&&*text) {
            if let Some(foreign) = find_registered(&text) {
                return Some(StrategyConfig::Plain(Kind::Foreign(foreign)));
            }
            let other = |(word, _): &&(&str, &str)| *word == text.replace('_', "-");
            if let Some((_, hint)) = OTHER_WORDS.iter().find(other) {
                value.error(format!("\"{}\" is not a strategy", value.shown(&text)), *hint);
                return None;
            }
        }
    }
    Some(StrategyConfig::Plain(match value.choice()? {
        "weighted-round-robin" => Kind::WeightedRoundRobin,
        "random" => Kind::Random,
        "least-connections" => Kind::LeastConnections,
        "p2c-ewma" => Kind::P2cEwma,
        "consistent-hash" => return Some(StrategyConfig::Hash(DEFAULT_HASH)),
        _ => Kind::RoundRobin,
    }))
}

fn read_hash(table: &Table<'_>) -> Option<HashConfig> {
    let key = match table.get("key") {
        Some(value) => request_key(&value),
        None => Some(RequestKey::Ip),
    };
    let bounded = match table.get("bounded_load") {
        Some(value) => percent(&value, 101, 1_000).map(Some),
        None => Some(None),
    };
    let algorithm = match table.choice("algorithm") {
        "maglev" => HashAlgorithm::Maglev,
        _ => HashAlgorithm::Ring,
    };
    Some(HashConfig { key: key?, algorithm, bounded_percent: bounded? })
}

/// What requests are known by.
pub(super) fn request_key(value: &Value<'_>) -> Option<RequestKey> {
    let text = value.text()?;
    let key = RequestKey::parse(&text);
    if key.is_none() {
        let words = ["ip", "header", "cookie", "path", "query"];
        let kind = text.split(':').next().unwrap_or_default();
        let hint = match words.contains(&kind) && kind != "ip" {
            true => format!("write the name behind it: \"{kind}:name\""),
            false => names::did_you_mean(kind, words, || {
                "write \"ip\", or \"header:\", \"cookie:\", \"path:\" or \"query:\" and a name"
                    .into()
            }),
        };
        value.error(format!("\"{}\" is nothing a request has", value.shown(&text)), hint);
    }
    key
}

/// A whole percentage within bounds.
pub(super) fn percent(value: &Value<'_>, min: u32, max: u32) -> Option<u32> {
    if !value.is_text() {
        value.wrong_type("a percentage such as \"50%\"");
        return None;
    }
    let text = value.text()?;
    let digits = text.strip_suffix('%').unwrap_or_default().trim_end();
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
    match number.flatten() {
        Some(number) if (min..=max).contains(&number) => Some(number),
        _ => {
            let message =
                format!("\"{}\" is not a whole percentage in its range", value.shown(&text));
            value.error(message, format!("write \"{min}%\" to \"{max}%\""));
            None
        }
    }
}

/// A cookie that keeps a client somewhere.
pub(super) fn read_sticky(table: &Table<'_>) -> Option<StickyConfig> {
    let cookie = table.require("cookie").and_then(|value| cookie_name(&value));
    let path = match table.get("path") {
        Some(value) => cookie_path(&value),
        None => Some("/".into()),
    };
    let mut attributes = format!("; Path={}", path?);
    if let Some(ttl) = table.duration_opt("ttl") {
        attributes.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    attributes.push_str(match table.choice("same_site") {
        "strict" => "; HttpOnly; SameSite=Strict",
        "none" => "; HttpOnly; SameSite=None",
        _ => "; HttpOnly; SameSite=Lax",
    });
    Some((cookie?, attributes.into()))
}

/// The name of a cookie. Source: RFC 6265 §4.1.1.
pub(super) fn cookie_name(value: &Value<'_>) -> Option<Box<str>> {
    let name: Cow<'_, str> = value.text()?;
    if RequestKey::parse(&format!("cookie:{name}")).is_none() {
        let message = format!("\"{}\" is not the name of a cookie", value.shown(&name));
        value.error(message, "write letters, digits, - and _");
        return None;
    }
    Some(name.into())
}

fn cookie_path(value: &Value<'_>) -> Option<Box<str>> {
    let path = value.text()?;
    let is_path = path.starts_with('/')
        && path.bytes().all(|byte| (b' '..0x7F).contains(&byte) && byte != b';');
    if !is_path {
        value.error(format!("\"{}\" is not a path", value.shown(&path)), "write \"/\"");
        return None;
    }
    Some(path.into())
}
