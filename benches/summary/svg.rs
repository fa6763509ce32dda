//! SVG as text. The colours suit a light and a dark background.

use std::fmt::Write;

/// The colours of series.
pub(crate) const COLOURS: [&str; 4] = ["#2f81f7", "#bf8700", "#2da44e", "#a371f7"];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}\
    .title{font-weight:600;font-size:14px}.own{font-weight:600}.note{fill:#57606a}\
    .grid{stroke:#d0d7de}.axis{stroke:#57606a}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}\
    .grid{stroke:#3d444d}.axis{stroke:#9198a1}}";

/// The side of its position on which a text stands.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

pub(crate) struct Svg(String);

impl Svg {
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n"
        ))
    }

    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(&format!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// Draws a line through points, with a circle at each. A reference has a dashed line.
    pub(crate) fn curve(&mut self, colour: &str, is_reference: bool, points: &[(f64, f64)]) {
        let positions: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let dashes = if is_reference {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        self.push(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            positions.join(" ")
        ));
        for point in points {
            self.dot(colour, is_reference, *point);
        }
    }

    /// Draws a filled circle, or an empty one.
    pub(crate) fn dot(&mut self, colour: &str, is_empty: bool, (x, y): (f64, f64)) {
        let fill = if is_empty { "none" } else { colour };
        self.push(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\" \
             stroke-width=\"2\"/>"
        ));
    }

    pub(crate) fn text(&mut self, class: &str, anchor: Anchor, (x, y): (f64, f64), text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.push(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// Writes a text that reads upwards.
    pub(crate) fn vertical_text(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escape(text);
        self.push(&format!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    pub(crate) fn finish(mut self) -> String {
        self.push("</svg>");
        self.0
    }

    fn push(&mut self, element: &str) {
        writeln!(self.0, "{element}").expect("a string accepts any text");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
