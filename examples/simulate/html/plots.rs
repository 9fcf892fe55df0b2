//! The plots, drawn by plotters as SVG. Legends are HTML, so that they wrap instead of covering the plot.

use std::fmt::Write as _;
use std::time::Duration;

use plotters::coord::Shift;
use plotters::prelude::*;
use tower_mesh::sim::{Report, SecondReport};

use super::escape;
use crate::Failure;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What it is called, its colour, the width of its line, its values. One that others may cover is wider than they.
type Series = (
    &'static str,
    RGBColor,
    u32,
    fn(&SecondReport) -> Option<f64>,
);

const BLUE: RGBColor = RGBColor(37, 99, 176);
const RED: RGBColor = RGBColor(200, 45, 45);
const AMBER: RGBColor = RGBColor(214, 137, 16);
const GREEN: RGBColor = RGBColor(26, 132, 90);
const GREY: RGBColor = RGBColor(90, 100, 115);

/// Told apart side by side, also with weak colour vision; the first for the endpoint that was ejected most.
const SHARES: [RGBColor; 12] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(240, 200, 66),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 190),
    RGBColor(148, 190, 90),
    RGBColor(160, 110, 70),
    RGBColor(90, 160, 160),
    RGBColor(190, 160, 210),
    RGBColor(150, 160, 170),
];
/// More endpoints than this are drawn by name, not one by one.
const MAX_BANDS: usize = 12;
/// The most rows of the breakers' plot.
const MAX_ROWS: usize = 30;

pub struct Plot {
    pub title: &'static str,
    pub about: &'static str,
    kind: Kind,
}

enum Kind {
    Lines {
        unit: &'static str,
        series: Vec<Series>,
    },
    Shares,
    Breakers,
}

/// Endpoints that are drawn as one, and their colour.
struct Band {
    label: String,
    members: Vec<usize>,
    colour: RGBColor,
}

// === impl Plot ===

impl Plot {
    pub fn all(report: &Report) -> Vec<Self> {
        let mut plots = vec![
            Self {
                title: "Requests and errors",
                about: "Per second, requests by their arrival, attempts by when they reach an endpoint.",
                kind: Kind::Lines {
                    unit: "per second",
                    series: vec![
                        ("attempts", AMBER, 5, |s| {
                            Some(s.attempts.iter().sum::<u64>() as f64)
                        }),
                        ("requests", BLUE, 2, |s| Some(s.requests as f64)),
                        ("errors", RED, 2, |s| Some(s.errors as f64)),
                    ],
                },
            },
            Self {
                title: "Latency",
                about: "Until the caller was done, answered or not, by the second of arrival.",
                kind: Kind::Lines {
                    unit: "ms",
                    series: vec![
                        ("99th percentile", AMBER, 2, |s| Some(millis(s.p99))),
                        ("median", BLUE, 2, |s| Some(millis(s.p50))),
                    ],
                },
            },
            Self {
                title: "Share of each endpoint",
                about: "Of the attempts in each second, stacked.",
                kind: Kind::Shares,
            },
            Self {
                title: "Breakers",
                about: "Each endpoint while discovery knows it: by how many of the clients it is ejected at the end of the second.",
                kind: Kind::Breakers,
            },
        ];
        if report
            .timeline
            .iter()
            .any(|second| second.budget_milli.is_some())
        {
            plots.push(Self {
                title: "Retry budget",
                about: "Retries that can be paid for, at the end of each second, over all clients.",
                kind: Kind::Lines {
                    unit: "retries",
                    series: vec![("balance", GREEN, 2, |s| Some(s.budget_milli? as f64 / 1e3))],
                },
            });
        }
        plots
    }

    pub fn height(&self, report: &Report, is_wide: bool) -> u32 {
        match self.kind {
            Kind::Breakers => 70 + 22 * report.endpoints.len().min(MAX_ROWS) as u32,
            _ if is_wide => 280,
            _ => 230,
        }
    }

