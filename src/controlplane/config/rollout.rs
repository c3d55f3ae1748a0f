//! `[[rollout]]`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    balance::percent,
    errors::{Place, Report},
    links::{self, Named},
    names,
    retry::share,
    route::RouteConfig,
    table::Table,
    upstream::UpstreamConfig,
    value::Value,
};
use crate::{
    base::{
        ids::{RouteIndex, UpstreamIndex},
        limits,
    },
    policy::{
        rollout::{RolloutRule, Stage},
        split::token_of,
    },
    snapshot::{
        Mode, RouteExtra,
        rollout::Rollout,
        split::{Choice, Split, SplitCell, Sticky},
    },
};

/// A rollout whose route is not looked at yet.
pub(super) struct Read<'a> {
    table: Table<'a>,
    name: Box<str>,
    from: Version,
    to: Version,
    rule: RolloutRule,
}

/// An upstream by index and name.
type Version = (UpstreamIndex, Box<str>);

/// Reads the rollouts of all files; the upstreams they name count as used.
pub(super) fn read<'a>(
    roots: &[Table<'a>],
    upstreams: &Named<UpstreamConfig>,
    report: &Report,
) -> Vec<Read<'a>> {
    let mut found: Vec<Read<'a>> = Vec::new();
    let mut names: HashMap<Box<str>, Place> = HashMap::new();
    for table in roots.iter().flat_map(|root| root.tables("rollout")) {
        if names.len() == limits::ROLLOUTS_MAX {
            let message = format!("more than {} rollouts", limits::ROLLOUTS_MAX);
            report.error(table.place(), "rollout", message, "remove those that are done");
            break;
        }
        let name = table.require("name").and_then(|value| {
            let name: Box<str> = links::check_name(&value)?.into();
            if let Some(first) = names.get(&name) {
                let message =
                    format!("the name \"{name}\" is already taken at {}", report.describe(*first));
                value.error(message, "give each its own name");
                return None;
            }
            names.insert(name.clone(), table.place());
            Some(name)
        });
        let (from, to) = (version(&table, "from", upstreams), version(&table, "to", upstreams));
        let rule = rule(&table);
        if let (Some((from, _)), Some((to, _)), Some(value)) = (&from, &to, table.get("to"))
            && from == to
        {
            value.error("both versions are the same upstream", "name the upstream of the new one");
        }
        let (Some(name), Some(from), Some(to), Some(rule)) = (name, from, to, rule) else {
            upstreams.use_all();
            continue;
        };
        found.push(Read { table, name, from, to, rule });
    }
    found
}

fn version(table: &Table<'_>, key: &str, upstreams: &Named<UpstreamConfig>) -> Option<Version> {
    let value = table.require(key)?;
    let name = value.text()?;
    let position = upstreams.resolve(&name, &value, "upstream")?;
    Some((UpstreamIndex(position as u32), name.into()))
}

