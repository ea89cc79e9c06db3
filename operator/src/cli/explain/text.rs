//! Prints an answer for people: the verdict first, then the destinations of the call, the objects, and what would help.
//!
//! Text from outside is escaped, so that it cannot control the terminal.

use std::io::{self, Write};

use crate::{
    cli::terminal::{Colour, Shown, coloured},
    explain::{Allowance, Answer, Asked, Considered, Destination, Role, Share, Suggestion, Use, Verdict},
    finding::Severity,
};

/// Writes the answer as text.
pub fn print(answer: &Answer, is_colourful: bool, out: &mut impl Write) -> io::Result<()> {
    let mut page = Page { is_colourful, out };
    let Answer { verdict, mode, question, objects, shares, findings, suggestion, notes } = answer;
    page.headline(*verdict, mode, question)?;
    page.shares(shares)?;
    page.objects(objects)?;
    if !findings.is_empty() {
        page.line(0, "findings:")?;
    }
    for finding in findings {
        let text = finding.to_string();
        let word = format!("{}: ", finding.severity);
        let colour = if finding.severity == Severity::Error { Colour::Red } else { Colour::Yellow };
        let word_shown = coloured(&word, colour, is_colourful);
        writeln!(page.out, "  {word_shown}{}", Shown(text.strip_prefix(&word).unwrap_or(&text)))?;
    }
    for note in notes {
        page.line(0, &format!("note: {note}"))?;
    }
    suggestion.as_ref().map_or(Ok(()), |suggestion| page.suggestion(suggestion))
}

struct Page<'a, W> {
    is_colourful: bool,
    out: &'a mut W,
}

