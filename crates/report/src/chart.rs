//! The two charts that the page draws, as inline SVG.

use crate::text;
use maud::{Markup, html};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 150.0;
const VALUE: f64 = 285.0;

/// One row of a bar chart: what, before, after, and what stands at its end.
pub struct Bar {
    pub label: String,
    pub before: f64,
    pub after: f64,
    pub note: String,
}

/// Two bars a row on a common linear scale: the paler one is before, or predicted.
pub fn bars(rows: &[Bar], names: [&str; 2]) -> Markup {
    let most = rows.iter().flat_map(|r| [r.before, r.after]).fold(f64::MIN_POSITIVE, f64::max);
    let span = WIDTH - LABEL - VALUE;
    let height = 30.0 * rows.len() as f64 + 24.0;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" {
            (legend(&[("before", names[0]), ("after", names[1])]))
            @for (i, row) in rows.iter().enumerate() {
                @let y = 24.0 + 30.0 * i as f64;
                text x=(LABEL - 8.0) y=(y + 16.0) class="label end" { (row.label) }
                rect x=(LABEL) y=(y + 2.0) width=(width(row.before / most * span)) height="10" class="before" {}
                rect x=(LABEL) y=(y + 13.0) width=(width(row.after / most * span)) height="10" class="after" {}
                text x=(LABEL + row.before.max(row.after) / most * span + 8.0) y=(y + 17.0) class="note" { (row.note) }
            }
        }
    }
}

fn width(w: f64) -> String {
    format!("{:.1}", w.max(0.5))
}

fn legend(entries: &[(&str, &str)]) -> Markup {
    html! {
        @for (i, (class, name)) in entries.iter().enumerate() {
            @let x = LABEL + 130.0 * i as f64;
            rect x=(x) y="4" width="12" height="12" class=(class) {}
            text x=(x + 18.0) y="14" class="note" { (name) }
        }
    }
}

/// A point of a dot chart.
pub struct Dot {
    pub x: f64,
    pub y: f64,
    pub series: usize,
    pub title: String,
}

const HEIGHT: f64 = 300.0;
const BOTTOM: f64 = 34.0;
const LEFT: f64 = 70.0;

/// Points over a linear x axis and a logarithmic y axis; `series` names colours 0 to 7.
pub fn dots(dots: &[Dot], series_names: &[String], x_name: &str, y_name: &str) -> Markup {
    let positive = || dots.iter().map(|d| d.y).filter(|y| *y > 0.0);
    let lines = levels(positive().fold(f64::INFINITY, f64::min), positive().fold(0.0, f64::max));
    let (Some(low), Some(high)) = (lines.first(), lines.last()) else {
        return html! { p { "Every tensor is exactly what it was." } };
    };
    let right = dots.iter().map(|d| d.x).fold(1.0, f64::max);
    let x = |v: f64| LEFT + 28.0 + v / right * (WIDTH - LEFT - 200.0);
    // Series stand side by side, so that equal values do not hide one another.
    let aside = |series: usize| 5.0 * (series as f64 - (series_names.len() as f64 - 1.0) / 2.0);
    let y = |v: f64| 10.0 + (high / v).log10() / (high / low).log10() * (HEIGHT - BOTTOM - 10.0);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            @for level in &lines {
                @let at = y(*level);
                line x1=(LEFT) x2=(WIDTH - 140.0) y1=(at) y2=(at) class="grid" {}
                text x=(LEFT - 8.0) y=(at + 4.0) class="note end" { (text::figure(*level)) }
            }
            text x="14" y=(HEIGHT / 2.0) class="note middle" transform=(format!("rotate(-90 14 {})", HEIGHT / 2.0)) { (y_name) }
            @for tick in ticks(right) {
                text x=(x(tick)) y=(HEIGHT - 16.0) class="note middle" { (tick) }
            }
            text x=(x(right / 2.0)) y=(HEIGHT - 2.0) class="note middle" { (x_name) }
            @for dot in dots.iter().filter(|d| d.y > 0.0) {
                circle cx=(format!("{:.1}", x(dot.x) + aside(dot.series))) cy=(format!("{:.1}", y(dot.y))) r="4" class=(format!("s{}", dot.series % 8)) {
                    title { (dot.title) }
                }
            }
            @for (i, name) in series_names.iter().enumerate() {
                @let at = 16.0 + 20.0 * i as f64;
                circle cx=(WIDTH - 122.0) cy=(at) r="5" class=(format!("s{}", i % 8)) {}
                text x=(WIDTH - 112.0) y=(at + 4.0) class="note" { (name) }
            }
        }
    }
}

/// Numbers of the form 1, 2, 5 · 10ⁿ from just below `low` to just above `high`.
fn levels(low: f64, high: f64) -> Vec<f64> {
    if !low.is_finite() || low <= 0.0 {
        return Vec::new();
    }
    let first = low.log10().floor() as i32;
    let all: Vec<f64> = (first..=first + 20).flat_map(|n| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(n))).collect();
    let from = all.iter().rposition(|l| *l <= low).unwrap_or(0);
    let to = all.iter().position(|l| *l > high).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

/// At most nine whole numbers from 0 to `right`.
fn ticks(right: f64) -> impl Iterator<Item = f64> {
    let step = (right / 8.0).ceil().max(1.0);
    (0..).map(move |i| f64::from(i) * step).take_while(move |t| *t <= right)
}