fn rule(table: &Table<'_>) -> Option<RolloutRule> {
    let latency_margin_percent = match table.get("latency_margin") {
        Some(value) => percent(&value, 0, 10_000),
        None => Some(50),
    };
    let floor = table.duration("latency_floor");
    Some(RolloutRule {
        stages: stages(table)?,
        window_ms: millis(table.duration("window")),
        error_margin_per_10k: share(table, "error_margin"),
        latency_margin_percent: latency_margin_percent?,
        latency_floor_us: u64::try_from(floor.as_micros()).unwrap_or(u64::MAX),
    })
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn stages(table: &Table<'_>) -> Option<Box<[Stage]>> {
    let (time_ms, requests) =
        (millis(table.duration("stage_time")), table.integer("stage_requests") as u64);
    let plain = |share_per_10k| Stage { share_per_10k, time_ms, requests };
    let Some(value) = table.get("stages") else {
        return Some([500, 2_500, 5_000, 10_000].map(plain).into());
    };
    let elements = value.elements()?;
    if elements.is_empty() || elements.len() > limits::ROLLOUT_STAGES_MAX {
        let message = format!("{} of 1 to {} stages", elements.len(), limits::ROLLOUT_STAGES_MAX);
        value.error(message, "write [\"5%\", \"25%\", \"50%\", \"100%\"]");
        return None;
    }
    let mut stages: Vec<Stage> = Vec::new();
    let mut is_whole = true;
    for element in &elements {
        let Some(stage) = stage(element, &plain) else {
            is_whole = false;
            continue;
        };
        let before = stages.last().map_or(0, |stage| stage.share_per_10k);
        if stage.share_per_10k <= before {
            let message = match stages.is_empty() {
                true => "a stage without requests".to_owned(),
                false => "the share is not above that of the stage before".to_owned(),
            };
            element.error(message, "write shares that rise: \"5%\", \"25%\", \"50%\", \"100%\"");
            is_whole = false;
        }
        stages.push(stage);
    }
    is_whole.then(|| stages.into())
}

fn stage(element: &Value<'_>, plain: &impl Fn(u16) -> Stage) -> Option<Stage> {
    if element.is_text() {
        return element.share().map(plain);
    }
    let table = element.table()?;
    let mut stage = plain(table.require("share")?.share()?);
    if let Some(time) = table.duration_opt("time") {
        stage.time_ms = millis(time);
    }
    if let Some(requests) = table.integer_opt("requests") {
        stage.requests = requests as u64;
    }
    Some(stage)
}

/// Ties rollouts to their routes: a route with one upstream gets a split. `cores` is one more than the
/// highest number of a core.
pub(super) fn attach(
    rollouts: Vec<Read<'_>>,
    routes: &mut [RouteConfig],
    cores: usize,
    keeps: bool,
    report: &Report,
) -> Vec<Rollout> {
    let mut attached: Vec<Rollout> = Vec::new();
    for read in rollouts {
        if !keeps {
            let hint = "set state_dir in [admin]; a successor after SIGUSR2 goes on in any case";
            let message = format!("a restart begins \"{}\" anew", read.name);
            report.warning(read.table.place(), "rollout", message, hint);
        }
        let Some(value) = read.table.require("route") else { continue };
        let Some(id) = value.text() else { continue };
        let Some(index) = routes.iter().position(|route| *route.id == *id) else {
            if !report.is_incomplete() && !report.has_errors() {
                let known = || routes.iter().take(2_000).map(|route| &*route.id);
                let hint = names::did_you_mean(&id, known(), || "name the id of a route".into());
                value.error(format!("there is no route \"{}\"", value.shown(&id)), hint);
            }
            continue;
        };
        if let Some(other) = attached.iter().find(|one| one.route.0 as usize == index) {
            let message = format!("the rollout \"{}\" has this route already", other.name);
            value.error(message, "one at a time: remove one of them");
            continue;
        }
        if let Err(message) = give_split(&mut routes[index], &read, cores) {
            value.error(message, "name versions that the route knows, or change its upstream");
            continue;
        }
        attached.extend(rollout(read, index, &routes[index]));
    }
    attached
}

/// Sees to it that the route has a split that is watched.
fn give_split(route: &mut RouteConfig, read: &Read<'_>, cores: usize) -> Result<(), String> {
    if route.mode == Mode::Tcp {
        return Err(
            "it passes connections through, and no requests that could fail are seen".into()
        );
    }
    let extra = Arc::make_mut(route.extra.get_or_insert_with(|| Arc::new(RouteExtra::PLAIN)));
    if let Some(split) = &mut extra.split {
        let weight = |version: &Version| {
            let choice = split.choices.iter().find(|choice| choice.upstream == version.0);
            choice.map(|choice| choice.weight)
        };
        match (weight(&read.from), weight(&read.to)) {
            (None, _) => return Err(format!("\"{}\" is not in its split", read.from.1)),
            (_, None) => return Err(format!("\"{}\" is not in its split", read.to.1)),
            (Some(0), Some(0)) => return Err("neither version has a weight there".into()),
            _ => {}
        }
        Arc::make_mut(split).is_watched = true;
        return Ok(());
    }
    if route.upstream != read.from.0 {
        return Err(format!("its upstream is not \"{}\"", read.from.1));
    }
    let choice = |version: &Version, weight| Choice {
        upstream: version.0,
        token: token_of(&version.1),
        name: version.1.clone(),
        weight,
        conditions: Box::default(),
    };
    extra.split = Some(Arc::new(Split {
        choices: [choice(&read.from, 1), choice(&read.to, 0)].into(),
        sticky: Sticky::No,
        cell: SplitCell::new(&[1, 0], cores),
        is_watched: true,
    }));
    Ok(())
}

fn rollout(read: Read<'_>, index: usize, route: &RouteConfig) -> Option<Rollout> {
    let split = route.extra.as_ref()?.split.as_ref()?;
    let place =
        |version: &Version| split.choices.iter().position(|choice| choice.upstream == version.0);
    Some(Rollout {
        route: RouteIndex(index as u32),
        route_id: (*route.id).into(),
        from: place(&read.from)?,
        to: place(&read.to)?,
        weights: split.choices.iter().map(|choice| choice.weight).collect(),
        name: read.name,
        from_name: read.from.1,
        to_name: read.to.1,
        rule: read.rule,
    })
}
