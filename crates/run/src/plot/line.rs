//! Lines over a shared x axis, in one or more panels.

use std::fmt::Write;

use super::scale::{Scale, drawable};
use super::{LEFT, RIGHT, WIDTH, clip, number, open, straight, text, text_width, y_label, y_ticks};

const HEIGHT: f64 = 220.0;
const COLOURS: usize = super::LIGHT.len();
/// Columns into which long series are thinned: more than the pixels of a report.
const COLUMNS: usize = 1000;

/// One line. NaN, infinite and, on a logarithmic axis, non-positive values are gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A named line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points }
    }
}

/// One coordinate system with its own y axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// Beside the y axis.
    pub y_label: String,
    /// Logarithmic y axis.
    pub log_y: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// Panels below each other that share the x axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinePlot {
    /// Above the plot.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Logarithmic x axis.
    pub log_x: bool,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

impl LinePlot {
    /// The plot as an `<svg>` element to put into HTML. A panel without drawable points says so.
    pub fn svg(&self) -> String {
        let legends: Vec<Vec<LegendEntry>> = self.panels.iter().map(legend).collect();
        let rows = |entries: &[LegendEntry]| entries.last().map_or(0, |entry| entry.row + 1);
        let panel_height = |entries: &[LegendEntry]| HEIGHT + 18.0 * rows(entries) as f64 + 14.0;
        let height = 24.0 + legends.iter().map(|entries| panel_height(entries)).sum::<f64>() + 34.0;
        let mut svg = open(height, &self.title);
        text(&mut svg, WIDTH / 2.0, 16.0, "middle", &self.title);
        let all_x = self.panels.iter().flat_map(|panel| {
            let points = panel.series.iter().flat_map(|series| &series.points);
            points.filter(|point| drawable(point.1, panel.log_y)).map(|point| point.0)
        });
        let x = Scale::covering(all_x, self.log_x);
        let mut top = 24.0;
        for (panel, entries) in self.panels.iter().zip(&legends) {
            for entry in entries {
                entry.draw(&mut svg, top);
            }
            top += 18.0 * rows(entries) as f64 + 4.0;
            panel.draw(&mut svg, top, x);
            top += HEIGHT + 10.0;
        }
        self.draw_x(&mut svg, top - 10.0, x);
        svg.push_str("</svg>");
        svg
    }

    fn draw_x(&self, svg: &mut String, bottom: f64, x: Option<Scale>) {
        for tick in x.iter().flat_map(|scale| scale.ticks(8)) {
            if let Some(position) = x.and_then(|scale| scale.position(tick.value)) {
                let at = horizontal(position);
                straight(svg, "axis", (at, bottom), (at, bottom + 4.0));
                text(svg, at, bottom + 17.0, "middle", &tick.label);
            }
        }
        text(svg, (LEFT + WIDTH - RIGHT) / 2.0, bottom + 34.0, "middle", &self.x_label);
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, top: f64, x: Option<Scale>) {
        let drawn_x = |at: f64| x.is_some_and(|scale| scale.position(at).is_some());
        let values = self.series.iter().flat_map(|series| &series.points);
        let values = values.filter(|point| drawn_x(point.0)).map(|point| point.1);
        let y = Scale::covering(values, self.log_y).map(Scale::padded);
        let vertical = |position: f64| top + HEIGHT * (1.0 - position);
        if let (Some(x), Some(y)) = (x, y) {
            y_ticks(svg, &y.ticks(5), |value| vertical(y.position(value).unwrap_or(0.0)));
            for (index, series) in self.series.iter().enumerate() {
                let place = |point: &(f64, f64)| {
                    Some((horizontal(x.position(point.0)?), vertical(y.position(point.1)?)))
                };
                draw_series(svg, index % COLOURS, series.points.iter().map(place));
            }
        } else {
            text(svg, WIDTH / 2.0, top + HEIGHT / 2.0, "middle", "no data");
        }
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, top + HEIGHT);
        let _ =
            write!(svg, "<path class=\"axis\" d=\"M{left} {}V{}H{right}\"/>", number(top), number(bottom));
        y_label(svg, top, HEIGHT, &self.y_label);
    }
}

fn horizontal(position: f64) -> f64 {
    LEFT + (WIDTH - RIGHT - LEFT) * position
}

