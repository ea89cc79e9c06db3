//! Weights: quantities at v1alpha1, whole numbers from v1alpha2 on, and each in the other's place.
//!
//! The hub has whole numbers in the same ratio. How they were written is form: it is shown again only if it reads as the
//! very numbers that the hub has now. A value that is neither stays as it is.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};

use super::annotations::Form;
use crate::number::Number;
use crate::quantity::{BILLION, billionths};

/// Turns quantities into whole numbers of the same ratio, and notes them in the form.
pub(super) fn read(backends: &mut [Value], form: &mut Form) {
    let mut written: Vec<Value> = weights(backends).cloned().collect();
    let numbers = whole(&written);
    for (weight, number) in weights_mut(backends).zip(numbers) {
        if let Some(number) = number {
            *weight = number;
        }
    }
    let mut texts = written.drain(..);
    for backend in backends.iter().filter_map(Value::as_object) {
        let Some(weight) = backend.get("weight") else { continue };
        let Some(text) = texts.next() else { break };
        if *weight != text {
            form.weights.push((service(backend).to_owned(), text));
        }
    }
}

/// Shows the weights as the form remembers them, as far as that says what the hub has.
pub(super) fn print(backends: &mut [Value], form: &Form) {
    if form.weights.is_empty() {
        return;
    }
    let numbers: Vec<Value> = weights(backends).cloned().collect();
    let all: Vec<Value> = remembered(backends, form)
        .into_iter()
        .zip(&numbers)
        .map(|(text, number)| text.unwrap_or(number).clone())
        .collect();
    // A weight that says by itself what the hub has may be shown beside numbers; one of another scale may not.
    let alone: Vec<Value> = all
        .iter()
        .zip(&numbers)
        .map(|(text, number)| if value(text) == value(number) { text } else { number }.clone())
        .collect();
    let shown = [all, alone].into_iter().find(|texts| says(texts, &numbers));
    for (weight, text) in weights_mut(backends).zip(shown.into_iter().flatten()) {
        *weight = text;
    }
}

/// The text that the form has for each weight: the first one of a Service is its first backend's, and so on.
fn remembered<'f>(backends: &[Value], form: &'f Form) -> Vec<Option<&'f Value>> {
    let mut texts: HashMap<&str, VecDeque<&Value>> = HashMap::new();
    for (service, text) in &form.weights {
        texts.entry(service).or_default().push_back(text);
    }
    let weighted =
        backends.iter().filter_map(Value::as_object).filter(|backend| backend.contains_key("weight"));
    weighted.map(|backend| texts.get_mut(service(backend))?.pop_front()).collect()
}

fn says(texts: &[Value], numbers: &[Value]) -> bool {
    let read = whole(texts);
    read.iter().zip(texts).zip(numbers).all(|((read, text), number)| read.as_ref().unwrap_or(text) == number)
}

/// The whole number for each weight that is a quantity; none at all if they all are whole numbers already.
fn whole(written: &[Value]) -> Vec<Option<Value>> {
    let is_plain = |weight: &Value| value(weight).is_none() || integer(weight).is_some();
    if written.iter().all(is_plain) {
        return vec![None; written.len()];
    }
    let values: Vec<Option<u128>> = written.iter().map(value).collect();
    let fits = |unit: &u128| values.iter().flatten().all(|value| value % unit == 0);
    let unit = [BILLION, 1_000_000, 1_000, 1].into_iter().find(fits).unwrap_or(1);
    let most = values.iter().flatten().max().copied().unwrap_or_default() / unit;
    let limit = i64::MAX.unsigned_abs().into();
    let common = values.iter().flatten().fold(0, |common, value| gcd(common, value / unit));
    // The plain units keep the digits that users know; what is too large for them has to give them up.
    let divisor = if most <= limit { 1 } else { common.max(1) };
    let excess = (most / divisor).div_ceil(limit).max(1);
    let scaled = |value: u128| {
        let number = value / unit / divisor;
        let least = u128::from(number > 0);
        i64::try_from((number / excess).max(least)).unwrap_or(i64::MAX)
    };
    values.into_iter().map(|value| value.map(|value| scaled(value).into())).collect()
}

/// The quantity that a weight is. Whole numbers below zero are none, and stay as they are.
fn value(weight: &Value) -> Option<u128> {
    billionths(weight)
}

fn integer(weight: &Value) -> Option<i64> {
    match weight {
        Value::Number(number) => match number.as_i64() {
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

fn service(backend: &Map<String, Value>) -> &str {
    backend.get("service").and_then(Value::as_str).unwrap_or_default()
}

fn weights(backends: &[Value]) -> impl Iterator<Item = &Value> {
    backends.iter().filter_map(|backend| backend.as_object()?.get("weight"))
}

fn weights_mut(backends: &mut [Value]) -> impl Iterator<Item = &mut Value> {
    backends.iter_mut().filter_map(|backend| backend.as_object_mut()?.get_mut("weight"))
}
