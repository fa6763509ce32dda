//! Two kinds of charts: lines over a logarithmic axis, and dots beside names.

use benches::results::with_commas;

use crate::svg::{Anchor, COLOURS, Svg};

const WIDTH: f64 = 760.0;
const ROW: f64 = 24.0;

/// The name that stands out.
pub(crate) const OWN: &str = "this crate";

/// A named line or set of dots.
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// Whether the series is only for comparison.
    pub(crate) is_reference: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The texts of a chart.
pub(crate) struct Labels<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// The processor and the date.
    pub(crate) note: &'a str,
}

/// Maps values to positions.
struct Axis {
    is_logarithmic: bool,
    values: (f64, f64),
    positions: (f64, f64),
}

impl Axis {
    fn position(&self, value: f64) -> f64 {
        let scale = |value: f64| {
            if self.is_logarithmic {
                value.log10()
            } else {
                value
            }
        };
        let (first, last) = self.values;
        let part = (scale(value) - scale(first)) / (scale(last) - scale(first));
        self.positions.0 + part * (self.positions.1 - self.positions.0)
    }
}

/// Draws lines over a logarithmic x axis. `ticks` are the values that the x axis names.
pub(crate) fn lines(labels: &Labels<'_>, ticks: &[f64], series: &[Series<'_>]) -> String {
    const HEIGHT: f64 = 360.0;
    let (left, right, top, bottom) = (64.0, 560.0, 40.0, 290.0);
    let mut svg = Svg::new(WIDTH, HEIGHT, labels.title);
    frame(&mut svg, labels, HEIGHT);
    let points = series.iter().flat_map(|series| &series.points);
    let highest = points.map(|(_, y)| *y).fold(0.0, f64::max);
    let step = step_of(highest);
    let y_axis = Axis {
        is_logarithmic: false,
        values: (0.0, (highest / step).ceil() * step),
        positions: (bottom, top),
    };
    let x_axis = Axis {
        is_logarithmic: true,
        values: (ticks[0], ticks[ticks.len() - 1]),
        positions: (left, right),
    };
    let mut value = 0.0;
    while value <= y_axis.values.1 + step / 2.0 {
        let y = y_axis.position(value);
        svg.line("grid", (left, y), (right, y));
        let text = if step < 1.0 {
            format!("{value:.1}")
        } else {
            thousands(value)
        };
        svg.text("", Anchor::End, (left - 8.0, y + 4.0), &text);
        value += step;
    }
    for tick in ticks {
        let x = x_axis.position(*tick);
        svg.line("grid", (x, top), (x, bottom));
        svg.text("", Anchor::Middle, (x, bottom + 18.0), &thousands(*tick));
    }
    svg.line("axis", (left, bottom), (right, bottom));
    svg.text(
        "",
        Anchor::Middle,
        (f64::midpoint(left, right), bottom + 40.0),
        labels.x,
    );
    svg.vertical_text((18.0, f64::midpoint(top, bottom)), labels.y);
    for (number, series) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = series
            .points
            .iter()
            .map(|(x, y)| (x_axis.position(*x), y_axis.position(*y)))
            .collect();
        svg.curve(colour, series.is_reference, &points);
        legend(&mut svg, right + 20.0, top, number, series);
    }
    svg.finish()
}

/// Draws a row of dots per name, over a logarithmic x axis. The y of a point is the number of its row.
pub(crate) fn dots(labels: &Labels<'_>, names: &[&str], series: &[Series<'_>]) -> String {
    let rows = f64::from(u32::try_from(names.len()).expect("few rows"));
    let (left, right, top) = (200.0, 640.0, 64.0);
    let bottom = top + rows * ROW;
    let height = bottom + 70.0;
    let mut svg = Svg::new(WIDTH, height, labels.title);
    frame(&mut svg, labels, height);
    let values = || {
        let points = series.iter().flat_map(|series| &series.points);
        points.map(|(x, _)| *x)
    };
    let lowest = 10_f64.powf(values().fold(f64::INFINITY, f64::min).log10().floor());
    let highest = 10_f64.powf(values().fold(0.0, f64::max).log10().ceil());
    let x_axis = Axis {
        is_logarithmic: true,
        values: (lowest, highest),
        positions: (left, right),
    };
    let mut tick = lowest;
    while tick <= highest * 1.01 {
        let x = x_axis.position(tick);
        svg.line("grid", (x, top), (x, bottom));
        svg.text("", Anchor::Middle, (x, bottom + 18.0), &thousands(tick));
        tick *= 10.0;
    }
    svg.text(
        "",
        Anchor::Middle,
        (f64::midpoint(left, right), bottom + 40.0),
        labels.x,
    );
    let y_of = |row: f64| top + (row + 0.5) * ROW;
    let mut row = 0.0;
    for name in names {
        svg.line("grid", (left, y_of(row)), (right, y_of(row)));
        let class = if *name == OWN { "own" } else { "" };
        svg.text(class, Anchor::End, (left - 12.0, y_of(row) + 4.0), name);
        row += 1.0;
    }
    for (number, series) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        for (x, row) in &series.points {
            svg.dot(
                colour,
                series.is_reference,
                (x_axis.position(*x), y_of(*row)),
            );
        }
        let x = if number == 0 { left } else { left + 120.0 };
        legend(
            &mut svg,
            x,
            48.0,
            0,
            &Series {
                points: Vec::new(),
                ..*series
            },
        );
        svg.dot(colour, series.is_reference, (x + 8.0, 44.0));
    }
    svg.finish()
}

fn frame(svg: &mut Svg, labels: &Labels<'_>, height: f64) {
    svg.text("title", Anchor::Start, (16.0, 22.0), labels.title);
    svg.text("note", Anchor::Start, (16.0, height - 10.0), labels.note);
}

fn legend(svg: &mut Svg, x: f64, top: f64, number: usize, series: &Series<'_>) {
    let row = f64::from(u32::try_from(number).expect("few series"));
    let y = top + row * 22.0;
    if !series.points.is_empty() {
        let colour = COLOURS[number % COLOURS.len()];
        svg.curve(colour, series.is_reference, &[(x, y), (x + 16.0, y)]);
    }
    svg.text("", Anchor::Start, (x + 24.0, y + 4.0), series.name);
}

/// Returns a step of 1, 2 or 5 times a power of ten that divides the axis into four to nine parts.
fn step_of(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|factor| factor * power);
    let fits = steps.into_iter().find(|step| highest / step >= 4.0);
    fits.unwrap_or(power)
}

/// Writes a whole number with commas.
fn thousands(value: f64) -> String {
    with_commas(&format!("{value:.0}"))
}
