//! From slices to rows: CPU time per request, ratios with intervals, and whether goals are met.

use crate::load::{Outcome, Slice, Tally};
use crate::stats::{self, Estimate, Histogram};
use serde_json::{Value, json};

/// Above this share the load generator's core is full, and requests/s are a lower bound.
const CLIENT_FULL: f64 = 0.95;
/// What may lie between two runs of the same thing.
const TOLERANCE: f64 = 1.05;

/// Percentiles of latency at a fixed rate, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// p50, p99, p99.9 of a cycle: the medians over cycles. A neighbour's burst of work spoils the
    /// cycles it falls into, and only those.
    pub us: [f64; 3],
    /// p99.9 of all requests of all cycles, with whatever disturbed some of them.
    pub whole_p999_us: f64,
    /// The first proxy's percentiles divided by this one's, within each cycle.
    pub ratios: Option<[Estimate; 3]>,
}

/// One proxy in one scenario and layout.
#[derive(Clone, Debug)]
pub struct Row {
    /// `T` or `S`.
    pub layout: char,
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the proxy.
    pub proxy: String,
    /// CPU microseconds of the proxy per request: the median over cycles.
    pub us: Estimate,
    /// CPU of the first proxy divided by that of this one, within each cycle. `None` for the first.
    pub ratio: Option<Estimate>,
    /// Requests per second while its slices ran.
    pub rate: f64,
    /// Requests/s of the first proxy divided by this one's.
    pub rate_ratio: Option<Estimate>,
    /// Share of the slices' time that the proxy was on its core.
    pub busy: f64,
    /// The same for load generator and origin together.
    pub client_busy: f64,
    /// At a fixed rate only.
    pub latency: Option<Latency>,
    /// Errors and reconnects.
    pub tally: Tally,
}

/// One row per proxy; `names[0]` is the one that ratios are about.
pub fn rows(layout: char, scenario: &str, names: &[String], outcome: &Outcome) -> Vec<Row> {
    let column = |index: usize| -> Vec<&Slice> {
        outcome.cycles.iter().filter_map(|cycle| cycle.get(index)).collect()
    };
    let first = column(0);
    let row = |(index, name): (usize, &String)| {
        let own = column(index);
        let compare = |figure: fn(&Slice) -> f64| {
            let pairs = first.iter().zip(&own);
            let ratios: Vec<f64> = pairs.map(|(a, b)| figure(a) / figure(b)).collect();
            (index > 0).then(|| stats::estimate(&ratios))
        };
        let sum = |figure: fn(&Slice) -> u64| own.iter().map(|slice| figure(slice)).sum::<u64>();
        let wall_ns = sum(|slice| slice.wall_ns).max(1) as f64;
        Row {
            layout,
            scenario: scenario.to_owned(),
            proxy: name.clone(),
            us: stats::estimate(&own.iter().map(|slice| us(slice)).collect::<Vec<_>>()),
            ratio: compare(us),
            rate: stats::median(&own.iter().map(|slice| rate(slice)).collect::<Vec<_>>()),
            rate_ratio: compare(rate),
            busy: sum(|slice| slice.cpu_ns) as f64 / wall_ns,
            client_busy: sum(|slice| slice.client_ns + slice.origin_ns) as f64 / wall_ns,
            latency: latency(&first, &own, index > 0),
            tally: outcome.tallies.get(index).cloned().unwrap_or_default(),
        }
    };
    names.iter().enumerate().map(row).collect()
}

fn us(slice: &Slice) -> f64 {
    slice.cpu_ns as f64 / slice.requests.max(1) as f64 / 1000.0
}

fn rate(slice: &Slice) -> f64 {
    slice.requests as f64 / slice.wall_ns.max(1) as f64 * 1e9
}

fn latency(first: &[&Slice], own: &[&Slice], compared: bool) -> Option<Latency> {
    const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
    let mut whole = Histogram::default();
    own.iter().for_each(|slice| whole.merge(&slice.latency));
    if whole.total() == 0 {
        return None;
    }
    let us = |slice: &Slice, quantile| slice.latency.quantile(quantile).max(1) as f64 / 1000.0;
    let middle = |quantile| -> f64 {
        stats::median(&own.iter().map(|slice| us(slice, quantile)).collect::<Vec<_>>())
    };
    let ratio = |quantile| {
        let pairs = first.iter().zip(own);
        let ratios: Vec<f64> = pairs.map(|(a, b)| us(a, quantile) / us(b, quantile)).collect();
        stats::estimate(&ratios)
    };
    Some(Latency {
        us: QUANTILES.map(middle),
        whole_p999_us: whole.quantile(0.999) as f64 / 1000.0,
        ratios: compared.then(|| QUANTILES.map(ratio)),
    })
}

