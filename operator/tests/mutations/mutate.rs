//! Mutates manifests: values by changing their shape, texts by changing their bytes. Deterministic by its seed.

use serde_json::{Map, Value, json};

/// A generator of numbers (splitmix64): small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Expressions whose cost explodes, or that no proxy accepts.
pub const REGEXES: &[&str] = &[
    "(a*)*b",
    "(a+)+$",
    "((((a{100}){100}){100}){100})",
    "a{1000}{1000}",
    "(a{1000}){1000}",
    "[a-z]{999}[0-9]{999}[A-Z]{999}",
    "(.{0,999}){0,999}",
    "(x+x+)+y",
    "(|a|b|c)*(|a|b|c)*(|a|b|c)*",
    r"\p{L}{1000}",
    r"(?i)\x{10FFFF}+",
    "[[:alpha:][:^alpha:]]{500}",
    "[^\\x00-\\x{10FFFF}]",
    "(?P<n>a)(?P<n>b)",
    "(?=look)",
    r"\1(a)",
    "[z-a]",
    "a{5,3}",
    "(((((",
    "*",
    "(?:)",
    "a**",
    "\\",
];

fn junk(dice: &mut Dice) -> Value {
    match dice.below(26) {
        0..=3 => Value::Null,
        4 => json!(true),
        5 => json!(-1),
        6 => json!(u64::MAX),
        7 => json!(i64::MIN),
        8 => json!(1e308),
        9 => json!(0.5),
        10 => json!(65536),
        11 => json!(""),
        12 => json!("\u{0}\u{1b}[2J\u{202e}\u{feff}"),
        13 => json!("x".repeat(2000)),
        14 => json!([]),
        15 => json!({}),
        16 => json!([null, [], {}]),
        17 => deep(dice.below(200)),
        18 => json!("500m"),
        19 => json!("../../etc/passwd"),
        20 => json!("9".repeat(400)),
        21 => json!((0..dice.below(300)).collect::<Vec<_>>()),
        22 => json!("{{ .Values.x }}"),
        23 => json!("1e999"),
        _ => json!(dice.pick(REGEXES)),
    }
}

/// Nested lists and maps.
pub fn deep(depth: usize) -> Value {
    (0..depth)
        .fold(Value::Null, |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
}

/// Collects the JSON pointers of a value, from the outside in.
fn places(value: &Value, at: &mut String, found: &mut Vec<String>) {
    found.push(at.clone());
    let length = at.len();
    let mut go = |key: &str, inner: &Value| {
        at.push('/');
        at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        places(inner, at, found);
        at.truncate(length);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| go(key, inner)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| go(&index.to_string(), inner));
        }
        _ => {}
    }
}

/// Mutates a manifest in one to three places.
pub fn mutate(value: &mut Value, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let mut found = Vec::new();
        places(value, &mut String::new(), &mut found);
        let other = value.pointer(dice.pick(&found[..]).as_str()).cloned().unwrap_or_default();
        let Some(place) = value.pointer_mut(dice.pick(&found[..]).as_str()) else { continue };
        spoil_place(place, other, dice);
    }
}

fn spoil_place(place: &mut Value, other: Value, dice: &mut Dice) {
    match (dice.below(12), place) {
        (0, place) => *place = other,
        (1, place) => *place = json!([place.take()]),
        (2, place) => *place = json!({"a": place.take()}),
        (3 | 4, Value::Object(map)) => {
            let key = nth_key(map, dice);
            let taken = map.remove(&key);
            if dice.below(2) == 0 {
                // A typing error.
                map.insert(format!("{key}s"), taken.unwrap_or_default());
            }
        }
        (5, Value::Object(map)) => {
            map.insert(
                (*dice.pick(&["", "spec", "matches", "name", "weight", "pathRegex", "\u{0}"])).to_owned(),
                junk(dice),
            );
        }
        (3..=6, Value::Array(list)) => {
            let copies = list.clone();
            for _ in 0..dice.below(6) {
                list.extend(copies.iter().cloned());
            }
            list.truncate(400);
        }
        (7, Value::String(text)) => spoil_text(text, dice),
        (8, Value::Number(number)) => {
            let text = number.to_string();
            *number = serde_json::Number::from(dice.next());
            drop(text);
        }
        (9, place) => nothing_everywhere(place),
        (_, place) => *place = junk(dice),
    }
}

fn nth_key(map: &Map<String, Value>, dice: &mut Dice) -> String {
    let index = dice.below(map.len());
    map.keys().nth(index).cloned().unwrap_or_default()
}

fn spoil_text(text: &mut String, dice: &mut Dice) {
    const VERSIONS: [&str; 6] = ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4", "v1beta1", "v9"];
    if let Some((group, _)) = text.split_once("/v1") {
        *text = format!("{group}/{}", dice.pick(&VERSIONS));
    } else {
        let characters: Vec<char> = text.chars().rev().collect();
        *text = characters.into_iter().cycle().take(dice.below(40)).collect();
    }
}

/// Replaces every leaf with `null`.
fn nothing_everywhere(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(nothing_everywhere),
        Value::Array(list) => list.iter_mut().for_each(nothing_everywhere),
        leaf => *leaf = Value::Null,
    }
}

/// Mutates a text: bytes, lines, and syntax of YAML.
pub fn spoil_bytes(text: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(text.len() + 1);
        match dice.below(12) {
            0 => text.truncate(at),
            1 => insert(text, at, &[0xff, 0xfe]),
            2 => insert(text, at, &[0xc3]),
            3 => insert(text, at, b"\t"),
            4 => insert(text, at, b"\n---\n"),
            5 => insert(text, at, b" &a "),
            6 => insert(text, at, b" *a "),
            7 => insert(text, at, b"\n<<: *a\n"),
            8 => insert(text, at, b"\0"),
            9 => repeat_line(text, dice),
            10 => insert(text, at, dice.pick(&MARKS).as_bytes()),
            _ => {
                let flipped = u8::try_from(dice.below(256)).unwrap();
                if let Some(byte) = text.get_mut(at) {
                    *byte = flipped;
                }
            }
        }
    }
}

/// Characters with a meaning in YAML.
const MARKS: [&str; 11] = ["{", "}", "[", "]", ": ", "- ", "\"", "'", "|", "!!binary ", "? "];

fn insert(text: &mut Vec<u8>, at: usize, what: &[u8]) {
    text.splice(at..at, what.iter().copied());
}

/// Repeats a line, so that mostly a key occurs twice.
fn repeat_line(text: &mut Vec<u8>, dice: &mut Dice) {
    let lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = dice.below(lines.len());
    let mut mutated: Vec<Vec<u8>> = lines.clone();
    mutated.insert(at, lines[at].clone());
    *text = mutated.join(&b'\n');
}