    pub fn legend(&self, out: &mut String, report: &Report) -> std::fmt::Result {
        write!(out, "<ul class=legend>")?;
        let mut entry = |colour: RGBColor, label: &str| {
            let RGBColor(r, g, b) = colour;
            let label = escape(label);
            write!(
                out,
                "<li><i style=\"background:rgb({r},{g},{b})\"></i>{label}</li>"
            )
        };
        match &self.kind {
            Kind::Lines { series, .. } => {
                for (name, colour, ..) in series {
                    entry(*colour, name)?;
                }
            }
            Kind::Shares => {
                for band in bands(report) {
                    entry(band.colour, &band.label)?;
                }
            }
            Kind::Breakers => {
                entry(state(0.0), "in service")?;
                if report.clients > 1 {
                    entry(state(0.5), "ejected by half of the clients")?;
                    entry(state(1.0), "by all")?;
                } else {
                    entry(state(1.0), "ejected")?;
                }
            }
        }
        write!(out, "</ul>")
    }

    pub fn draw(&self, report: &Report, size: (u32, u32)) -> Result<String, Failure> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            match &self.kind {
                Kind::Lines { unit, series } => lines(&area, report, unit, series)?,
                Kind::Shares => shares(&area, report)?,
                Kind::Breakers => breakers(&area, report)?,
            }
            area.present()?;
        }
        // So that a reader by ear knows what it is, and cells that touch show no seams.
        let crisp = match self.kind {
            Kind::Lines { .. } => "",
            Kind::Shares | Kind::Breakers => "shape-rendering=\"crispEdges\" ",
        };
        let label = format!("<svg role=\"img\" aria-label=\"{}\" {crisp}", self.title);
        Ok(svg.replacen("<svg ", &label, 1))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn seconds(report: &Report) -> std::ops::Range<f64> {
    report.warmup.as_secs() as f64..report.duration.as_secs_f64().max(1.0)
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&GREY)
}

// Fewer marks where there is less room.
fn x_marks(area: &Area<'_>) -> usize {
    (area.dim_in_pixel().0 as usize / 90).clamp(4, 12)
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e4 => format!("{}k", v / 1e3),
        v if v.fract() == 0.0 => format!("{v}"),
        v => format!("{v:.1}"),
    }
}

fn lines(area: &Area<'_>, report: &Report, unit: &str, series: &[Series]) -> Result<(), Failure> {
    let values = |of: fn(&SecondReport) -> Option<f64>| report.timeline.iter().filter_map(of);
    let top = series
        .iter()
        .flat_map(|(_, _, _, of)| values(*of))
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(44)
        .y_label_area_size(54)
        .build_cartesian_2d(seconds(report), 0.0..top * 1.06)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(232, 235, 239))
        .axis_style(RGBColor(170, 178, 188))
        .x_labels(x_marks(area))
        .y_labels(5)
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .label_style(font(15))
        .axis_desc_style(font(15))
        .x_desc("seconds")
        .y_desc(unit)
        .draw()?;
    for (_, colour, width, of) in series {
        // In the middle of its second.
        let points = report
            .timeline
            .iter()
            .filter_map(|s| Some((s.second as f64 + 0.5, of(s)?)));
        chart.draw_series(LineSeries::new(points, colour.stroke_width(*width)))?;
    }
    Ok(())
}

/// One band for each endpoint, or for each name where there are many. Those that were ejected or failed come first, at
/// the bottom, where a share can be read off the axis.
fn bands(report: &Report) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let by_name = report.endpoints.len() > MAX_BANDS;
    for (n, endpoint) in report.endpoints.iter().enumerate() {
        let label = if by_name {
            endpoint.name.clone()
        } else {
            endpoint.label(report)
        };
        match bands.iter_mut().find(|band| band.label == label) {
            Some(band) => band.members.push(n),
            None => bands.push(Band {
                label,
                members: vec![n],
                colour: GREY,
            }),
        }
    }
    let trouble = |band: &Band| -> u64 {
        let members = band.members.iter().filter_map(|n| report.endpoints.get(*n));
        members
            .map(|endpoint| endpoint.opened + endpoint.errors)
            .sum()
    };
    bands.sort_by_key(|band| std::cmp::Reverse(trouble(band)));
    for (band, colour) in bands.iter_mut().zip(SHARES.iter().cycle()) {
        band.colour = *colour;
    }
    bands
}

