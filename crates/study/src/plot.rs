//! Line plots as inline SVG, coloured by the style sheet of the page (`style.css`).

use std::fmt::Write;

use crate::page::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Approximate number of ticks on an axis.
const TICKS: f64 = 6.0;
/// Colours of the style sheet. Further series use them again, dashed.
const COLOURS: usize = 8;
/// Height of a line of the legend.
const LEGEND_LINE: f64 = 18.0;
/// Length of the line before a name in the legend, and space between names.
const DASH: f64 = 16.0;
const GAP: f64 = 16.0;
/// Maximum width of a letter in the legend.
const LETTER: f64 = 6.8;
/// Maximum number of points that are marked.
const MAX_MARKS: usize = 40;

/// A line of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// Name in the legend.
    pub(crate) name: String,
    /// (x, y), sorted by x.
    pub(crate) points: Vec<(f64, f64)>,
    /// Lowest and highest y at each point, drawn as a bar; empty without spread.
    pub(crate) spread: Vec<(f64, f64)>,
    /// Whether it is a reference, drawn thin and dashed.
    pub(crate) reference: bool,
}

impl Series {
    /// A line without spread.
    pub(crate) fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.to_owned(),
            points,
            spread: Vec::new(),
            reference: false,
        }
    }
}

/// A plot of several lines over one x.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plot {
    /// Text above the plot.
    pub(crate) title: String,
    /// Text below the x axis.
    pub(crate) x_label: String,
    /// Text beside the y axis.
    pub(crate) y_label: String,
    /// Its lines, without points that are not finite.
    pub(crate) series: Vec<Series>,
    /// Whether the y axis is logarithmic, without points up to 0.
    pub(crate) log_y: bool,
}

impl Plot {
    /// The plot as an `<svg>` element.
    pub(crate) fn to_svg(&self) -> String {
        let drawn = |y: f64| y.is_finite() && (!self.log_y || y > 0.0);
        let points = || self.series.iter().flat_map(|s| &s.points);
        let xs = points().filter(|p| drawn(p.1)).map(|p| p.0);
        let spread = self.series.iter().flat_map(|s| &s.spread);
        let ys = points().map(|p| p.1).chain(spread.flat_map(|s| [s.0, s.1]));
        let scale = |y: f64| if self.log_y { y.log10() } else { y };
        let mut x_axis = Axis::over(xs, false);
        // Updates, blocks and powers of ten are whole numbers.
        x_axis.step = x_axis.step.max(1.0);
        let y_axis = Axis::over(ys.filter(|y| drawn(*y)).map(scale), true);
        let (legend, lines) = self.legend();
        // The legend adds to the height of the image.
        let top = TOP + LEGEND_LINE * lines as f64;
        let bottom = top + HEIGHT - TOP - BOTTOM;
        let x_px = |x: f64| LEFT + x_axis.part(x) * (WIDTH - LEFT - RIGHT);
        let y_px = |y: f64| bottom - y_axis.part(scale(y)) * (bottom - top);

        let mut svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
             aria-label=\"{title}\">\n<text class=\"title\" x=\"{LEFT}\" y=\"18\">{title}</text>\n",
            bottom + BOTTOM,
            title = escape(&self.title)
        );
        self.draw_axes(&mut svg, &x_axis, &y_axis, (top, bottom), x_px, y_px);
        for (at, series) in self.series.iter().enumerate() {
            draw_series(&mut svg, at, series, drawn, x_px, y_px);
        }
        svg + &legend + "</svg>\n"
    }

    fn draw_axes(
        &self,
        svg: &mut String,
        x_axis: &Axis,
        y_axis: &Axis,
        (top, bottom): (f64, f64),
        x_px: impl Fn(f64) -> f64,
        y_px: impl Fn(f64) -> f64,
    ) {
        let right = WIDTH - RIGHT;
        let y_ticks: Vec<(f64, String)> = if self.log_y {
            decades(y_axis)
        } else {
            let decimals = decimals_of(y_axis.step);
            let ticks = y_axis.ticks();
            ticks.map(|y| (y, format!("{y:.decimals$}"))).collect()
        };
        for (y, text) in y_ticks {
            let y = y_px(y);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"tick end\" \
                 x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for x in x_axis.ticks() {
            let _ = writeln!(
                svg,
                "<text class=\"tick middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x_px(x),
                bottom + 17.0,
                short(x)
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>\n<text class=\"label middle\" \
             x=\"{:.1}\" y=\"{:.1}\">{}</text>\n<text class=\"label middle\" transform=\"translate(14 \
             {:.1}) rotate(-90)\">{}</text>",
            f64::midpoint(LEFT, right),
            bottom + 36.0,
            escape(&self.x_label),
            f64::midpoint(top, bottom),
            escape(&self.y_label)
        );
    }

    /// The names of the series in lines below the title, and the number of lines; empty for a single
    /// series.
    fn legend(&self) -> (String, usize) {
        if self.series.len() < 2 {
            return (String::new(), 0);
        }
        let mut text = String::new();
        let (mut left, mut lines) = (LEFT, 1);
        for (at, series) in self.series.iter().enumerate() {
            let wide = DASH + 4.0 + LETTER * series.name.chars().count() as f64;
            if left > LEFT && left + wide > WIDTH - RIGHT {
                (left, lines) = (LEFT, lines + 1);
            }
            let base = 18.0 + LEGEND_LINE * lines as f64;
            let _ = writeln!(
                text,
                "<g class=\"{}\"><path d=\"M{left:.1} {:.1}h{DASH}\"/></g><text class=\"tick\" \
                 x=\"{:.1}\" y=\"{base}\">{}</text>",
                class(at, series),
                base - 4.0,
                left + DASH + 4.0,
                escape(&series.name)
            );
            left += wide + GAP;
        }
        (text, lines)
    }
}

