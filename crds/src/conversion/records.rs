//! Fields of a list's elements, kept apart from the list while it is at a version without them.
//!
//! A record is `[key, digest of the rest, value]`, one for each element, so that an element without the field is not
//! taken for one that has lost it. A client of that version may have edited, moved, added and removed elements
//! meanwhile; each element finds its record, in this order, by place, key and rest (untouched), by key and rest (moved),
//! by key (edited), by place and rest (renamed). An element that is new under a new key finds none. Where elements look
//! alike and some of them are gone, those that are left keep what narrows.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use serde_json::{Map, Value};

/// Takes `field` out of the elements, if any has it.
pub(super) fn take(list: &mut [Value], key: &str, field: &str) -> Option<Value> {
    if !list.iter().any(|element| element.get(field).is_some()) {
        return None;
    }
    let records = list.iter_mut().filter_map(Value::as_object_mut).map(|element| {
        let value = element.remove(field);
        let (key, rest) = identity(element, key, field);
        Value::Array([Value::String(key.into()), Value::String(rest)].into_iter().chain(value).collect())
    });
    Some(records.collect())
}

/// Puts `field` back into the elements that have none now.
pub(super) fn put_back(list: &mut [Value], key: &str, field: &str, records: &Value) {
    let records: Vec<Record<'_>> =
        records.as_array().into_iter().flatten().filter_map(Record::read).collect();
    let mut elements: Vec<&mut Map<String, Value>> =
        list.iter_mut().filter_map(Value::as_object_mut).collect();
    let found = {
        let identities: Vec<(&str, String)> =
            elements.iter().map(|element| identity(element, key, field)).collect();
        find(&identities, &records)
    };
    for (element, record) in elements.iter_mut().zip(found) {
        let value = record.and_then(|index| records.get(index)).and_then(|record| record.value);
        if let Some(value) = value
            && element.get(field).is_none_or(Value::is_null)
        {
            element.insert(field.to_owned(), value.clone());
        }
    }
}

struct Record<'r> {
    key: &'r str,
    rest: &'r str,
    value: Option<&'r Value>,
}

impl<'r> Record<'r> {
    fn read(record: &'r Value) -> Option<Self> {
        let mut fields = record.as_array()?.iter();
        Some(Self { key: fields.next()?.as_str()?, rest: fields.next()?.as_str()?, value: fields.next() })
    }
}

/// The record of each element.
fn find(elements: &[(&str, String)], records: &[Record<'_>]) -> Vec<Option<usize>> {
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

/// Which record each element has, and which records nobody has.
struct Claims {
    found: Vec<Option<usize>>,
    free: Vec<bool>,
}

impl Claims {
    /// Gives the elements without a record the one at their own place, if it fits.
    fn by_place(
        &mut self,
        elements: &[(&str, String)],
        records: &[Record<'_>],
        fits: impl Fn(&str, &str, &Record<'_>) -> bool,
    ) {
        let places = self.found.iter_mut().zip(&mut self.free).zip(elements.iter().zip(records)).enumerate();
        for (index, ((found, free), ((key, rest), record))) in places {
            if found.is_none() && *free && fits(key, rest, record) {
                *found = Some(index);
                *free = false;
            }
        }
    }

    /// Gives the elements without a record the first free one that has the same mark.
    fn by_mark<Mark: Hash + Eq>(
        &mut self,
        elements: &[(&str, String)],
        records: &[Record<'_>],
        mark: impl Fn(&str, &str) -> Mark,
    ) {
        let mut queues: HashMap<Mark, VecDeque<usize>> = HashMap::new();
        for (index, record) in
            records.iter().enumerate().filter(|(index, _)| self.free.get(*index) == Some(&true))
        {
            queues.entry(mark(record.key, record.rest)).or_default().push_back(index);
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

/// An element's key, and a digest of what it has beside key and `field`.
fn identity<'e>(element: &'e Map<String, Value>, key: &str, field: &str) -> (&'e str, String) {
    let rest = element.iter().filter(|(name, value)| *name != key && *name != field && !value.is_null());
    let mut digest = Digest::default();
    for (name, value) in rest {
        digest.add(name);
        digest.add(&value.to_string());
    }
    (element.get(key).and_then(Value::as_str).unwrap_or_default(), format!("{:016x}", digest.0))
}

/// FNV-1a. Whoever forges a collision swaps what narrows two elements of an object that is his to write.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn add(&mut self, text: &str) {
        // 0xff is no byte of UTF-8, so it ends a text.
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
