//! Results of the rounds: quantiles and throughput of each path, and what ours adds against what the minimal one adds.
//!
//! Ratios are taken within a round, whose measurements are seconds apart, and their median is reported with the lower
//! and upper quartile: the machine drifts more between rounds than two paths differ. Measures nothing itself.

use serde_json::json;

use super::Args;
use crate::{
    figures::{Row, quantile},
    machine, report, results,
};

/// Names of the paths.
pub const BARE: &str = "no proxy";
pub const MINIMAL: &str = "minimal";
pub const CONTROL: &str = "minimal again";
pub const OURS: &str = "ours";
pub const UNCOUNTED: &str = "ours without statistics";

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Measure {
    /// Time of each request in microseconds; empty at the limit.
    pub times: Vec<f64>,
    pub per_second: f64,
    /// CPU time of both proxies for a request, in microseconds.
    pub proxies_cpu: f64,
}

/// One path in one round.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub steady: Measure,
    pub full: Option<Measure>,
}

impl Sample {
    fn time(&self, part: f64) -> f64 {
        quantile(&self.steady.times, part)
    }
}

/// A figure of a sample, with its name.
type Figure = (&'static str, fn(&Sample) -> f64);

/// All paths in all rounds.
#[derive(Debug, Default)]
pub struct Tally {
    /// Paths in the order of the first round.
    paths: Vec<(String, Vec<Sample>)>,
}

impl Tally {
    pub fn add(&mut self, path: &str, sample: Sample) {
        match self.paths.iter_mut().find(|(name, _)| name == path) {
            Some((_, samples)) => samples.push(sample),
            None => self.paths.push((path.to_owned(), vec![sample])),
        }
    }

    fn samples(&self, path: &str) -> &[Sample] {
        self.paths.iter().find(|(name, _)| name == path).map_or(&[], |(_, samples)| samples)
    }

    /// Builds a row for each path.
    fn rows(&self) -> Vec<Row> {
        let (bare, minimal) = (self.samples(BARE), self.samples(MINIMAL));
        let row = |(name, samples): &(String, Vec<Sample>)| {
            let mut row = Row::new(&format!("sidecars-{}", name.replace([' ', ','], "-")), name);
            for (figure, part) in [("p50", 0.5), ("p99", 0.99)] {
                row.set(&format!("{figure}_us"), median(samples.iter().map(|it| it.time(part))));
                if name != BARE {
                    let added = |all: &[Sample]| -> Vec<f64> {
                        all.iter().zip(bare).map(|(it, bare)| it.time(part) - bare.time(part)).collect()
                    };
                    row.set(&format!("added_{figure}_us"), quantile(&added(samples), 0.5));
                    ratio(&mut row, &format!("added_{figure}"), &added(samples), &added(minimal));
                }
            }
            let full = |all: &[Sample], of: fn(&Measure) -> f64| -> Vec<f64> {
                all.iter().filter_map(|it| it.full.as_ref().map(of)).collect()
            };
            let steady =
                |all: &[Sample]| -> Vec<f64> { all.iter().map(|it| it.steady.proxies_cpu).collect() };
            let per_second = |all: &[Sample]| full(all, |measure| measure.per_second);
            let full_cpu = |all: &[Sample]| full(all, |measure| measure.proxies_cpu);
            row.set("per_second", quantile(&per_second(samples), 0.5));
            // Without proxies they use no CPU, and there is nothing to compare.
            if name != BARE {
                row.set("proxies_cpu_us", quantile(&steady(samples), 0.5));
                row.set("full_cpu_us", quantile(&full_cpu(samples), 0.5));
                ratio(&mut row, "per_second", &per_second(samples), &per_second(minimal));
                ratio(&mut row, "proxies_cpu", &steady(samples), &steady(minimal));
                ratio(&mut row, "full_cpu", &full_cpu(samples), &full_cpu(minimal));
            }
            if name == MINIMAL {
                // The other paths are compared with it.
                row.figures.retain(|figure, _| !figure.contains("_ratio"));
            }
            row
        };
        self.paths.iter().map(row).collect()
    }

    /// Builds the row of what statistics cost: ours against itself without them, of the whole times.
    fn statistics(&self) -> Row {
        let mut row = Row::new("statistics", "ours against ours without statistics");
        let figures: [Figure; 6] = [
            ("p50", |sample| sample.time(0.5)),
            ("p90", |sample| sample.time(0.9)),
            ("p99", |sample| sample.time(0.99)),
            ("proxies_cpu", |sample| sample.steady.proxies_cpu),
            ("per_second", |sample| sample.full.as_ref().map_or(0.0, |full| full.per_second)),
            ("full_cpu", |sample| sample.full.as_ref().map_or(0.0, |full| full.proxies_cpu)),
        ];
        for (name, figure) in figures {
            let [ours, theirs] =
                [OURS, UNCOUNTED].map(|path| self.samples(path).iter().map(figure).collect::<Vec<_>>());
            ratio(&mut row, name, &ours, &theirs);
        }
        row
    }

    /// Returns the tables, in Markdown.
    pub fn table(&self) -> String {
        let (rows, statistics) = (self.rows(), self.statistics());
        report::sidecars(&rows.iter().collect::<Vec<_>>()) + "\n" + &report::statistics(&statistics)
    }

    /// Writes the results as JSON, and as a Markdown page.
    pub fn write(&self, args: &Args) -> anyhow::Result<()> {
        let Args { rounds, rate, connections, seconds, saturated, .. } = args;
        let mut about = machine::about(&args.load);
        let shape = format!(
            "{rounds} rounds; {rate} requests/s over {connections} connections for {seconds} s, and as many as are \
             answered for {saturated} s"
        );
        about.insert("shape".to_owned(), shape);
        let mut rows = self.rows();
        rows.push(self.statistics());
        let run = json!({"about": about, "rows": rows});
        results::write(&args.out, &args.name, &run, &results::page(&about, &self.table()))?;
        eprintln!("    written: {}/{}.json", args.out.display(), args.name);
        Ok(())
    }
}

/// Sets the ratios of two series, round by round: the median and the two quartiles.
fn ratio(row: &mut Row, figure: &str, ours: &[f64], theirs: &[f64]) {
    let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
    let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).filter(|ratio| *ratio != 0.0).collect();
    if !ratios.is_empty() {
        for (name, part) in [("", 0.5), ("_low", 0.25), ("_high", 0.75)] {
            row.set(&format!("{figure}_ratio{name}"), quantile(&ratios, part));
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(&values.collect::<Vec<_>>(), 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets;

    fn sample(time: f64, per_second: f64) -> Sample {
        let steady = Measure { times: vec![time], per_second: 10.0, proxies_cpu: time / 10.0 };
        Sample { steady, full: Some(Measure { per_second, ..Measure::default() }) }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut tally = Tally::default();
        // The machine is twice as slow from the second round on.
        for slow in [1.0, 2.0, 2.0] {
            tally.add(BARE, sample(100.0 * slow, 100.0));
            tally.add(MINIMAL, sample(300.0 * slow, 10.0 / slow));
            tally.add(OURS, sample(320.0 * slow, 9.0 / slow));
            tally.add(CONTROL, sample(300.0 * slow, 10.0 / slow));
        }
        let rows = tally.rows();
        assert_eq!(rows[3].id, targets::CONTROL);
        assert_eq!(rows[1].get("added_p50_ratio"), None, "against itself");
        let of = |figure: &str| rows[2].get(figure).map(|value| value.to_string());
        assert_eq!(of("added_p50_us"), Some("440".to_owned()));
        assert_eq!(of("added_p99_ratio"), Some("1.1".to_owned()));
        assert_eq!(of("per_second_ratio_low"), Some("0.9".to_owned()));
        assert_eq!(of("proxies_cpu_ratio_high"), Some("1.067".to_owned()));
    }
}
