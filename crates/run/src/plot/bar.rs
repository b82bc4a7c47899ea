//! Bars with error bars, for scores.

use std::fmt::Write;

use super::scale::{Scale, drawable, label};
use super::{LEFT, RIGHT, WIDTH, clip, number, open, straight, text, text_width, y_label, y_ticks};

const HEIGHT: f64 = 240.0;

/// One bar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// Below the bar.
    pub name: String,
    /// Bars of one group have one colour, told in the legend; may be empty.
    pub group: String,
    /// Its height; a value that is not finite is told as "n/a".
    pub value: f64,
    /// Half the length of the error bar.
    pub error: Option<f64>,
}

/// Bars side by side, from zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// Beside the y axis.
    pub y_label: String,
    /// From left to right.
    pub bars: Vec<Bar>,
}

impl BarChart {
    /// The chart as an `<svg>` element to put into HTML.
    pub fn svg(&self) -> String {
        let slot = (WIDTH - RIGHT - LEFT) / self.bars.len().max(1) as f64;
        let turned = self.bars.iter().any(|bar| text_width(&bar.name) > slot - 4.0);
        let names = if turned { 90.0 } else { 24.0 };
        let mut groups: Vec<&str> = Vec::new();
        for bar in &self.bars {
            if !bar.group.is_empty() && !groups.contains(&bar.group.as_str()) {
                groups.push(&bar.group);
            }
        }
        let top = if groups.is_empty() { 30.0 } else { 48.0 };
        let mut svg = open(top + HEIGHT + names, &self.title);
        text(&mut svg, WIDTH / 2.0, 16.0, "middle", &self.title);
        draw_groups(&mut svg, &groups);
        let ends = self.bars.iter().filter(|bar| drawable(bar.value, false)).flat_map(|bar| {
            let error = error_of(bar);
            [0.0, bar.value - error, bar.value + error]
        });
        let Some(scale) = Scale::covering(ends, false).map(Scale::padded) else {
            text(&mut svg, WIDTH / 2.0, top + HEIGHT / 2.0, "middle", "no data");
            svg.push_str("</svg>");
            return svg;
        };
        let y = |value: f64| top + HEIGHT * (1.0 - scale.position(value).unwrap_or(0.0));
        y_ticks(&mut svg, &scale.ticks(5), y);
        for (index, bar) in self.bars.iter().enumerate() {
            let colour =
                groups.iter().position(|group| *group == bar.group).unwrap_or(0) % super::LIGHT.len();
            let middle = LEFT + slot * (index as f64 + 0.5);
            bar.draw(&mut svg, colour, middle, slot, y);
            bar.draw_name(&mut svg, middle, top + HEIGHT, turned);
        }
        straight(&mut svg, "axis", (LEFT, y(0.0)), (WIDTH - RIGHT, y(0.0)));
        y_label(&mut svg, top, HEIGHT, &self.y_label);
        svg.push_str("</svg>");
        svg
    }
}

impl Bar {
    fn draw(&self, svg: &mut String, colour: usize, middle: f64, slot: f64, y: impl Fn(f64) -> f64) {
        if !drawable(self.value, false) {
            text(svg, middle, y(0.0) - 4.0, "middle", "n/a");
            return;
        }
        let width = (slot * 0.7).min(60.0);
        let (low, high) = (y(self.value.min(0.0)), y(self.value.max(0.0)));
        let _ = write!(
            svg,
            "<rect class=\"f{colour}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            number(middle - width / 2.0),
            number(high),
            number(width),
            number(low - high)
        );
        let error = error_of(self);
        if error > 0.0 {
            let (low, high) = (y(self.value - error), y(self.value + error));
            straight(svg, "axis", (middle, low), (middle, high));
            for end in [low, high] {
                straight(svg, "axis", (middle - 4.0, end), (middle + 4.0, end));
            }
        }
        // Three significant digits, where there is room for them.
        let shown = label(self.value, self.value.abs() / 100.0);
        if text_width(&shown) <= slot {
            text(svg, middle, y(self.value.max(0.0) + error) - 4.0, "middle", &shown);
        }
    }

    fn draw_name(&self, svg: &mut String, middle: f64, bottom: f64, turned: bool) {
        let name = clip(&self.name, if turned { 18 } else { 60 });
        if turned {
            let (x, y) = (number(middle), number(bottom + 14.0));
            let _ = write!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" transform=\"rotate(-40 {x} {y})\">{}</text>",
                super::escape(&name)
            );
        } else {
            text(svg, middle, bottom + 16.0, "middle", &name);
        }
    }
}

fn error_of(bar: &Bar) -> f64 {
    bar.error.filter(|error| drawable(*error, false)).map_or(0.0, f64::abs)
}

fn draw_groups(svg: &mut String, groups: &[&str]) {
    let mut x = LEFT;
    for (index, group) in groups.iter().enumerate() {
        let group = clip(group, 48);
        let colour = index % super::LIGHT.len();
        let _ = write!(
            svg,
            "<rect class=\"f{colour}\" x=\"{}\" y=\"26\" width=\"12\" height=\"12\"/>",
            number(x)
        );
        text(svg, x + 18.0, 36.0, "start", &group);
        x += 40.0 + text_width(&group);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_well_formed;
    use super::*;
    use proptest::prelude::*;

    fn bar(name: &str, value: f64, error: Option<f64>) -> Bar {
        Bar { name: name.into(), group: "g".into(), value, error }
    }

    #[test]
    fn bars_errors_and_missing_values() {
        let bars = vec![bar("a", 0.5, Some(0.1)), bar("b<", -0.25, None), bar("c", f64::NAN, Some(f64::NAN))];
        let svg = BarChart { title: "Scores".into(), y_label: "accuracy".into(), bars }.svg();
        assert_well_formed(&svg);
        assert!(svg.contains("n/a") && svg.contains(">0.5<") && svg.contains(">-0.25<"), "{svg}");
        assert_well_formed(&BarChart::default().svg());
        assert!(BarChart::default().svg().contains("no data"));
    }

    proptest! {
        #[test]
        fn any_values_are_drawn(values: Vec<(f64, Option<f64>, String)>) {
            let bars = values.iter().map(|(value, error, name)| bar(name, *value, *error)).collect();
            assert_well_formed(&BarChart { bars, ..BarChart::default() }.svg());
        }
    }
}