fn shares(area: &Area<'_>, report: &Report) -> Result<(), Failure> {
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(44)
        .y_label_area_size(54)
        .build_cartesian_2d(seconds(report), 0.0..100.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(RGBColor(170, 178, 188))
        .x_labels(x_marks(area))
        .y_labels(5)
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .label_style(font(15))
        .axis_desc_style(font(15))
        .x_desc("seconds")
        .y_desc("% of attempts")
        .draw()?;
    let bands = bands(report);
    for second in &report.timeline {
        let all = second.attempts.iter().sum::<u64>() as f64;
        let mut from = 0.0;
        for band in &bands {
            let members = band.members.iter().filter_map(|n| second.attempts.get(*n));
            let share = members.sum::<u64>() as f64 / all.max(1.0) * 100.0;
            let (left, right) = (second.second as f64, second.second as f64 + 1.0);
            if share > 0.0 {
                let corners = [(left, from), (right, from + share)];
                chart.draw_series([Rectangle::new(corners, band.colour.filled())])?;
            }
            from += share;
        }
    }
    Ok(())
}

// From a light green to red, by the part of the clients that have it ejected.
fn state(part: f64) -> RGBColor {
    let between = |a: f64, b: f64| (a + (b - a) * part) as u8;
    if part <= 0.0 {
        return RGBColor(205, 232, 214);
    }
    RGBColor(
        between(246.0, 190.0),
        between(190.0, 30.0),
        between(150.0, 45.0),
    )
}

// Whether discovery knows it at the end of the second.
fn is_there(report: &Report, endpoint: usize, second: u64) -> bool {
    let end = Duration::from_secs(second + 1);
    report.endpoints.get(endpoint).is_some_and(|endpoint| {
        endpoint.joins < end && endpoint.leaves.is_none_or(|leaves| end <= leaves)
    })
}

fn breakers(area: &Area<'_>, report: &Report) -> Result<(), Failure> {
    // Those with the most to tell, in their order, if there are too many.
    let mut rows: Vec<usize> = (0..report.endpoints.len()).collect();
    rows.sort_by_key(|n| std::cmp::Reverse(report.endpoints.get(*n).map_or(0, |e| e.opened)));
    rows.truncate(MAX_ROWS);
    rows.sort_unstable();
    let count = rows.len();
    let labels: Vec<String> = rows
        .iter()
        .filter_map(|n| report.endpoints.get(*n))
        .map(|endpoint| endpoint.label(report).chars().take(12).collect())
        .collect();
    let longest = labels
        .iter()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0);
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(44)
        .y_label_area_size((longest as u32 * 7 + 16).max(54))
        .build_cartesian_2d(seconds(report), 0.0..count as f64)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(RGBColor(170, 178, 188))
        .x_labels(x_marks(area))
        .y_labels(0)
        .x_label_formatter(&|x| number(*x))
        .label_style(font(15))
        .axis_desc_style(font(15))
        .x_desc("seconds")
        .draw()?;
    for (row, (endpoint, label)) in rows.iter().zip(labels).enumerate() {
        // The first on top.
        let bottom = (count - 1 - row) as f64;
        for second in &report.timeline {
            if !is_there(report, *endpoint, second.second) {
                continue;
            }
            let ejected = second.ejected.get(*endpoint).copied().unwrap_or(0);
            let part = f64::from(ejected) / report.clients.max(1) as f64;
            let (left, right) = (second.second as f64, second.second as f64 + 1.0);
            let corners = [(left, bottom + 0.12), (right, bottom + 0.88)];
            chart.draw_series([Rectangle::new(corners, state(part).filled())])?;
        }
        let (x, y) = chart.backend_coord(&(report.warmup.as_secs() as f64, bottom + 0.5));
        let style = font(15).pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Center,
        ));
        area.draw_text(&label, &style, (x - 8, y))?;
    }
    Ok(())
}
