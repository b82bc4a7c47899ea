//! Named points, in groups, over two values.

use std::fmt::Write;

use super::scale::Scale;
use super::{LEFT, RIGHT, WIDTH, clip, number, open, straight, text, text_width, y_label, y_ticks};

const HEIGHT: f64 = 380.0;
const TOP: f64 = 48.0;
/// More names than these would hide each other.
const MOST_NAMES: usize = 40;

/// A point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dot {
    /// Beside it.
    pub name: String,
    /// In the legend; dots of a group have a colour in common.
    pub group: String,
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
}

/// Points in one coordinate system. Those that have no place in it (NaN, infinite, not positive on a logarithmic axis) are counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScatterPlot {
    /// Above the plot.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// Logarithmic x axis.
    pub log_x: bool,
    /// The line on which both values are equal.
    pub diagonal: bool,
    /// The points.
    pub dots: Vec<Dot>,
}

impl ScatterPlot {
    /// The plot as an `<svg>` element to put into HTML or a file.
    pub fn svg(&self) -> String {
        let mut svg = open(TOP + HEIGHT + 44.0, &self.title);
        text(&mut svg, WIDTH / 2.0, 16.0, "middle", &self.title);
        let mut groups: Vec<&str> = Vec::new();
        for dot in &self.dots {
            if !groups.contains(&dot.group.as_str()) {
                groups.push(&dot.group);
            }
        }
        legend(&mut svg, &groups);
        let (x, y) = self.scales();
        let bottom = TOP + HEIGHT;
        match (x, y) {
            (Some(x), Some(y)) => self.draw(&mut svg, &groups, x, y),
            _ => text(&mut svg, WIDTH / 2.0, TOP + HEIGHT / 2.0, "middle", "no data"),
        }
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let _ =
            write!(svg, "<path class=\"axis\" d=\"M{left} {}V{}H{right}\"/>", number(TOP), number(bottom));
        y_label(&mut svg, TOP, HEIGHT, &self.y_label);
        text(&mut svg, (left + right) / 2.0, bottom + 36.0, "middle", &self.x_label);
        svg.push_str("</svg>");
        svg
    }

    /// Both scales cover what has a place on both; on a plot with a diagonal they are the same.
    fn scales(&self) -> (Option<Scale>, Option<Scale>) {
        let drawn = |dot: &&Dot| {
            let on = |value: f64, log| Scale::covering([value].into_iter(), log).is_some();
            on(dot.x, self.log_x) && on(dot.y, false)
        };
        let dots: Vec<&Dot> = self.dots.iter().filter(drawn).collect();
        let padded = |values: Vec<f64>, log| Scale::covering(values.into_iter(), log).map(Scale::padded);
        if self.diagonal {
            let both = padded(dots.iter().flat_map(|dot| [dot.x, dot.y]).collect(), false);
            return (both, both);
        }
        let x = padded(dots.iter().map(|dot| dot.x).collect(), self.log_x);
        (x, padded(dots.iter().map(|dot| dot.y).collect(), false))
    }

    fn draw(&self, svg: &mut String, groups: &[&str], x: Scale, y: Scale) {
        let bottom = TOP + HEIGHT;
        let across = |position: f64| LEFT + position * (WIDTH - RIGHT - LEFT);
        let up = |position: f64| bottom - position * HEIGHT;
        y_ticks(svg, &y.ticks(6), |value| up(y.position(value).unwrap_or(0.0)));
        for tick in x.ticks(8) {
            if let Some(position) = x.position(tick.value) {
                let at = across(position);
                straight(svg, "axis", (at, bottom), (at, bottom + 4.0));
                text(svg, at, bottom + 17.0, "middle", &tick.label);
            }
        }
        if self.diagonal {
            straight(svg, "grid", (across(0.0), up(0.0)), (across(1.0), up(1.0)));
        }
        let names = self.dots.len() <= MOST_NAMES;
        for dot in &self.dots {
            let (Some(at), Some(height)) = (x.position(dot.x), y.position(dot.y)) else { continue };
            let colour = groups.iter().position(|group| *group == dot.group).unwrap_or(0);
            let (at, height) = (across(at), up(height));
            let _ = write!(
                svg,
                "<circle class=\"f{}\" cx=\"{}\" cy=\"{}\" r=\"4\"/>",
                colour % super::LIGHT.len(),
                number(at),
                number(height)
            );
            if names {
                // Towards the middle, where there is room.
                let (shift, anchor) = if at < WIDTH / 2.0 { (8.0, "start") } else { (-8.0, "end") };
                text(svg, at + shift, height + 4.0, anchor, &clip(&dot.name, 40));
            }
        }
    }
}

fn legend(svg: &mut String, groups: &[&str]) {
    let mut x = LEFT;
    for (index, group) in groups.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
        let group = clip(group, 48);
        let colour = index % super::LIGHT.len();
        let _ = write!(svg, "<circle class=\"f{colour}\" cx=\"{}\" cy=\"32\" r=\"4\"/>", number(x + 6.0));
        text(svg, x + 18.0, 36.0, "start", &group);
        x += 40.0 + text_width(&group);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_well_formed;
    use super::*;
    use proptest::prelude::*;

    fn dot(name: &str, group: &str, x: f64, y: f64) -> Dot {
        Dot { name: name.into(), group: group.into(), x, y }
    }

    #[test]
    fn dots_have_names_and_groups_and_the_diagonal_is_one() {
        let dots =
            vec![dot("a<", "chosen", 0.2, 0.4), dot("b", "held out", 0.4, 0.2), dot("c", "", f64::NAN, 1.0)];
        let plot = ScatterPlot { title: "Agreement".into(), diagonal: true, dots, ..ScatterPlot::default() };
        let svg = plot.svg();
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<circle").count(), 2 + 2, "two in the legend, two dots");
        assert!(svg.contains("a&lt;") && svg.contains("held out"), "{svg}");
        let (x, y) = plot.scales();
        assert_eq!(x, y, "equal values lie on the diagonal");
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let none = ScatterPlot { log_x: true, dots: vec![dot("a", "g", 0.0, 1.0)], ..ScatterPlot::default() };
        for plot in [ScatterPlot::default(), none] {
            let svg = plot.svg();
            assert_well_formed(&svg);
            assert!(svg.contains("no data"));
        }
    }

    proptest! {
        #[test]
        fn any_values_are_drawn(values: Vec<(f64, f64, String)>, log_x: bool, diagonal: bool) {
            let dots = values.iter().map(|(x, y, name)| dot(name, name, *x, *y)).collect();
            let log_x = log_x && !diagonal;
            assert_well_formed(&ScatterPlot { log_x, diagonal, dots, ..ScatterPlot::default() }.svg());
        }
    }
}
