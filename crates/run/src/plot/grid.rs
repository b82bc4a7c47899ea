//! Squares of coloured cells side by side, for masks.

use std::fmt::Write;

use super::{LIGHT, RIGHT, WIDTH, clip, number, open, straight, text};

/// Space around squares.
const MARGIN: f64 = 24.0;
/// What a faint cell has of its colour.
const FAINT: &str = ".3";

/// A cell that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shade {
    /// Its colour; more than there are begin anew.
    pub colour: usize,
    /// Drawn pale.
    pub faint: bool,
}

/// A square of cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Square {
    /// Above it.
    pub title: String,
    /// Row by row from the top, each from the left; rows may be shorter than the square.
    pub cells: Vec<Vec<Option<Shade>>>,
    /// Lines before these rows and columns.
    pub borders: Vec<usize>,
}

/// Squares in rows, each row with a caption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GridPlot {
    /// Above all.
    pub title: String,
    /// From top to bottom.
    pub rows: Vec<(String, Vec<Square>)>,
}

impl GridPlot {
    /// The plot as an `<svg>` element to put into HTML or a file.
    pub fn svg(&self) -> String {
        let side = |squares: &[Square]| {
            let columns = squares.len().max(1) as f64;
            ((WIDTH - RIGHT - MARGIN) / columns - MARGIN).min(340.0)
        };
        let heights: f64 = self.rows.iter().map(|(_, squares)| side(squares) + 2.0 * MARGIN + 14.0).sum();
        let mut svg = open(40.0 + heights, &self.title);
        text(&mut svg, WIDTH / 2.0, 16.0, "middle", &self.title);
        let mut top = 40.0;
        for (caption, squares) in &self.rows {
            let side = side(squares);
            text(&mut svg, MARGIN, top, "start", &clip(caption, 110));
            for (index, square) in squares.iter().enumerate() {
                let left = MARGIN + index as f64 * (side + MARGIN);
                text(&mut svg, left, top + 18.0, "start", &clip(&square.title, 50));
                square.draw(&mut svg, (left, top + MARGIN), side);
            }
            top += side + 2.0 * MARGIN + 14.0;
        }
        svg.push_str("</svg>");
        svg
    }
}

impl Square {
    fn draw(&self, svg: &mut String, (left, top): (f64, f64), side: f64) {
        let n = self.cells.len().max(1);
        let cell = side / n as f64;
        for (row, cells) in self.cells.iter().enumerate() {
            let mut at = 0;
            // One rectangle for neighbours that look the same.
            for run in cells[..cells.len().min(n)].chunk_by(|a, b| a == b) {
                if let Some(shade) = run[0] {
                    let opacity = if shade.faint { format!(" opacity=\"{FAINT}\"") } else { String::new() };
                    let _ = write!(
                        svg,
                        "<rect class=\"f{}\"{opacity} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                        shade.colour % LIGHT.len(),
                        number(left + at as f64 * cell),
                        number(top + row as f64 * cell),
                        number(run.len() as f64 * cell),
                        number(cell)
                    );
                }
                at += run.len();
            }
        }
        for line in 0..=n {
            let class = if line == 0 || line == n || self.borders.contains(&line) { "axis" } else { "grid" };
            let at = line as f64 * cell;
            straight(svg, class, (left, top + at), (left + side, top + at));
            straight(svg, class, (left + at, top), (left + at, top + side));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_well_formed;
    use super::*;

    #[test]
    fn cells_runs_and_borders() {
        let own = Some(Shade { colour: 0, faint: false });
        let other = Some(Shade { colour: 8, faint: true });
        let square = Square {
            title: "a < b".into(),
            cells: vec![vec![own], vec![own, own], vec![other, None, own, own, own]],
            borders: vec![1],
        };
        let svg =
            GridPlot { title: "t".into(), rows: vec![("c".into(), vec![square, Square::default()])] }.svg();
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert!(svg.contains("class=\"f1\" opacity"), "{svg}");
        assert_well_formed(&GridPlot::default().svg());
    }
}
