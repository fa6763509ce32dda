//! The plots, from the readings of the benches.

use benches::results::Results;
use jiff::Timestamp;

use crate::chart::{Labels, OWN, Series, dots, lines};

/// The numbers of tokens that `scale` measures, and the one of `large`. Both count allocations.
const SIZES: [f64; 6] = [1.0, 100.0, 1_000.0, 10_000.0, 1_000_000.0, 10_000_000.0];

/// Returns the name and the text of each plot whose readings exist.
pub(crate) fn all(results: &[Results]) -> Vec<(&'static str, String)> {
    let plots = [
        ("peers.svg", peers(results)),
        ("scale.svg", scale(results)),
        ("contention.svg", contention(results)),
    ];
    let drawn = plots
        .into_iter()
        .filter_map(|(name, svg)| Some((name, svg?)));
    drawn.collect()
}

/// Returns the readings of a group, and the processor and the date. `bench` ran without `metrics` and `tracing`.
fn group<'a>(
    results: &'a [Results],
    bench: &str,
    group: &str,
) -> Option<(String, Vec<(&'a str, f64)>)> {
    let of_bench = |results: &&Results| results.bench == bench && !results.is_observed;
    let results = results.iter().find(of_bench)?;
    let readings = results.readings.iter();
    let of_group = readings.filter(|reading| reading.group == group);
    let readings: Vec<_> = of_group
        .map(|reading| (reading.id.as_str(), reading.median()))
        .collect();
    (!readings.is_empty()).then(|| (note(results), readings))
}

/// Returns the processor and the date of the results.
pub(crate) fn note(results: &Results) -> String {
    let seconds = i64::try_from(results.finished_at).ok();
    let finished = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let date = finished.map(|finished| finished.strftime("%Y-%m-%d").to_string());
    let date = date.as_deref().unwrap_or("unknown date");
    format!("{}, {date}", results.processor)
}

/// The time of an accepted request by peer. The toolkits run in a process of their own, so their times
/// are scaled by `memory`, which both processes measure.
fn peers(results: &[Results]) -> Option<String> {
    let mut rows: Vec<(&str, [Option<f64>; 2])> = Vec::new();
    let mut note = String::new();
    for (column, keys) in ["1", "1000"].into_iter().enumerate() {
        let name = format!("peers/{keys}");
        let (of_run, readings) = group(results, "peers", &name)?;
        note = of_run;
        let memory = time_of(&readings, "memory")?;
        let mut times = readings;
        if let Some((_, toolkits)) = group(results, "toolkits", &name) {
            let scale = memory / time_of(&toolkits, "memory")?;
            let known = ["memory", "bare_with_principal"];
            let others = toolkits.into_iter().filter(|(id, _)| !known.contains(id));
            times.extend(others.map(|(id, time)| (id, time * scale)));
        }
        for (id, time) in times {
            if rows.iter().all(|(known, _)| *known != id) {
                rows.push((id, [None; 2]));
            }
            let row = rows.iter_mut().find(|(known, _)| *known == id);
            row.expect("just added").1[column] = Some(time);
        }
    }
    let last = |times: &[Option<f64>; 2]| times[1].or(times[0]).unwrap_or(0.0);
    rows.sort_by(|(_, a), (_, b)| last(a).total_cmp(&last(b)));
    let names: Vec<_> = rows.iter().map(|(id, _)| label(id)).collect();
    let column = |column: usize| {
        let numbered = (0_u32..).zip(&rows);
        let points =
            numbered.filter_map(|(row, (_, times))| Some((times[column]?, f64::from(row))));
        points.collect()
    };
    let series = [
        Series {
            name: "1 key",
            is_reference: true,
            points: column(0),
        },
        Series {
            name: "1,000 keys",
            is_reference: false,
            points: column(1),
        },
    ];
    let labels = Labels {
        title: "One accepted request, by peer",
        x: "time of the whole request, in nanoseconds (less is better)",
        y: "",
        note: &note,
    };
    Some(dots(&labels, &names, &series))
}

fn time_of(readings: &[(&str, f64)], id: &str) -> Option<f64> {
    let reading = readings.iter().find(|(known, _)| *known == id);
    Some(reading?.1)
}

fn label(id: &str) -> &str {
    match id {
        "bare_with_principal" => "inserts an identity only",
        "floor" => "floor, by hand",
        "memory" => OWN,
        "tower_http" => "tower-http, least check",
        "tower_http_same_work" => "tower-http, same work",
        "axum_from_fn" => "axum from_fn, least check",
        "oauth_resource_server" => "oauth-resource-server",
        "axum_gate" => "axum-gate",
        "ts_webapi" => "ts-webapi, inserts none",
        "apikeys_rs" => "apikeys-rs, inserts none",
        other => other,
    }
}

/// The cost of the check by number of tokens.
fn scale(results: &[Results]) -> Option<String> {
    let mut note = String::new();
    let mut series = ["memory", "floor"].map(|id| (id, Vec::new()));
    for size in SIZES {
        let name = format!("scale/{size:.0}");
        let found = group(results, "scale", &name).or_else(|| group(results, "large", &name));
        let Some((of_run, readings)) = found else {
            continue;
        };
        note = of_run;
        let bare = time_of(&readings, "bare_with_principal")?;
        for (id, points) in &mut series {
            points.push((size, time_of(&readings, id)? - bare));
        }
    }
    let [(_, memory), (_, floor)] = series;
    if memory.len() < 2 {
        return None;
    }
    let labels = Labels {
        title: "What the check of a token costs, by number of tokens",
        x: "tokens in the store, sent in random order",
        y: "nanoseconds over no authentication",
        note: &note,
    };
    let series = [
        Series {
            name: OWN,
            is_reference: false,
            points: memory,
        },
        Series {
            name: "floor, by hand",
            is_reference: true,
            points: floor,
        },
    ];
    Some(lines(&labels, &SIZES, &series))
}

/// Throughput by number of threads, relative to one thread.
fn contention(results: &[Results]) -> Option<String> {
    let mut note = String::new();
    let mut series = Vec::new();
    for name in ["spread tokens", "one hot token", "a store each"] {
        let (of_run, readings) = group(results, "contention", name)?;
        note = of_run;
        let points = readings.iter().map(|(threads, throughput)| {
            let threads = threads.parse().expect("a number of threads");
            (threads, *throughput)
        });
        series.push(Series {
            name,
            is_reference: name == "a store each",
            points: points.collect(),
        });
    }
    let labels = Labels {
        title: "Throughput of threads that share a store, while another one changes it",
        x: "threads",
        y: "throughput, relative to one thread",
        note: &note,
    };
    Some(lines(&labels, &[1.0, 2.0, 4.0, 8.0], &series))
}