/// The line above the rows.
pub fn headline(first: &str) -> String {
    format!(
        "{:<9} {:<9} {:>9}  {:<24} {:>9}  {:<7} {:>5} {:>6}",
        "scenario",
        "proxy",
        "us/req",
        format!("CPU {first}/proxy [95 %]"),
        "req/s",
        "ratio",
        "busy",
        "client"
    )
}

impl Row {
    /// The row as a line of text.
    pub fn line(&self) -> String {
        let ratio = self.ratio.map_or(String::new(), interval);
        let rate_ratio =
            self.rate_ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.middle));
        let full = if self.client_full() { "!" } else { "" };
        let mut line = format!(
            "{:<9} {:<9} {:>9.2}  {ratio:<24} {:>9.0}  {rate_ratio:<7} {:>5.2} {:>5.2}{full}",
            self.scenario, self.proxy, self.us.middle, self.rate, self.busy, self.client_busy
        );
        if let Some(Latency { us, whole_p999_us, ratios }) = self.latency {
            let [p50, p99, p999] = us;
            line.push_str(&format!(
                "\n{:>19} p50 {p50:.0} us  p99 {p99:.0}  p99.9 {p999:.0} (of all {whole_p999_us:.0})",
                ""
            ));
            if let Some(ratios) = ratios {
                let texts = ratios.map(interval);
                line.push_str(&format!("  ratios {}  {}  {}", texts[0], texts[1], texts[2]));
            }
        }
        if self.tally.errors > 0 {
            let Tally { errors, first_error, .. } = &self.tally;
            line.push_str(&format!("\n{:>19} {errors} ERRORS, the first: {first_error}", ""));
        }
        if self.tally.reconnects > 0 {
            let count = self.tally.reconnects;
            line.push_str(&format!("\n{:>19} closed {count} idle connections", ""));
        }
        line
    }

    /// Load generator and origin fill their core: more would go through the proxy.
    pub fn client_full(&self) -> bool {
        self.layout == 'T' && self.client_busy > CLIENT_FULL
    }

    /// The row for a results file.
    pub fn to_json(&self) -> Value {
        let estimate = |value: Estimate| json!([value.middle, value.low, value.high]);
        json!({
            "layout": self.layout.to_string(),
            "scenario": self.scenario,
            "proxy": self.proxy,
            "cpu_us_per_request": estimate(self.us),
            "cpu_ratio": self.ratio.map(estimate),
            "requests_per_s": self.rate,
            "requests_ratio": self.rate_ratio.map(estimate),
            "busy": self.busy,
            "client_busy": self.client_busy,
            "latency_us": self.latency.map(|latency| latency.us),
            "latency_whole_p999_us": self.latency.map(|latency| latency.whole_p999_us),
            "latency_ratio": self.latency.and_then(|latency| Some(latency.ratios?.map(estimate))),
            "errors": self.tally.errors,
            "reconnects": self.tally.reconnects,
        })
    }
}

fn interval(Estimate { middle, low, high }: Estimate) -> String {
    format!("{middle:.3} [{low:.3}, {high:.3}]")
}

/// What ringway wants to reach against one or more peers in a scenario.
struct Goal {
    scenario: &'static str,
    figure: Figure,
    peers: &'static [&'static str],
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Cpu,
    Rate,
    P99,
    P999,
}

const BOTH: &[&str] = &["nginx", "haproxy"];

const GOALS: [Goal; 18] = [
    goal("small", Figure::Cpu, BOTH, 0.68),
    goal("small", Figure::Rate, BOTH, 1.4),
    goal("small", Figure::Cpu, &["envoy"], 0.33),
    goal("c512", Figure::Cpu, &["nginx"], 0.50),
    goal("c512", Figure::Cpu, &["haproxy"], 0.65),
    goal("c512", Figure::Cpu, &["envoy"], 0.33),
    goal("rate8k", Figure::Cpu, &["nginx"], 0.88),
    goal("rate8k", Figure::Cpu, &["haproxy"], 0.75),
    goal("rate8k", Figure::P99, BOTH, 1.0),
    goal("rate8k", Figure::P999, BOTH, 1.1),
    goal("16k", Figure::Cpu, &["nginxb"], 0.65),
    goal("16k", Figure::Cpu, &["envoy"], 0.33),
    goal("post16k", Figure::Cpu, &["nginxb"], 0.65),
    goal("post16k", Figure::Cpu, &["envoy"], 0.33),
    goal("1m", Figure::Cpu, &["nginx"], 0.55),
    goal("1m", Figure::Rate, &["nginx"], 1.4),
    goal("close", Figure::Cpu, &["nginx"], 1.0),
    goal("ws", Figure::Cpu, &["nginx"], 0.95),
];