impl<W: Write> Page<'_, W> {
    fn line(&mut self, indent: usize, text: &str) -> io::Result<()> {
        writeln!(self.out, "{:indent$}{}", "", Shown(text))
    }

    fn word(&self, verdict: Verdict) -> String {
        let colour = match verdict {
            Verdict::Allowed => Colour::Green,
            Verdict::Partial => Colour::Yellow,
            Verdict::Denied => Colour::Red,
        };
        coloured(verdict.as_str(), colour, self.is_colourful)
    }

    fn headline(&mut self, verdict: Verdict, mode: &str, asked: &Asked) -> io::Result<()> {
        let Asked { from, identity, to, port, method, path, headers } = asked;
        let mut text = from.clone();
        if let Some(identity) = identity.as_ref().filter(|_| !from.starts_with("sa:")) {
            text = format!("{text} ({identity})");
        }
        text = format!("{text} to {to}");
        match port {
            Some(port) => text = format!("{text}, port {port}"),
            None => text.push_str(", every port"),
        }
        let request: Vec<&str> = [method, path].into_iter().flatten().map(String::as_str).collect();
        if !request.is_empty() {
            text = format!("{text}, {}", request.join(" "));
        }
        for (name, value) in headers {
            text = format!("{text}, {name}: {value}");
        }
        writeln!(self.out, "{}: {}", self.word(verdict), Shown(&text))?;
        self.line(0, &format!("mode: {mode}{}", mode_words(mode)))
    }

    fn shares(&mut self, shares: &[Share]) -> io::Result<()> {
        let mut rule = None;
        for share in shares {
            let here = (share.port, &share.origin, &share.matches);
            if rule != Some(here) {
                rule = Some(here);
                self.rule(share)?;
            }
            self.share(share)?;
        }
        Ok(())
    }

    fn rule(&mut self, share: &Share) -> io::Result<()> {
        let mut text = format!("port {}", share.port);
        if let Some(origin) = &share.origin {
            text = format!("{text}, {origin}");
        }
        if !share.matches.is_empty() {
            text = format!("{text}, requests of {}", share.matches.join(" or "));
        }
        self.line(0, &format!("{text}:"))
    }

    fn share(&mut self, share: &Share) -> io::Result<()> {
        let Share { service, weight, percent, verdict, destinations, .. } = share;
        let indent = match service {
            Some(service) => {
                let word = self.word(*verdict);
                let text = format!("{percent} % to {service} (weight {weight})");
                writeln!(self.out, "  {}: {word}", Shown(&text))?;
                4
            }
            None => 2,
        };
        for destination in destinations {
            self.destination(indent, destination)?;
        }
        Ok(())
    }

    fn destination(&mut self, indent: usize, destination: &Destination) -> io::Result<()> {
        let Destination { identity, port, protocol, mode, verdict, policy, .. } = destination;
        let mut word = self.word(*verdict);
        if verdict != policy && *mode == "audit" {
            word = format!("{word} ({} if it were enforced)", self.word(*policy));
        }
        let text = format!("{identity}, port {port} ({protocol})");
        writeln!(self.out, "{:indent$}{}: {word}", "", Shown(&text))?;
        if let Some(because) = &destination.because {
            return self.line(indent + 2, because);
        }
        if *mode == "permissive" {
            return self.line(indent + 2, "TrafficTargets are not asked here");
        }
        for allowance in &destination.allowed_by {
            self.allowance(indent + 2, allowance)?;
        }
        if destination.allowed_by.iter().any(|by| by.only_if.is_empty()) {
            return Ok(());
        }
        for Considered { target, why, .. } in &destination.considered {
            self.line(indent + 2, &format!("TrafficTarget {target} does not allow it:"))?;
            for why in why {
                self.line(indent + 4, why)?;
            }
        }
        match (destination.considered.is_empty() && destination.allowed_by.is_empty(), destination.for_others)
        {
            (true, 0) => self.line(indent + 2, "no TrafficTarget is about this destination"),
            (true, 1) => {
                self.line(indent + 2, "the one TrafficTarget about this destination is for other callers")
            }
            (true, others) => self.line(
                indent + 2,
                &format!("all {others} TrafficTargets about this destination are for other callers"),
            ),
            _ => Ok(()),
        }
    }

    fn allowance(&mut self, indent: usize, allowance: &Allowance) -> io::Result<()> {
        let Allowance { target, matches, only_if } = allowance;
        if matches.is_empty() {
            return self.line(indent, &format!("TrafficTarget {target} allows any payload"));
        }
        if only_if.is_empty() {
            return self.line(indent, &format!("TrafficTarget {target} allows it by {}", matches.join(", ")));
        }
        self.line(indent, &format!("TrafficTarget {target} allows it only if"))?;
        for (name, condition) in matches.iter().zip(only_if) {
            self.line(indent + 2, &format!("{condition} ({name})"))?;
        }
        Ok(())
    }

    fn objects(&mut self, objects: &[Use]) -> io::Result<()> {
        if !objects.is_empty() {
            self.line(0, "objects:")?;
        }
        for Use { object, role, matches } in objects {
            let part = match role {
                Role::Decides => "sets the mode",
                Role::Splits => "splits the traffic",
                Role::Allows => "allows",
                Role::Considered => "does not allow",
            };
            let matches =
                if matches.is_empty() { String::new() } else { format!(" (match {})", matches.join(", ")) };
            self.line(2, &format!("{object}{matches}: {part}"))?;
        }
        Ok(())
    }

    fn suggestion(&mut self, suggestion: &Suggestion) -> io::Result<()> {
        let Suggestion { yaml, instead } = suggestion;
        for change in instead {
            self.line(0, &format!("hint: {change}"))?;
        }
        self.line(0, "this would allow it:")?;
        yaml.lines().try_for_each(|line| self.line(0, line))
    }
}

fn mode_words(mode: &str) -> &'static str {
    match mode {
        "enforce" => " (only what a TrafficTarget allows)",
        "audit" => " (everything passes; what no TrafficTarget allows is counted and logged)",
        "permissive" => " (everything passes)",
        "outside" => " (not in the mesh)",
        "mixed" => " (destinations differ)",
        _ => "",
    }
}
