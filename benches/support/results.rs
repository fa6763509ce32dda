//! What a bench has measured, and whether its goals are held.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::mode;

/// The most digits after the point of a printed figure.
const MAX_DIGITS: usize = 6;

/// The environment variable that adds a run to earlier ones instead of replacing them.
const APPEND: &str = "BENCH_APPEND";

/// The results of one bench, of one or more runs.
#[derive(Debug, Deserialize, Serialize)]
pub struct Results {
    /// The name of the bench.
    pub bench: String,
    /// Whether the features that add work to each request, `metrics` and `tracing`, are enabled.
    pub is_observed: bool,
    /// The processor of this machine.
    pub processor: String,
    /// The seconds since 1970 at which the bench finished.
    pub finished_at: u64,
    /// The figures that have a goal, or are compared.
    pub figures: Vec<Figure>,
    /// The readings that the plots show.
    pub readings: Vec<Reading>,
}

/// A ratio or a count.
#[derive(Debug, Deserialize, Serialize)]
pub struct Figure {
    /// The subject of the figure.
    pub measured: String,
    /// The value in each run.
    pub values: Vec<f64>,
    /// The goal of the value.
    pub goal: Goal,
}

/// The goal of a figure.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Goal {
    /// The highest value that holds the goal.
    AtMost(f64),
    /// The lowest value that holds the goal.
    AtLeast(f64),
    /// No goal.
    None,
}

/// A value that a plot shows.
#[derive(Debug, Deserialize, Serialize)]
pub struct Reading {
    /// The group of cases that share an axis, such as `peers/1`.
    pub group: String,
    /// The case.
    pub id: String,
    /// Nanoseconds per request in each run, unless the bench says otherwise.
    pub values: Vec<f64>,
}

impl Results {
    /// Creates empty results of a bench.
    pub fn new(bench: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            is_observed: cfg!(all(feature = "metrics", feature = "tracing")),
            processor: processor(),
            finished_at: 0,
            figures: Vec::new(),
            readings: Vec::new(),
        }
    }

    /// Prints a ratio and adds it.
    pub fn ratio(&mut self, measured: impl Into<String>, value: f64, goal: Goal) {
        let measured = measured.into();
        self.add(measured, value, goal);
        if let Some(figure) = self.figures.last() {
            println!(
                "ratio {} = {} (goal: {goal})",
                figure.measured,
                figure.rounded()
            );
        }
    }

    /// Adds a count or a size.
    pub fn add(&mut self, measured: impl Into<String>, value: f64, goal: Goal) {
        let measured = measured.into();
        self.figures.push(Figure {
            measured,
            values: vec![value],
            goal,
        });
    }

    /// Adds a value that a plot shows.
    pub fn add_reading(&mut self, group: &str, id: &str, value: f64) {
        let (group, id) = (group.to_owned(), id.to_owned());
        let values = vec![value];
        self.readings.push(Reading { group, id, values });
    }

    /// Returns the reading of a case, the median of all runs.
    pub fn reading(&self, group: &str, id: &str) -> Option<f64> {
        let mut readings = self.readings.iter();
        let reading = readings.find(|reading| reading.group == group && reading.id == id);
        Some(reading?.median())
    }

    /// Adds a later run.
    pub fn append(&mut self, run: Self) {
        self.finished_at = run.finished_at;
        for figure in run.figures {
            let mut known = self.figures.iter_mut();
            match known.find(|known| known.measured == figure.measured) {
                Some(known) => known.values.extend(figure.values),
                None => self.figures.push(figure),
            }
        }
        for reading in run.readings {
            let mut known = self.readings.iter_mut();
            match known.find(|known| known.group == reading.group && known.id == reading.id) {
                Some(known) => known.values.extend(reading.values),
                None => self.readings.push(reading),
            }
        }
    }

    /// Prints the goals as a table and writes the results below the target directory. They replace
    /// those of earlier runs unless `BENCH_APPEND` is set. Does nothing under `cargo bench -- --test`.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    pub fn finish(mut self) {
        if !mode::is_full_run() {
            return;
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.finished_at = since_1970.map_or(0, |elapsed| elapsed.as_secs());
        println!("\ngoals of {}, on {}", self.bench, self.processor);
        for figure in &self.figures {
            println!("{figure}");
        }
        let suffix = if self.is_observed { "-observed" } else { "" };
        let path = folder().join(format!("{}{suffix}.json", self.bench));
        if std::env::var_os(APPEND).is_some() && path.exists() {
            let mut all = Self::read(&path);
            all.append(self);
            self = all;
        }
        let json = serde_json::to_string_pretty(&self).expect("strings and numbers");
        fs::create_dir_all(folder()).expect("the target directory is writable");
        fs::write(path, json).expect("the target directory is writable");
    }

    /// Reads the results that benches have written, in the order of their names.
    ///
    /// # Panics
    ///
    /// Panics if a file is not readable.
    pub fn read_all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder()) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.expect("the folder is readable").path());
        let mut paths: Vec<_> = paths.collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let json = fs::read(path).expect("the file is readable");
        serde_json::from_slice(&json).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; delete the file and run the bench again",
                path.display()
            )
        })
    }
}