/// Runs of points between gaps; a lone point becomes a dot.
fn draw_series(svg: &mut String, colour: usize, points: impl Iterator<Item = Option<(f64, f64)>>) {
    let mut run: Vec<(f64, f64)> = Vec::new();
    for point in points.chain([None]) {
        if let Some(point) = point {
            run.push(point);
            continue;
        }
        match run.as_slice() {
            [] => {}
            [(x, y)] => {
                let (x, y) = (number(*x), number(*y));
                let _ = write!(svg, "<circle class=\"f{colour}\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>");
            }
            points => {
                let _ = write!(svg, "<polyline class=\"line s{colour}\" points=\"");
                for (x, y) in thin(points) {
                    let _ = write!(svg, "{},{} ", number(x), number(y));
                }
                svg.push_str("\"/>");
            }
        }
        run.clear();
    }
}

/// First, lowest, highest and last point of each column, so that spikes survive.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 4 * COLUMNS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(4 * COLUMNS);
    for chunk in points.chunks(points.len().div_ceil(COLUMNS)) {
        let by = |better: fn(f64, f64) -> bool| {
            (1..chunk.len()).fold(0, |best, at| if better(chunk[at].1, chunk[best].1) { at } else { best })
        };
        let mut at = [0, by(|a, b| a < b), by(|a, b| a > b), chunk.len() - 1];
        at.sort_unstable();
        for (index, &position) in at.iter().enumerate() {
            if index == 0 || at[index - 1] != position {
                kept.push(chunk[position]);
            }
        }
    }
    kept
}

struct LegendEntry {
    name: String,
    colour: usize,
    row: usize,
    x: f64,
}

impl LegendEntry {
    fn draw(&self, svg: &mut String, top: f64) {
        let y = top + 18.0 * self.row as f64 + 9.0;
        straight(svg, &format!("line s{}", self.colour), (self.x, y), (self.x + 18.0, y));
        text(svg, self.x + 24.0, y + 4.0, "start", &self.name);
    }
}

/// Entries left to right, in as many rows as their estimated widths need.
fn legend(panel: &Panel) -> Vec<LegendEntry> {
    let (mut x, mut row) = (LEFT, 0);
    let mut entries = Vec::new();
    for (index, series) in panel.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty()) {
        let name = clip(&series.name, 48);
        let width = 40.0 + text_width(&name);
        if x > LEFT && x + width > WIDTH - RIGHT {
            (x, row) = (LEFT, row + 1);
        }
        entries.push(LegendEntry { name, colour: index % COLOURS, row, x });
        x += width;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_well_formed;
    use super::*;
    use proptest::prelude::*;

    fn plot(points: Vec<(f64, f64)>, log: bool) -> LinePlot {
        let series = vec![Series::new("train <loss> & \"more\"", points), Series::default()];
        let panel = Panel { y_label: "loss".into(), log_y: log, series };
        LinePlot {
            title: "Loss".into(),
            x_label: "step".into(),
            log_x: log,
            panels: vec![panel.clone(), panel],
        }
    }

    #[test]
    fn gaps_split_lines() {
        let points =
            vec![(1.0, 1.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, f64::INFINITY), (6.0, 2.0)];
        let svg = plot(points, false).svg();
        assert_well_formed(&svg);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4));
    }

    #[test]
    fn empty_plots_say_so() {
        for plot in [
            LinePlot::default(),
            plot(vec![], true),
            plot(vec![(1.0, f64::NAN)], false),
            plot(vec![(1.0, -1.0)], true),
        ] {
            let svg = plot.svg();
            assert_well_formed(&svg);
            assert_eq!(svg.matches("no data").count(), plot.panels.len());
        }
    }

    #[test]
    fn long_series_are_thinned_but_keep_their_spikes() {
        let mut points: Vec<_> = (0..100_000).map(|x| (f64::from(x), (f64::from(x) * 0.01).sin())).collect();
        points[54_321].1 = 50.0;
        let kept = thin(&points);
        assert!(kept.len() <= 4 * COLUMNS && kept.contains(&(54_321.0, 50.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
        assert!(plot(points, false).svg().len() < 200_000);
    }

    #[test]
    fn many_names_wrap() {
        let series =
            (0..20).map(|n| Series::new(format!("a rather long name {n}"), vec![(0.0, 1.0), (1.0, 2.0)]));
        let panel = Panel { series: series.collect(), ..Panel::default() };
        let svg = LinePlot { panels: vec![panel], ..LinePlot::default() }.svg();
        assert_well_formed(&svg);
    }

    proptest! {
        #[test]
        fn any_values_are_drawn(points: Vec<(f64, f64)>, log: bool) {
            assert_well_formed(&plot(points, log).svg());
        }
    }
}
