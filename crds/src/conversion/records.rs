//! Takes fields out of the elements of a list, for a version without them, and restores them.
//!
//! A record is `[key, digest of the rest, value]`, one for each element, so that an element without the field is
//! distinguished from one that has lost it. A client of that version may have edited, moved, added and removed
//! elements meanwhile; each element is matched to its record, in this order, by place, key and rest (untouched), by
//! key and rest (moved), by key (edited), by place and rest (renamed). A new element with a new key has none. Where
//! elements are alike and some of them are gone, those that are left keep what narrows.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use super::outer::{Map, Value, element, elements, mapped};

/// Takes `field` out of the elements, and returns the records; `None` if no element has it.
pub(super) fn take(list: &mut Value, key: &str, field: &str) -> Option<Value> {
    let mut has_any = false;
    let mut records = String::from("[");
    let without = mapped(list, |text| {
        let mut fields = Map::of(text)?;
        let value = fields.remove(field);
        has_any |= value.is_some();
        let (key, rest) = identity(&fields, key, field);
        let value = value.as_ref().map(Value::json);
        let (key, comma) = (Value::string(&key).json(), if value.is_some() { "," } else { "" });
        records.extend(["[", &key, ",\"", &rest, "\"", comma, value.as_deref().unwrap_or_default(), "],"]);
        Some(element(&fields))
    });
    if !has_any {
        return None;
    }
    *list = without;
    Some(Value::list(records))
}

/// Restores `field` in the elements that have none now.
pub(super) fn put_back(list: &mut Value, key: &str, field: &str, records: &Value) {
    let mut read = Vec::new();
    elements(records, |record| read.extend(Record::read(record)));
    let mut identities = Vec::new();
    elements(list, |text| identities.extend(Map::of(text).map(|fields| identity(&fields, key, field))));
    let mut found = find(&identities, &read).into_iter();
    *list = mapped(list, |text| {
        let mut fields = Map::of(text)?;
        let record = found.next()?.and_then(|index| read.get(index));
        let value = record.and_then(|record| record.value.clone())?;
        if fields.get(field).is_some_and(|value| !value.is_null()) {
            return None;
        }
        fields.insert(field, value);
        Some(element(&fields))
    });
}

struct Record {
    key: String,
    rest: String,
    value: Option<Value>,
}

impl Record {
    fn read(record: &str) -> Option<Self> {
        let (mut at, mut key, mut rest, mut value) = (0, None, None, None);
        let text = |text: &str| serde_json::from_str::<String>(text).ok();
        elements(&Value::Text(record.into()), |part| {
            match at {
                0 => key = text(part),
                1 => rest = text(part),
                2 => value = Some(Value::Text(part.into())),
                _ => {}
            }
            at += 1;
        });
        Some(Self { key: key?, rest: rest?, value })
    }
}

/// Returns the index of the record of each element.
fn find(elements: &[(String, String)], records: &[Record]) -> Vec<Option<usize>> {
    let mut claims = Claims { found: vec![None; elements.len()], free: vec![true; records.len()] };
    let are_as_many = elements.len() == records.len();
    if are_as_many {
        claims.by_place(elements, records, |key, rest, record| record.key == key && record.rest == rest);
    }
    claims.by_mark(elements, records, |key, rest| (key.to_owned(), rest.to_owned()));
    claims.by_mark(elements, records, |key, _| key.to_owned());
    if are_as_many {
        claims.by_place(elements, records, |_, rest, record| record.rest == rest);
    }
    claims.found
}

/// Record of each element, and the records that no element has.
struct Claims {
    found: Vec<Option<usize>>,
    free: Vec<bool>,
}

impl Claims {
    /// Assigns to each element without a record the one at its own place, if it fits.
    fn by_place(
        &mut self,
        elements: &[(String, String)],
        records: &[Record],
        fits: impl Fn(&str, &str, &Record) -> bool,
    ) {
        let places = self.found.iter_mut().zip(&mut self.free).zip(elements.iter().zip(records)).enumerate();
        for (index, ((found, free), ((key, rest), record))) in places {
            if found.is_none() && *free && fits(key, rest, record) {
                *found = Some(index);
                *free = false;
            }
        }
    }

    /// Assigns to each element without a record the first free one with the same mark.
    fn by_mark<Mark: Hash + Eq>(
        &mut self,
        elements: &[(String, String)],
        records: &[Record],
        mark: impl Fn(&str, &str) -> Mark,
    ) {
        let mut queues: HashMap<Mark, VecDeque<usize>> = HashMap::new();
        for (index, record) in
            records.iter().enumerate().filter(|(index, _)| self.free.get(*index) == Some(&true))
        {
            queues.entry(mark(&record.key, &record.rest)).or_default().push_back(index);
        }
        let mut askers: HashMap<Mark, usize> = HashMap::new();
        for (_, (key, rest)) in self.found.iter().zip(elements).filter(|(found, _)| found.is_none()) {
            *askers.entry(mark(key, rest)).or_default() += 1;
        }
        for (mark, queue) in &mut queues {
            if askers.get(mark).copied().unwrap_or_default() < queue.len() {
                let narrows =
                    |index: &usize| records.get(*index).is_some_and(|record| record.value.is_some());
                queue.make_contiguous().sort_by_key(|index| !narrows(index));
            }
        }
        for (found, (key, rest)) in self.found.iter_mut().zip(elements).filter(|(found, _)| found.is_none()) {
            let index = queues.get_mut(&mark(key, rest)).and_then(VecDeque::pop_front);
            if let Some(free) = index.and_then(|index| self.free.get_mut(index)) {
                *free = false;
                *found = index;
            }
        }
    }
}

/// Returns an element's key, and a digest of its fields beside the key and `field`.
fn identity(element: &Map, key: &str, field: &str) -> (String, String) {
    let rest = element.iter().filter(|(name, value)| *name != key && *name != field && !value.is_null());
    let mut digest = Digest::default();
    for (name, value) in rest {
        digest.add(name);
        digest.add(&value.json());
    }
    (element.get(key).and_then(Value::as_string).unwrap_or_default(), format!("{:016x}", digest.0))
}

/// FNV-1a digest. A forged collision only swaps what narrows two elements of an object that its author may write
/// anyway.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn add(&mut self, text: &str) {
        // 0xff does not occur in UTF-8, so it ends a text.
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