impl Figure {
    /// Returns in how many runs the goal is held, or a dash. It is compared with the values before
    /// they are rounded.
    pub fn verdict(&self) -> String {
        let runs = self.values.len();
        let verdicts = self.values.iter();
        let verdicts = verdicts.filter_map(|value| self.goal.is_held_by(*value));
        let verdicts: Vec<_> = verdicts.collect();
        let held = verdicts.iter().filter(|is_held| **is_held).count();
        match held {
            _ if verdicts.is_empty() => "–".to_owned(),
            0 => "not held".to_owned(),
            _ if held == runs => "held".to_owned(),
            _ => format!("held in {held} of {runs} runs"),
        }
    }

    /// Returns the value. Of several runs, returns the median, with the lowest and the highest in
    /// brackets.
    pub fn rounded(&self) -> String {
        let median = self.goal.round(median(&self.values));
        if self.values.len() == 1 {
            return median;
        }
        let lowest = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let (lowest, highest) = (self.goal.round(lowest), self.goal.round(highest));
        format!("{median} ({lowest} to {highest})")
    }
}

impl Reading {
    /// Returns the median of all runs.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, goal) = (self.rounded(), self.goal.to_string());
        let (measured, verdict) = (&self.measured, self.verdict());
        write!(f, "{value:>8}  {goal:>14}  {verdict:<8}  {measured}")
    }
}

impl Goal {
    /// Returns whether a value holds the goal, and `None` without a goal.
    fn is_held_by(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::None => None,
        }
    }

    /// Returns a value with as many digits as its size deserves, and with more if fewer would contradict
    /// the verdict.
    fn round(self, value: f64) -> String {
        let least = if value < 10.0 {
            2
        } else {
            usize::from(value < 100.0)
        };
        let verdict = self.is_held_by(value);
        let texts = (least..=MAX_DIGITS).map(|digits| format!("{value:.digits$}"));
        let agrees = |text: &String| {
            let value = text.parse().unwrap_or(f64::NAN);
            self.is_held_by(value) == verdict
        };
        let mut texts = texts.skip_while(|text| !agrees(text));
        texts.next().unwrap_or_else(|| value.to_string())
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {limit}"),
            Self::AtLeast(limit) => write!(f, "at least {limit}"),
            Self::None => f.write_str("–"),
        }
    }
}

/// Writes a number of things, such as `1 key` or `1,000 keys`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", with_commas(&count.to_string()))
}

/// Inserts commas between the thousands of a whole number.
pub fn with_commas(digits: &str) -> String {
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns `bench-results` in the target directory, which holds this program as
/// `release/deps/<name>`.
fn folder() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let target = program.ancestors().nth(3).expect("Cargo's directories");
    target.join("bench-results")
}

/// Returns the processor's name and model, whether it has SHA instructions, and the number of its cores.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value_of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(name) = value_of("model name") else {
        return format!("an unknown processor, {cores} cores");
    };
    // Virtual machines show one name for several generations.
    let [family, model] = ["cpu family", "model\t"].map(|name| value_of(name).unwrap_or("unknown"));
    let flags = value_of("flags").unwrap_or_default();
    let has_sha = flags.split(' ').any(|flag| flag == "sha_ni");
    let sha = if has_sha { "with" } else { "without" };
    format!("{name} (family {family}, model {model}), {sha} SHA instructions, {cores} cores")
}