fn draw_series(
    svg: &mut String,
    at: usize,
    series: &Series,
    drawn: impl Fn(f64) -> bool,
    x_px: impl Fn(f64) -> f64,
    y_px: impl Fn(f64) -> f64,
) {
    let _ = writeln!(svg, "<g class=\"{}\">", class(at, series));
    let points = series.points.iter().copied();
    let shown: Vec<(f64, f64)> = points.filter(|p| drawn(p.1)).collect();
    let line: Vec<String> = shown
        .iter()
        .map(|(x, y)| format!("{:.1},{:.1}", x_px(*x), y_px(*y)))
        .collect();
    let _ = writeln!(svg, "<polyline points=\"{}\"/>", line.join(" "));
    for ((x, _), (low, high)) in series.points.iter().zip(&series.spread) {
        if drawn(*low) && drawn(*high) {
            let x = x_px(*x);
            let (low, high) = (y_px(*low), y_px(*high));
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {low:.1}V{high:.1}M{0:.1} {low:.1}h8M{0:.1} {high:.1}h8\"/>",
                x - 4.0
            );
        }
    }
    if shown.len() <= MAX_MARKS && !series.reference {
        for (x, y) in &shown {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}: {}, {y:.5}</title></circle>",
                x_px(*x),
                y_px(*y),
                escape(&series.name),
                short(*x)
            );
        }
    }
    svg.push_str("</g>\n");
}

/// The CSS class of a series.
fn class(at: usize, series: &Series) -> String {
    let drawn = match series.reference {
        true => " reference",
        false if at >= COLOURS => " again",
        false => "",
    };
    format!("series c{}{drawn}", at % COLOURS)
}

/// A range of values with ticks at round ones.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis over all values, with a margin at the ends if `margin`.
    fn over(values: impl Iterator<Item = f64>, margin: bool) -> Self {
        let (mut low, mut high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            let half = if low == 0.0 { 0.5 } else { low.abs() * 0.05 };
            (low, high) = (low - half, high + half);
        }
        if margin {
            let more = 0.06 * (high - low);
            (low, high) = (low - more, high + more);
        }
        let raw = (high - low) / TICKS;
        let magnitude = 10.0_f64.powf(raw.log10().floor());
        let round = [1.0, 2.0, 5.0, 10.0];
        let factor = round.into_iter().find(|f| f * magnitude >= raw);
        Self {
            low,
            high,
            step: factor.unwrap_or(10.0) * magnitude,
        }
    }

    fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (first, last) = (
            (self.low / self.step).ceil() as i64,
            (self.high / self.step + 1e-9).floor() as i64,
        );
        (first..=last).map(|i| i as f64 * self.step)
    }
}

/// Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten.
fn decades(axis: &Axis) -> Vec<(f64, String)> {
    let (low, high) = (axis.low.floor() as i32, axis.high.ceil() as i32);
    let wide = axis.high - axis.low > 2.5;
    let factors: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
    (low..=high)
        .flat_map(|power| {
            factors
                .iter()
                .map(move |f| (power, f * 10.0_f64.powi(power)))
        })
        .filter(|(_, y)| (axis.low..=axis.high).contains(&y.log10()))
        .map(|(power, y)| match usize::try_from(-power).unwrap_or(0) {
            decimals @ 0..=3 => (y, format!("{y:.decimals$}")),
            _ => (y, format!("{y:.0e}")),
        })
        .collect()
}

fn decimals_of(step: f64) -> usize {
    (-step.log10().floor()).max(0.0) as usize
}

/// A short number, such as 250k or 1.5M.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, log_y: bool) -> Plot {
        Plot {
            title: "loss <1>".to_owned(),
            x_label: "updates".to_owned(),
            y_label: "loss".to_owned(),
            series: vec![Series::new("a", points)],
            log_y,
        }
    }

    /// The points of the first line, in pixels.
    fn line(svg: &str) -> Vec<(f64, f64)> {
        let (_, rest) = svg.split_once("<polyline points=\"").expect("a line");
        let (points, _) = rest.split_once('"').expect("an end");
        let number = |text: &str| text.parse::<f64>().expect("a number");
        points
            .split_whitespace()
            .map(|point| {
                let (x, y) = point.split_once(',').expect("a point");
                (number(x), number(y))
            })
            .collect()
    }

    #[test]
    fn points_match_the_axes() {
        let svg = plot(vec![(0.0, 1.0), (50.0, 3.0), (100.0, 2.0)], false).to_svg();
        let points = line(&svg);
        assert_eq!(points[0].0, LEFT);
        assert_eq!(points[2].0, WIDTH - RIGHT);
        // Larger values are higher up, in proportion.
        assert!(
            points[1].1 < points[2].1 && points[2].1 < points[0].1,
            "{points:?}"
        );
        let middle = f64::midpoint(points[0].1, points[1].1);
        assert!((points[2].1 - middle).abs() < 0.2, "{points:?}");
        assert!(
            svg.contains("loss &lt;1&gt;") && !svg.contains("<1>"),
            "{svg}"
        );
    }

    #[test]
    fn skips_points_that_cannot_be_drawn() {
        let points = vec![(0.0, 0.1), (1.0, f64::NAN), (2.0, 0.0), (3.0, 0.001)];
        let svg = plot(points.clone(), true).to_svg();
        assert_eq!(line(&svg).len(), 2);
        assert!(svg.contains(">0.01<"), "a tick: {svg}");
        let svg = plot(vec![(0.0, 1e-3), (1.0, 1e-6)], true).to_svg();
        assert!(svg.contains(">1e-5<"), "a tick: {svg}");
        assert_eq!(line(&plot(points, false).to_svg()).len(), 3);
        // A plot without points and with a single point.
        for points in [vec![], vec![(5.0, 30.0)]] {
            let svg = plot(points, false).to_svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn long_legends_wrap() {
        let mut many = plot(vec![(0.0, 1.0), (1.0, 2.0)], false);
        let names = (0..10).map(|at| format!("configuration {at}"));
        many.series = names
            .map(|name| Series::new(&name, vec![(0.0, 1.0), (1.0, 2.0)]))
            .collect();
        let svg = many.to_svg();
        let (legend, lines) = many.legend();
        assert!(lines > 1, "{legend}");
        let mut ends = Vec::new();
        for part in legend.split("x=\"").skip(1) {
            let (x, rest) = part.split_once('"').expect("a position");
            let (_, rest) = rest.split_once("y=\"").expect("a position");
            let (y, _) = rest.split_once('"').expect("a position");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            ends.push((y, x));
            assert!(x + 15.0 * LETTER <= WIDTH, "{x}");
            // Below the title, above the plot.
            assert!(y > 18.0 && y < TOP + LEGEND_LINE * lines as f64, "{y}");
        }
        assert_eq!(ends.len(), 10);
        assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
        assert!(svg.contains("series c7\"") && svg.contains("series c0 again"));
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::over([33.1, 34.0].into_iter(), false);
        let ticks: Vec<String> = axis.ticks().map(|t| format!("{t:.1}")).collect();
        assert_eq!(ticks, ["33.2", "33.4", "33.6", "33.8", "34.0"]);
        for (value, expected) in [
            (250_000.0, "250k"),
            (1.5e6, "1.5M"),
            (500.0, "500"),
            (0.0, "0"),
        ] {
            assert_eq!(short(value), expected);
        }
    }
}
