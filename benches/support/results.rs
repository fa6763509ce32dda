//! What a bench has measured, and whether its goals are held.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::mode;

/// The most digits after the point of a printed figure.
const MAX_DIGITS: usize = 6;

/// The results of one bench.
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
    /// The value.
    pub value: f64,
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
    /// Nanoseconds per request, unless the bench says otherwise.
    pub value: f64,
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
            value,
            goal,
        });
    }

    /// Adds a value that a plot shows.
    pub fn add_reading(&mut self, group: &str, id: &str, value: f64) {
        let (group, id) = (group.to_owned(), id.to_owned());
        self.readings.push(Reading { group, id, value });
    }

    /// Returns the reading of a case.
    pub fn reading(&self, group: &str, id: &str) -> Option<f64> {
        let mut readings = self.readings.iter();
        let reading = readings.find(|reading| reading.group == group && reading.id == id);
        Some(reading?.value)
    }

    /// Prints the goals as a table and writes the results below the target directory. Does nothing
    /// under `cargo bench -- --test`.
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
        let results = paths.iter().map(|path| {
            let json = fs::read(path).expect("the file is readable");
            serde_json::from_slice(&json)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        results.collect()
    }
}

impl Figure {
    /// Returns `held`, `not held` or a dash. The goal is compared with the value before it is rounded.
    pub fn verdict(&self) -> &'static str {
        match self.goal.is_held_by(self.value) {
            Some(true) => "held",
            Some(false) => "not held",
            None => "–",
        }
    }

    /// Returns the value with as many digits as its size deserves, and with more if fewer would
    /// contradict the verdict.
    pub fn rounded(&self) -> String {
        let least = if self.value < 10.0 {
            2
        } else {
            usize::from(self.value < 100.0)
        };
        let verdict = self.goal.is_held_by(self.value);
        let texts = (least..=MAX_DIGITS).map(|digits| format!("{:.digits$}", self.value));
        let agrees = |text: &String| {
            let value = text.parse().unwrap_or(f64::NAN);
            self.goal.is_held_by(value) == verdict
        };
        let mut texts = texts.skip_while(|text| !agrees(text));
        texts.next().unwrap_or_else(|| self.value.to_string())
    }
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

/// Returns the processor's name, whether it has SHA instructions, and the number of its cores.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value_of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(model) = value_of("model name") else {
        return format!("an unknown processor, {cores} cores");
    };
    let flags = value_of("flags").unwrap_or_default();
    let has_sha = flags.split(' ').any(|flag| flag == "sha_ni");
    let sha = if has_sha { "with" } else { "without" };
    format!("{model}, {sha} SHA instructions, {cores} cores")
}
