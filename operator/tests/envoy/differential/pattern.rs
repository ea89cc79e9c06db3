//! Regular expressions in their textbook form: a parser for the syntax that both RE2 and Rust's `regex` read alike, a
//! matcher that keeps the set of positions where a match could end, and a sampler.
//!
//! Written for the proof, to be independent of the engines that the product relies on. Sets of positions make
//! greediness and order meaningless, which is right: whether a text matches does not depend on them.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use crate::differential::random::Random;

thread_local! {
    /// Expressions parsed before: every request needs the expressions of its cluster.
    static READ: RefCell<HashMap<String, Option<Pattern>>> = RefCell::default();
}

/// A part of an expression.
#[derive(Debug, Clone)]
enum Node {
    Empty,
    /// One character of a set, as bits; all are ASCII.
    One(u128),
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
    Start,
    End,
    /// A word boundary, or (false) the absence of one.
    Word(bool),
}

/// An expression that was parsed.
#[derive(Debug, Clone)]
pub struct Pattern(Arc<Node>);

/// Positions in a text: one flag for each, its end included.
type Places = Vec<bool>;

impl Pattern {
    /// Parses an expression; `None` if it is invalid, or if the two engines read it differently.
    pub fn read(text: &str) -> Option<Self> {
        if let Some(read) = READ.with_borrow(|read| read.get(text).cloned()) {
            return read;
        }
        let mut parser = Parser { text: text.as_bytes(), at: 0, fold: false };
        let node = parser.any();
        let read = node.filter(|_| parser.at == text.len()).map(|node| Self(Arc::new(node)));
        READ.with_borrow_mut(|all| all.insert(text.to_owned(), read.clone()));
        read
    }

    /// Returns true if it matches a text from its start, up to any position.
    pub fn begins(&self, text: &str) -> bool {
        self.ends(text).contains(&true)
    }

    /// Returns true if it matches all of a text.
    pub fn covers(&self, text: &str) -> bool {
        self.ends(text).last() == Some(&true)
    }

    fn ends(&self, text: &str) -> Places {
        let mut from = vec![false; text.len() + 1];
        from[0] = true;
        step(&self.0, text.as_bytes(), &from)
    }

    /// Returns a text that it matches, unless an anchor or a boundary prevents that.
    pub fn sample(&self, random: &mut Random) -> String {
        let mut text = String::new();
        sample(&self.0, random, &mut text);
        text
    }
}

/// Characters as bits.
fn set(of: impl IntoIterator<Item = u8>) -> u128 {
    of.into_iter().filter(u8::is_ascii).fold(0, |set, byte| set | (1 << byte))
}

fn is_in(set: u128, byte: u8) -> bool {
    byte.is_ascii() && set & (1 << byte) != 0
}

/// Returns the positions where a part can end that starts at one of these positions.
fn step(node: &Node, text: &[u8], from: &Places) -> Places {
    let only = |keep: &dyn Fn(usize) -> bool| -> Places {
        from.iter().enumerate().map(|(at, is_in)| *is_in && keep(at)).collect()
    };
    match node {
        Node::Empty => from.clone(),
        Node::One(of) => {
            let mut to = vec![false; from.len()];
            for (at, byte) in text.iter().enumerate() {
                to[at + 1] = from[at] && is_in(*of, *byte);
            }
            to
        }
        Node::All(parts) => parts.iter().fold(from.clone(), |from, part| step(part, text, &from)),
        Node::Any(parts) => {
            parts.iter().fold(vec![false; from.len()], |to, part| union(to, &step(part, text, from)))
        }
        Node::Repeat(part, least, most) => repeat(part, *least, *most, text, from),
        Node::Start => only(&|at| at == 0),
        Node::End => only(&|at| at == text.len()),
        Node::Word(wanted) => {
            let is_word =
                |at: usize| text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            only(&|at| (is_word(at) != (at > 0 && is_word(at - 1))) == *wanted)
        }
    }
}

fn repeat(part: &Node, least: usize, most: Option<usize>, text: &[u8], from: &Places) -> Places {
    let mut now = from.clone();
    for _ in 0..least {
        now = step(part, text, &now);
    }
    let mut all = now.clone();
    // Every useful round reaches a new position, so there are never more rounds than positions.
    let rounds = most.map_or(text.len() + 1, |most| (most - least).min(text.len() + 1));
    for _ in 0..rounds {
        now = step(part, text, &now);
        all = union(all, &now);
    }
    all
}

fn union(one: Places, other: &Places) -> Places {
    one.into_iter().zip(other).map(|(one, other)| one || *other).collect()
}

/// Characters that a path and a header's value can contain unescaped, the likely ones first.
const PLAIN: &[u8] = b"abcxyz019ABZ-_.~/!$&'()*+,;=:@";

fn sample(node: &Node, random: &mut Random, text: &mut String) {
    match node {
        Node::Empty | Node::Start | Node::End | Node::Word(_) => {}
        Node::One(of) => {
            let plain: Vec<u8> = PLAIN.iter().copied().filter(|byte| is_in(*of, *byte)).collect();
            let likely = plain.len().min(if random.percent(80) { 8 } else { plain.len() });
            text.push(if likely == 0 { 'a' } else { char::from(plain[random.below(likely)]) });
        }
        Node::All(parts) => parts.iter().for_each(|part| sample(part, random, text)),
        Node::Any(parts) => sample(&parts[random.below(parts.len())], random, text),
        Node::Repeat(part, least, most) => {
            let most = most.unwrap_or(least + 3).min(least + 3);
            for _ in 0..random.between(*least, most) {
                sample(part, random, text);
            }
        }
    }
}

