//! Horizontal bars, several for each row, as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::spread::Spread;
use crate::times::Times;

/// Pixels.
const WIDTH: i32 = 950;
const NAMES: i32 = 320;
const RIGHT: i32 = 110;
const TOP: i32 = 70;
const BOTTOM: i32 = 40;
const BAR: i32 = 11;
const GAP: i32 = 8;
/// About the width of a value.
const LABEL: i32 = 40;

/// Series of the group and of others, the first darker.
const OURS: [RGBColor; 2] = [RGBColor(0, 82, 147), RGBColor(112, 172, 220)];
const PEERS: [RGBColor; 2] = [RGBColor(95, 95, 95), RGBColor(175, 175, 175)];
const TARGET: RGBColor = RGBColor(200, 30, 30);
const GRID: RGBColor = RGBColor(215, 215, 215);

/// The axis of values.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Linear,
    /// From 1 on; less is drawn as 1.
    Logarithmic,
}

/// A bar to a value, and a line from the lower to the upper bound.
#[derive(Clone, Copy)]
pub struct Bar {
    value: f64,
    low: f64,
    high: f64,
}

impl Bar {
    /// With a line to both sides.
    pub fn between(low: f64, value: f64, high: f64) -> Self {
        Self { value, low, high }
    }

    /// With a line to a higher value.
    pub fn up_to(value: f64, high: f64) -> Self {
        Self { value, low: value, high }
    }
}

/// Without a line.
impl From<f64> for Bar {
    fn from(value: f64) -> Self {
        Self::up_to(value, value)
    }
}

/// The median, and a line between the quartiles.
impl From<Spread> for Bar {
    fn from(spread: Spread) -> Self {
        Self::between(spread.lower_quartile, spread.median, spread.upper_quartile)
    }
}

/// The median in milliseconds, and a line to the 99th percentile.
impl From<&Times> for Bar {
    fn from(times: &Times) -> Self {
        Self::up_to(times.p50 / 1e3, times.p99 / 1e3)
    }
}

/// A row: a bar for each series.
#[derive(Default)]
pub struct Bars {
    pub name: String,
    /// Whether it is that of a group.
    pub is_ours: bool,
    pub bars: Vec<Bar>,
    /// What is aimed at in the first series.
    pub target: Option<f64>,
}

impl Bars {
    /// Those of a group.
    pub fn ours<const N: usize>(name: impl Into<String>, bars: [impl Into<Bar>; N]) -> Self {
        let bars = bars.map(Into::into).to_vec();
        Self { name: name.into(), is_ours: true, bars, target: None }
    }

    /// The same with a target.
    pub fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }
}

/// A picture.
pub struct Plot {
    /// A part of its file's name.
    pub name: String,
    pub title: String,
    pub series: Vec<&'static str>,
    pub scale: Scale,
    pub rows: Vec<Bars>,
}

