//! Draws growth: a picture for each series, with latency, CPU and memory beside each other.
//!
//! Called by `main` on the data that `growth` wrote, so a picture can be drawn again without measuring. Both axes are
//! logarithmic: a level line does not grow, and a line as steep as the diagonal of the grid is linear. Needs no font:
//! the program that displays the picture has one.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use anyhow::Context as _;
use plotters::{coord::Shift, prelude::*};

use crate::{
    figures::Row,
    growth::{Data, Points, Series},
};

/// Size of a picture: as wide as the pages on which it is displayed.
const SIZE: (u32, u32) = (1080, 400);
/// Sizes of text. The backend draws about four fifths of them.
const TITLE: u32 = 19;
const WORDS: u32 = 17;
const BLUE: RGBColor = RGBColor(31, 98, 176);
const ORANGE: RGBColor = RGBColor(217, 95, 2);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// One of the three panels of a picture.
struct Panel {
    title: &'static str,
    unit: &'static str,
    lines: &'static [Line],
}

struct Line {
    label: &'static str,
    figure: &'static str,
    colour: RGBColor,
    /// Width, greater where another line may cover it.
    width: u32,
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "Latency: change → last of 10 proxies",
        unit: "ms",
        lines: &[
            Line { label: "p99", figure: "last_p99_ms", colour: ORANGE, width: 2 },
            Line { label: "p50", figure: "last_p50_ms", colour: BLUE, width: 2 },
            Line { label: "baseline, p50", figure: "baseline_p50_ms", colour: GREY, width: 2 },
        ],
    },
    Panel {
        title: "CPU of the operator for a change",
        unit: "ms",
        lines: &[
            Line { label: "operator", figure: "cpu_ms", colour: BLUE, width: 2 },
            Line { label: "baseline", figure: "baseline_cpu_ms", colour: GREY, width: 2 },
        ],
    },
    Panel {
        title: "Memory of the operator",
        unit: "MB",
        lines: &[
            Line { label: "at the most", figure: "peak_mb", colour: ORANGE, width: 6 },
            Line { label: "resident", figure: "resident_mb", colour: BLUE, width: 2 },
        ],
    },
];

/// Draws every series into a file of its own.
pub fn draw(data: &Data, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for (series, points) in data {
        let file = folder.join(format!("{}.svg", series.name()));
        fs::write(&file, picture(*series, points)?)
            .with_context(|| format!("failed to write {}", file.display()))?;
        eprintln!("    drawn: {}", file.display());
    }
    Ok(())
}

fn picture(series: Series, points: &Points) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, panel) in root.split_evenly((1, PANELS.len())).iter().zip(&PANELS) {
            chart(area, series, points, panel)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    series: Series,
    points: &Points,
    panel: &Panel,
) -> anyhow::Result<()> {
    let lines: Vec<(&Line, Vec<(f64, f64)>)> =
        panel.lines.iter().map(|line| (line, values(series, &points.rows, line.figure))).collect();
    let all = || lines.iter().flat_map(|(_, values)| values);
    if all().next().is_none() {
        return Ok(());
    }
    let across = axis(decades(all().map(|(x, _)| *x), 1));
    let (low, high) = decades(all().map(|(_, y)| *y), 2);
    // One more decade, for the legend.
    let up = axis((low, high + 1));
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", TITLE))
        .margin(8)
        .margin_right(26)
        .x_label_area_size(48)
        .y_label_area_size(66)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(format!("{} ({})", series.name(), points.rest))
        .y_desc(panel.unit)
        .axis_desc_style(("sans-serif", WORDS))
        .label_style(("sans-serif", WORDS))
        .x_label_formatter(&|value| label(*value))
        .y_label_formatter(&|value| label(*value))
        .x_labels(8)
        .y_labels(8)
        .bold_line_style(RGBColor(215, 215, 215))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    for (line, values) in lines {
        let colour = line.colour;
        let style = colour.stroke_width(line.width);
        chart
            .draw_series(LineSeries::new(values.clone(), style))?
            .label(line.label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
        chart.draw_series(values.into_iter().map(|at| Circle::new(at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", WORDS))
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    Ok(())
}

/// Returns a figure over the size of the series.
fn values(series: Series, points: &[Row], figure: &str) -> Vec<(f64, f64)> {
    let by_size = points.iter().filter_map(|row| Some((row.get(series.name())?, row.get(figure)?)));
    // A logarithmic axis has no zero, and no measured value is zero.
    let by_size = by_size.filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let sorted: BTreeMap<u64, (f64, f64)> = by_size.map(|(x, y)| (x as u64, (x, y))).collect();
    sorted.into_values().collect()
}

/// Returns whole decades around all values, at least `least` of them: noise in a flat line must not look like growth.
fn decades(values: impl Iterator<Item = f64>, least: i32) -> (i32, i32) {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let (mut low, mut high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    while high - low < least {
        if (high - low) % 2 == 1 {
            low -= 1;
        } else {
            high += 1;
        }
    }
    (low, high)
}

/// Returns the range from one power of ten to another, slightly widened, so that both are on the axis.
fn axis((low, high): (i32, i32)) -> Range<f64> {
    10_f64.powi(low) * 0.999..10_f64.powi(high) * 1.001
}

fn label(value: f64) -> String {
    if value >= 1000.0 {
        let text = format!("{value:.0}");
        let (thousands, rest) = text.split_at(text.len() - 3);
        format!("{thousands},{rest}")
    } else if value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_span_whole_decades() {
        assert_eq!(decades([12.0, 90.0].into_iter(), 1), (1, 2));
        assert_eq!(decades([10.0, 10_000.0].into_iter(), 1), (1, 4));
        assert_eq!(decades([2.0, 3.0].into_iter(), 3), (-1, 2));
    }

    #[test]
    fn a_picture_shows_every_figure_and_its_unit() {
        let row = |size: f64| {
            let mut row = Row::new("", "");
            row.set("services", size);
            let figures = PANELS.iter().flat_map(|panel| panel.lines);
            figures.for_each(|line| row.set(line.figure, size / 7.0));
            row
        };
        let points = Points { rows: [10.0, 100.0, 5000.0].map(row).to_vec(), ..Points::default() };
        let text = picture(Series::Services, &points).unwrap();
        let lines = PANELS.iter().flat_map(|panel| panel.lines).count();
        assert_eq!(text.matches("<circle").count(), 3 * lines);
        for word in ["p99", "resident", "MB", "ms", "services", "1,000"] {
            assert!(text.contains(word), "{word} is missing in {text}");
        }
    }
}