/// Parser of one expression.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// True if letters of both cases match each other from here on.
    fold: bool,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_there = self.text[self.at..].starts_with(wanted.as_bytes());
        self.at += if is_there { wanted.len() } else { 0 };
        is_there
    }

    fn any(&mut self) -> Option<Node> {
        // A flag without a group of its own lasts to the end of the enclosing group.
        let fold = self.fold;
        let mut parts = vec![self.all()?];
        while self.take("|") {
            parts.push(self.all()?);
        }
        self.fold = fold;
        Some(Node::Any(parts))
    }

    fn all(&mut self) -> Option<Node> {
        let mut parts = Vec::new();
        while let Some(byte) = self.peek().filter(|byte| !matches!(byte, b'|' | b')')) {
            if !matches!(byte, b' '..=b'~') {
                return None;
            }
            let part = self.part()?;
            parts.push(self.repeated(part)?);
        }
        Some(Node::All(parts))
    }

    fn part(&mut self) -> Option<Node> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'.' => Some(Node::One(set(b' '..=b'~'))),
            b'^' => Some(Node::Start),
            b'$' => Some(Node::End),
            b'(' => self.group(),
            b'[' => self.class(),
            b'\\' => self.escaped(),
            b'*' | b'+' | b'?' | b'{' => None,
            byte => Some(self.one(vec![byte])),
        }
    }

    /// Parses the repetition after a part, if there is one.
    fn repeated(&mut self, part: Node) -> Option<Node> {
        let (least, most) = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => return self.counted(part),
            _ => return Some(part),
        };
        self.at += 1;
        self.closed(part, least, most)
    }

    fn counted(&mut self, part: Node) -> Option<Node> {
        let end = self.text[self.at..].iter().position(|byte| *byte == b'}')? + self.at;
        let inside = std::str::from_utf8(&self.text[self.at + 1..end]).ok()?;
        self.at = end + 1;
        let (least, most) = match inside.split_once(',') {
            None => (inside.parse().ok()?, Some(inside.parse().ok()?)),
            Some((least, "")) => (least.parse().ok()?, None),
            Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
        };
        (most.unwrap_or(least) >= least && most.unwrap_or(least) <= 1000).then_some(())?;
        self.closed(part, least, most)
    }

    fn closed(&mut self, part: Node, least: usize, most: Option<usize>) -> Option<Node> {
        self.take("?");
        // An anchor or a repetition cannot be repeated: the engines disagree about these.
        let can = !matches!(part, Node::Empty | Node::Start | Node::End | Node::Word(_));
        (can && !matches!(self.peek(), Some(b'*' | b'+' | b'?' | b'{')))
            .then(|| Node::Repeat(Box::new(part), least, most))
    }

    fn group(&mut self) -> Option<Node> {
        let fold = self.fold;
        if self.take("?i)") {
            self.fold = true;
            return Some(Node::Empty);
        }
        if self.take("?i:") {
            self.fold = true;
        } else if self.take("?P<") {
            let name = self.text[self.at..].iter().position(|byte| *byte == b'>')?;
            self.at += name + 1;
        } else if !self.take("?:") && self.peek() == Some(b'?') {
            return None;
        }
        let inside = self.any()?;
        self.fold = fold;
        self.take(")").then_some(inside)
    }

    fn escaped(&mut self) -> Option<Node> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'b' => Some(Node::Word(true)),
            b'B' => Some(Node::Word(false)),
            b'A' => Some(Node::Start),
            b'z' => Some(Node::End),
            byte if byte.is_ascii_punctuation() => Some(self.one(vec![byte])),
            byte => named(byte).map(|of| Node::One(set(of))),
        }
    }

    fn class(&mut self) -> Option<Node> {
        let negated = self.take("^");
        let mut of = Vec::new();
        let mut is_first = true;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b']' if !is_first => break,
                b'[' => return None,
                b'\\' => {
                    let escaped = self.peek()?;
                    self.at += 1;
                    if let Some(named) = named(escaped) {
                        of.extend(named);
                        is_first = false;
                        continue;
                    }
                    escaped.is_ascii_punctuation().then_some(())?;
                    of.extend(self.range(escaped)?);
                }
                byte => of.extend(self.range(byte)?),
            }
            is_first = false;
        }
        let Node::One(of) = self.one(of) else { return None };
        Some(Node::One(set((b' '..=b'~').filter(|byte| is_in(of, *byte) != negated))))
    }

    /// Returns a character of a class, or the range that begins with it.
    fn range(&mut self, first: u8) -> Option<Vec<u8>> {
        let rest = &self.text[self.at..];
        if rest.first() != Some(&b'-') || matches!(rest.get(1), None | Some(b']')) {
            return Some(vec![first]);
        }
        let last = rest[1];
        self.at += 2;
        (last != b'\\' && first <= last).then(|| (first..=last).collect())
    }

    fn one(&self, of: Vec<u8>) -> Node {
        if !self.fold {
            return Node::One(set(of));
        }
        let both = of.iter().flat_map(|byte| [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]);
        Node::One(set(both.chain(of.iter().copied())))
    }
}

/// Returns the class that a letter names.
fn named(letter: u8) -> Option<Vec<u8>> {
    let is_in = |byte: &u8| match letter.to_ascii_lowercase() {
        b'd' => byte.is_ascii_digit(),
        b's' => *byte == b' ',
        _ => byte.is_ascii_alphanumeric() || *byte == b'_',
    };
    matches!(letter.to_ascii_lowercase(), b'd' | b's' | b'w')
        .then(|| (b' '..=b'~').filter(|byte| is_in(byte) == letter.is_ascii_lowercase()).collect())
}
