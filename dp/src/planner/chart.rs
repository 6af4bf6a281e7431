//! The plan as a picture: ε over time for each budget, and a result with its error band.
//!
//! Readable without colour: lines differ by their dashes and carry their names, the limit is labelled.

use std::fmt::Write as _;

use super::compare::Choice;
use super::course::Course;
use crate::explain::printed_epsilon;
use crate::units::units_to_rational;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 240.0;
const DASHES: [&str; 4] = ["", "8 4", "2 3", "12 4 2 4"];

/// An SVG document of two panels: the loss over the days, and how far results of `choice` scatter.
pub fn chart(title: &str, courses: &[Course], choice: &Choice) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 540\" font-family=\"sans-serif\" \
         font-size=\"13\" role=\"img\">\n<title>{0}</title>\n<rect width=\"{WIDTH}\" height=\"540\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{0}</text>\n",
        escaped(title)
    );
    loss_panel(&mut svg, courses);
    error_panel(&mut svg, choice);
    svg.push_str("</svg>\n");
    svg
}

/// Shares of each limit over the days: at the top line a budget is exhausted.
fn loss_panel(svg: &mut String, courses: &[Course]) {
    let days = courses.iter().map(|course| course.days.len()).max().unwrap_or(0).max(1);
    let x = |day: f64| LEFT + (RIGHT - LEFT) * day / number(days);
    let y = |share: f64| TOP + HEIGHT * (1.0 - share.clamp(0.0, 1.0));
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let at = y(percent / 100.0);
        line(svg, (LEFT, at), (RIGHT, at), "stroke=\"#ccc\"");
        text(svg, (LEFT - 8.0, at + 4.0), "end", &format!("{percent:.0} %"));
    }
    for quarter in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let day = (quarter * number(days)).round();
        text(svg, (x(day), TOP + HEIGHT + 18.0), "middle", &format!("{day}"));
    }
    line(svg, (LEFT, y(1.0)), (RIGHT, y(1.0)), "stroke=\"black\" stroke-width=\"2\"");
    text(svg, (RIGHT, y(1.0) - 6.0), "end", "limit: what would pass it is refused");
    text(svg, (f64::midpoint(LEFT, RIGHT), TOP + HEIGHT + 36.0), "middle", "day");
    text(svg, (LEFT - 60.0, TOP - 14.0), "start", "spent of the limit, in the fullest window");
    for ((index, course), dash) in courses.iter().enumerate().zip(DASHES.iter().cycle()) {
        let limit = units_to_rational(course.paying.account.limit).approximate().max(f64::MIN_POSITIVE);
        let share = |units: i64| units_to_rational(units).approximate() / limit;
        let mut path = format!("M{:.1} {:.1}", x(0.0), y(0.0));
        for day in &course.days {
            let _ = write!(path, " L{:.1} {:.1}", x(f64::from(day.day)), y(share(day.spent)));
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"black\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>"
        );
        let last = course.days.last();
        let at = (RIGHT + 10.0, TOP + 14.0 + 40.0 * number(index));
        line(
            svg,
            at,
            (at.0 + 30.0, at.1),
            &format!("stroke=\"black\" stroke-width=\"2\" stroke-dasharray=\"{dash}\""),
        );
        text(svg, (at.0 + 36.0, at.1 + 4.0), "start", &course.paying.account.budget_id);
        let epsilon = last.and_then(|day| day.epsilon);
        let epsilon =
            epsilon.map_or_else(|| "no epsilon".to_owned(), |it| format!("epsilon {}", printed_epsilon(it)));
        text(svg, (at.0 + 36.0, at.1 + 20.0), "start", &epsilon);
    }
}

/// The band in which 95 of 100 results are, beside the one with a single standard deviation.
fn error_panel(svg: &mut String, choice: &Choice) {
    let (top, middle) = (420.0, f64::midpoint(LEFT, RIGHT));
    let half = whole(choice.half_width).max(1.0);
    let x = |error: f64| middle + (RIGHT - LEFT) / 2.0 * error / (1.25 * half);
    text(
        svg,
        (LEFT - 60.0, top - 34.0),
        "start",
        "how far a result may be from the truth, both aggregators' noise",
    );
    band(svg, (x(-half), x(half)), (top - 18.0, 36.0), "fill=\"#eee\" stroke=\"black\"");
    let deviation = choice.deviation.min(half);
    band(
        svg,
        (x(-deviation), x(deviation)),
        (top - 12.0, 24.0),
        "fill=\"#bbb\" stroke=\"black\" stroke-dasharray=\"4 2\"",
    );
    line(svg, (middle, top - 24.0), (middle, top + 24.0), "stroke=\"black\" stroke-width=\"2\"");
    for error in [-half, 0.0, half] {
        text(svg, (x(error), top + 40.0), "middle", &format!("{error:+.0}"));
    }
    text(svg, (middle, top + 58.0), "middle", "error of one coordinate");
    let words = [
        format!("light: each value in 95 of 100 results, ±{}", choice.half_width),
        format!("dark: one standard deviation, {:.1}", choice.deviation),
        choice.mechanism.describe(),
    ];
    for (words, row) in words.iter().zip([76.0, 92.0, 108.0]) {
        text(svg, (LEFT, top + row), "start", words);
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>",
        from.0, from.1, to.0, to.1
    );
}

fn band(svg: &mut String, across: (f64, f64), down: (f64, f64), style: &str) {
    let (width, height) = (across.1 - across.0, down.1);
    let _ = writeln!(
        svg,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}/>",
        across.0, down.0
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    let _ =
        writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>", at.0, at.1);
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

fn whole(count: u64) -> f64 {
    u32::try_from(count).map_or_else(|_| f64::from(u32::MAX), f64::from)
}
