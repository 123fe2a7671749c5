//! Figures as a picture, for the page of results.

use std::path::Path;

use plotters::prelude::*;

use crate::report::Median;

const WIDTH: u32 = 760;
const ROW: i32 = 30;
const TOP: i32 = 48;
const BARS_FROM: i32 = 250;
const BARS_TO: i32 = 680;

/// A bar for each median, with its interval; the first is the measure of the others.
pub(crate) fn bars(file: &Path, title: &str, rows: &[(String, Median)]) {
    let height = TOP + ROW * rows.len() as i32 + 8;
    let area = SVGBackend::new(file, (WIDTH, height as u32)).into_drawing_area();
    draw(&area, title, rows).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    rows: &[(String, Median)],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let text = ("sans-serif", 14).into_font();
    area.fill(&WHITE)?;
    area.draw(&Text::new(title, (12, 14), ("sans-serif", 17)))?;
    let longest = rows.iter().map(|(_, median)| median.range().1);
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let at = |value: f64| BARS_FROM + (value / longest * f64::from(BARS_TO - BARS_FROM)) as i32;
    for (index, (name, median)) in rows.iter().enumerate() {
        let y = TOP + ROW * index as i32;
        let colour = if index == 0 {
            RGBColor(150, 150, 150)
        } else {
            RGBColor(47, 111, 187)
        };
        area.draw(&Text::new(name.as_str(), (12, y + 3), text.clone()))?;
        area.draw(&Rectangle::new(
            [(BARS_FROM, y), (at(median.value), y + 20)],
            colour.filled(),
        ))?;
        let (low, high) = median.range();
        area.draw(&PathElement::new(
            [(at(low), y + 10), (at(high), y + 10)],
            BLACK,
        ))?;
        let value = format!("{:.2}", median.value);
        area.draw(&Text::new(value, (at(high) + 8, y + 3), text.clone()))?;
    }
    area.present()
}