impl Plot {
    /// The picture as a file.
    pub fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("cannot draw `{}`: {error}", self.title))?;
        svg.push('\n');
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let row = BAR * self.series.len() as i32 + GAP;
        let bottom = TOP + row * self.rows.len() as i32;
        let area = SVGBackend::with_string(svg, (WIDTH as u32, (bottom + BOTTOM) as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let text = |size: i32, horizontal| {
            ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(horizontal, VPos::Center))
        };
        area.draw(&Text::new(self.title.as_str(), (10, 20), text(17, HPos::Left)))?;
        let mut left = 10;
        for (place, series) in self.series.iter().enumerate() {
            let kinds = [(OURS, "group", true), (PEERS, "others", false)];
            let kinds = kinds.map(|(colors, kind, is_ours)| {
                self.rows.iter().any(|row| row.is_ours == is_ours).then_some((colors[place], kind))
            });
            for (color, _) in kinds.iter().flatten() {
                area.draw(&Rectangle::new([(left, 40), (left + 14, 40 + BAR)], color.filled()))?;
                left += 18;
            }
            // All of one kind need no distinction.
            let kinds = match kinds {
                [Some((_, ours)), Some((_, others))] => format!(" ({ours}, {others})"),
                _ => String::new(),
            };
            area.draw(&Text::new(format!("{series}{kinds}"), (left + 2, 46), text(13, HPos::Left)))?;
            left += 190;
        }
        if self.rows.iter().any(|row| row.target.is_some()) {
            area.draw(&Rectangle::new([(left, 38), (left + 2, 40 + BAR + 2)], TARGET.filled()))?;
            area.draw(&Text::new("target", (left + 10, 46), text(13, HPos::Left)))?;
        }
        for tick in self.ticks() {
            let x = self.position(tick);
            area.draw(&PathElement::new([(x, TOP - 4), (x, bottom)], GRID))?;
            area.draw(&Text::new(tick.to_string(), (x, bottom + 12), text(12, HPos::Center)))?;
        }
        for (number, Bars { name, is_ours, bars, target }) in self.rows.iter().enumerate() {
            let top = TOP + row * number as i32;
            let middle = top + (row - GAP) / 2;
            area.draw(&Text::new(name.as_str(), (NAMES - 8, middle), text(13, HPos::Right)))?;
            let colors = if *is_ours { OURS } else { PEERS };
            for (place, &Bar { value, low, high }) in bars.iter().enumerate() {
                let top = top + BAR * place as i32;
                let [near, end, far] = [low, value, high].map(|value| self.position(value));
                let bar = [(NAMES, top), (end.max(NAMES + 1), top + BAR - 1)];
                area.draw(&Rectangle::new(bar, colors[place].filled()))?;
                let middle = top + BAR / 2;
                if far > near {
                    area.draw(&PathElement::new([(near, middle), (end, middle)], WHITE))?;
                    area.draw(&PathElement::new([(end, middle), (far, middle)], BLACK))?;
                    area.draw(&PathElement::new([(far, top + 2), (far, top + BAR - 3)], BLACK))?;
                }
                let mut label = far.max(end) + 6;
                if let Some(target) = target.filter(|_| place == 0) {
                    let x = self.position(target);
                    let mark = [(x - 1, top - 3), (x + 1, top + BAR + 1)];
                    area.draw(&Rectangle::new(mark, TARGET.filled()))?;
                    if (label - 4..label + LABEL).contains(&x) {
                        label = x + 6;
                    }
                }
                area.draw(&Text::new(self.shown(value), (label, middle), text(11, HPos::Left)))?;
            }
        }
        area.present()?;
        drop(area);
        Ok(())
    }

    fn shown(&self, value: f64) -> String {
        match self.scale {
            _ if value == 0.0 => "none".into(),
            Scale::Logarithmic if value.fract() == 0.0 => value.to_string(),
            Scale::Linear if self.highest() <= 10.0 || value < 1.0 => format!("{value:.2}"),
            _ if value >= 100.0 => format!("{value:.0}"),
            _ => format!("{value:.1}"),
        }
    }

    fn highest(&self) -> f64 {
        let values = self.rows.iter().flat_map(|row| row.bars.iter().map(|bar| bar.value.max(bar.high)));
        values.chain(self.rows.iter().filter_map(|row| row.target)).fold(1.0, f64::max)
    }

    /// The end of the axis.
    fn limit(&self) -> f64 {
        match self.scale {
            Scale::Logarithmic => 10f64.powf(self.highest().log10().ceil()).max(10.0),
            Scale::Linear => {
                let step = self.step();
                (self.highest() / step).ceil() * step
            }
        }
    }

    /// Of a linear axis: at least two steps, and at most ten.
    fn step(&self) -> f64 {
        let power = 10f64.powf(self.highest().log10().floor());
        if self.highest() / power >= 5.0 { power } else { power / 2.0 }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Logarithmic => {
                (0..=self.limit().log10().round() as i32).map(|power| 10f64.powi(power)).collect()
            }
            Scale::Linear => {
                let count = (self.limit() / self.step()).round() as i32;
                (0..=count).map(|number| f64::from(number) * self.step()).collect()
            }
        }
    }

    fn position(&self, value: f64) -> i32 {
        let share = match self.scale {
            Scale::Logarithmic => value.max(1.0).log10() / self.limit().log10(),
            Scale::Linear => value / self.limit(),
        };
        NAMES + (share * f64::from(WIDTH - NAMES - RIGHT)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, values: &[f64]) -> Plot {
        let rows = values.iter().map(|&value| Bars::ours("x", [value]));
        Plot { name: "p".into(), title: "t".into(), series: vec!["s"], scale, rows: rows.collect() }
    }

    #[test]
    fn axis_ends_at_or_after_the_highest_value() {
        assert_eq!(
            plot(Scale::Logarithmic, &[0.0, 4.1, 4041.0]).ticks(),
            [1.0, 10.0, 100.0, 1000.0, 10000.0]
        );
        assert_eq!(plot(Scale::Logarithmic, &[0.0]).ticks(), [1.0, 10.0]);
        assert_eq!(plot(Scale::Linear, &[0.4, 1.2]).ticks(), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(plot(Scale::Linear, &[64.0]).ticks().last(), Some(&70.0));
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let plot = plot(Scale::Logarithmic, &[1.0, 10.0, 100.0]);
        let [one, ten, hundred] = [1.0, 10.0, 100.0].map(|value| plot.position(value) - NAMES);
        assert_eq!((one, 2 * ten), (0, hundred));
        let svg = plot.svg().unwrap();
        let width = format!("width=\"{}\" height=\"{}\"", hundred, BAR - 1);
        assert!(svg.contains(&width), "no bar with {width}: {svg}");
    }

    #[test]
    fn target_is_within_the_axis_and_in_the_legend() {
        let mut plot = plot(Scale::Linear, &[1.0]);
        plot.rows[0].target = Some(4.0);
        assert_eq!(plot.ticks().last(), Some(&4.0));
        let (svg, x) = (plot.svg().unwrap(), plot.position(4.0));
        assert!(svg.contains(&format!("<rect x=\"{}\" y=\"{}\"", x - 1, TOP - 3)), "{svg}");
        assert!(svg.contains("\ntarget\n"), "{svg}");
    }

    #[test]
    fn label_does_not_cover_the_target() {
        let mut plot = plot(Scale::Linear, &[4.0]);
        plot.rows[0].target = Some(4.1);
        let x = plot.position(4.1) + 6;
        let svg = plot.svg().unwrap();
        assert!(svg.contains(&format!("<text x=\"{x}\"")), "no label at {x}: {svg}");
    }

    #[test]
    fn line_has_the_length_of_the_bounds() {
        let mut plot = plot(Scale::Linear, &[4.0]);
        plot.rows[0].bars[0] = Bar::between(2.0, 4.0, 5.0);
        let [low, value, high] = [2.0, 4.0, 5.0].map(|value| plot.position(value));
        let (svg, y) = (plot.svg().unwrap(), TOP + BAR / 2);
        for (from, to) in [(low, value), (value, high)] {
            assert!(svg.contains(&format!("points=\"{from},{y} {to},{y} \"")), "{svg}");
        }
    }

    #[test]
    fn value_of_zero_is_named_and_has_a_bar_that_can_be_seen() {
        let svg = plot(Scale::Logarithmic, &[0.0]).svg().unwrap();
        assert!(svg.contains("\nnone\n"), "{svg}");
        assert!(svg.contains(&format!("<rect x=\"{NAMES}\" y=\"{TOP}\" width=\"1\"")), "{svg}");
    }
}