const fn goal(
    scenario: &'static str,
    figure: Figure,
    peers: &'static [&'static str],
    limit: f64,
) -> Goal {
    Goal { scenario, figure, peers, limit }
}

/// A line per goal that the rows say something about: met or not, with 5 % tolerance. Against two
/// peers the better of them counts. The fixed rate's goals are about one core, layout S; those in
/// requests/s about layout T, where they are a lower bound once the client's core is full.
pub fn verdicts(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for layout in ['T', 'S'] {
        for goal in &GOALS {
            let elsewhere = match (goal.figure, goal.scenario) {
                (Figure::Rate, _) => layout != 'T',
                (_, "rate8k") => layout != 'S',
                _ => false,
            };
            if !elsewhere {
                lines.extend(verdict(layout, goal, rows));
            }
        }
    }
    lines
}

fn verdict(layout: char, goal: &Goal, rows: &[Row]) -> Option<String> {
    let figure = |row: &Row| match goal.figure {
        Figure::Cpu => row.ratio.map(|ratio| ratio.middle),
        Figure::Rate => row.rate_ratio.map(|ratio| ratio.middle),
        Figure::P99 => row.latency?.ratios.map(|ratios| ratios[1].middle),
        Figure::P999 => row.latency?.ratios.map(|ratios| ratios[2].middle),
    };
    let about = rows.iter().filter(|row| {
        row.layout == layout
            && row.scenario == goal.scenario
            && goal.peers.contains(&row.proxy.as_str())
    });
    let rows: Vec<&Row> = about.collect();
    let found = rows.iter().filter_map(|row| figure(row));
    let at_least = goal.figure == Figure::Rate;
    let worst = if at_least { found.reduce(f64::min) } else { found.reduce(f64::max) }?;
    let met =
        if at_least { worst * TOLERANCE >= goal.limit } else { worst <= goal.limit * TOLERANCE };
    let excuse = at_least && rows.iter().any(|row| row.client_full());
    let word = match (met, excuse) {
        (true, _) => "met",
        (false, true) => "not shown (client core full)",
        (false, false) => "MISSED",
    };
    let sign = if at_least { ">=" } else { "<=" };
    Some(format!(
        "{layout} {:<8} {:<5} vs {:<14} {worst:.3} {sign} {:.2}  {word}",
        goal.scenario,
        format!("{:?}", goal.figure).to_lowercase(),
        goal.peers.join(","),
        goal.limit
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(us: &[u64]) -> Outcome {
        let slice = |us: &u64| {
            let mut slice = Slice { requests: 1000, cpu_ns: us * 1_000_000, ..Slice::default() };
            slice.wall_ns = 20_000_000;
            slice.latency.record(us * 10_000);
            slice
        };
        let cycle: Vec<Slice> = us.iter().map(slice).collect();
        Outcome { cycles: vec![cycle; 5], tallies: vec![Tally::default(); us.len()] }
    }

    #[test]
    fn ratios_are_first_over_other() {
        let names = ["ringway", "nginx", "haproxy"].map(str::to_owned);
        let rows = rows('S', "small", &names, &outcome(&[10, 16, 20]));
        assert_eq!(rows[0].ratio, None);
        assert_eq!(rows[1].ratio.unwrap().middle, 0.625);
        assert_eq!(rows[2].us.middle, 20.0);
        assert_eq!(rows[2].busy, 1.0);
        assert_eq!(rows[1].rate_ratio.unwrap().middle, 1.0);
    }

    #[test]
    fn the_better_peer_decides() {
        let names = ["ringway", "nginx", "haproxy"].map(str::to_owned);
        let met = verdicts(&rows('S', "small", &names, &outcome(&[11, 16, 20])));
        assert_eq!(met.len(), 1);
        assert!(met[0].ends_with("met") && met[0].contains("0.688"), "{met:?}");
        let missed = verdicts(&rows('S', "small", &names, &outcome(&[12, 16, 20])));
        assert!(missed[0].ends_with("MISSED"), "{missed:?}");
    }
}
