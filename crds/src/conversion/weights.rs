//! Converts weights: quantities at v1alpha1, whole numbers from v1alpha2 on, and each where the other belongs.
//!
//! The hub has whole numbers in the same ratio. The original text is form: it is shown again only if it reads as
//! exactly the numbers that the hub has now. A value that is neither is left unchanged.

use std::collections::{HashMap, VecDeque};

use serde_json::Value as Json;

use super::{
    annotations::OriginalForm,
    outer::{Map, Value, element, elements, mapped},
};
use crate::{
    number::Number,
    quantity::{BILLION, billionths},
};

/// Turns quantities into whole numbers of the same ratio, and records them in the form.
pub(super) fn read(backends: &mut Value, form: &mut OriginalForm) {
    let weighted = weighted(backends);
    let written: Vec<Json> = weighted.iter().map(|(_, weight)| weight.clone()).collect();
    let numbers = whole(&written);
    if numbers.iter().all(Option::is_none) {
        return;
    }
    for ((service, text), number) in weighted.into_iter().zip(&numbers) {
        if number.as_ref().is_some_and(|number| *number != text) {
            form.weights.push((service, text));
        }
    }
    set(backends, numbers);
}

/// Writes the weights as the form records them, as far as that equals the numbers of the hub.
pub(super) fn print(backends: &mut Value, form: &OriginalForm) {
    if form.weights.is_empty() {
        return;
    }
    let weighted = weighted(backends);
    let numbers: Vec<Json> = weighted.iter().map(|(_, weight)| weight.clone()).collect();
    let all: Vec<Json> = remembered(&weighted, form)
        .into_iter()
        .zip(&numbers)
        .map(|(text, number)| text.unwrap_or(number).clone())
        .collect();
    // A text that by itself equals the hub's number may be shown beside numbers; one of another scale may not.
    let alone: Vec<Json> = all
        .iter()
        .zip(&numbers)
        .map(|(text, number)| if value(text) == value(number) { text } else { number }.clone())
        .collect();
    if let Some(shown) = [all, alone].into_iter().find(|texts| are_read_as(texts, &numbers)) {
        set(backends, shown.into_iter().map(Some).collect());
    }
}

/// Returns Service and weight of each backend that has a weight. A list or a map is not a weight, and is left
/// unchanged.
fn weighted(backends: &Value) -> Vec<(String, Json)> {
    let mut all = Vec::new();
    elements(backends, |backend| {
        let Some(backend) = Map::of(backend) else { return };
        if let Some(weight) = weight(&backend) {
            let service = backend.get("service").and_then(Value::as_string).unwrap_or_default();
            all.push((service, weight));
        }
    });
    all
}

fn weight(backend: &Map) -> Option<Json> {
    let weight = backend.get("weight")?;
    if weight.is_list() || weight.is_object() { None } else { serde_json::from_str(&weight.json()).ok() }
}

/// Assigns the next weight to each backend that has one.
fn set(backends: &mut Value, weights: Vec<Option<Json>>) {
    let mut weights = weights.into_iter();
    *backends = mapped(backends, |backend| {
        let mut backend = Map::of(backend)?;
        weight(&backend)?;
        backend.insert("weight", Value::Text(weights.next()??.to_string().into()));
        Some(element(&backend))
    });
}

/// Returns the text that the form has for each weight: the first one of a Service belongs to its first backend, and
/// so on.
fn remembered<'f>(weighted: &[(String, Json)], form: &'f OriginalForm) -> Vec<Option<&'f Json>> {
    let mut texts: HashMap<&str, VecDeque<&Json>> = HashMap::new();
    for (service, text) in &form.weights {
        texts.entry(service).or_default().push_back(text);
    }
    weighted.iter().map(|(service, _)| texts.get_mut(service.as_str())?.pop_front()).collect()
}

fn are_read_as(texts: &[Json], numbers: &[Json]) -> bool {
    let read = whole(texts);
    read.iter().zip(texts).zip(numbers).all(|((read, text), number)| read.as_ref().unwrap_or(text) == number)
}

/// Returns the whole number for each weight that is a quantity; none at all if all of them are whole numbers already.
fn whole(written: &[Json]) -> Vec<Option<Json>> {
    let is_plain = |weight: &Json| value(weight).is_none() || integer(weight).is_some();
    if written.iter().all(is_plain) {
        return vec![None; written.len()];
    }
    let values: Vec<Option<u128>> = written.iter().map(value).collect();
    let fits = |unit: &u128| values.iter().flatten().all(|value| value % unit == 0);
    let unit = [BILLION, 1_000_000, 1_000, 1].into_iter().find(fits).unwrap_or(1);
    let most = values.iter().flatten().max().copied().unwrap_or_default() / unit;
    let limit = i64::MAX.unsigned_abs().into();
    let common = values.iter().flatten().fold(0, |common, value| gcd(common, value / unit));
    // The plain units keep the digits that users wrote; numbers that are too large for them lose these.
    let divisor = if most <= limit { 1 } else { common.max(1) };
    let excess = (most / divisor).div_ceil(limit).max(1);
    let scaled = |value: u128| {
        let number = value / unit / divisor;
        let least = u128::from(number > 0);
        i64::try_from((number / excess).max(least)).unwrap_or(i64::MAX)
    };
    values.into_iter().map(|value| value.map(|value| scaled(value).into())).collect()
}

/// Returns a weight as a quantity, in billionths. Whole numbers below zero are not quantities, and are left unchanged.
fn value(weight: &Json) -> Option<u128> {
    billionths(weight)
}

fn integer(weight: &Json) -> Option<i64> {
    match weight {
        Json::Number(number) => match number.as_i64() {
            Some(number) => Some(number),
            None => Number::Other(weight.clone()).as_i64(),
        },
        _ => None,
    }
}

fn gcd(one: u128, other: u128) -> u128 {
    let (mut one, mut other) = (one, other);
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}
