//! Tables of the fields of each SMI kind with their place at each version, and code for the differences that no table
//! expresses.

use super::{
    annotations::OriginalForm,
    outer::{Map, Value, element, elements, mapped},
    pieces::{FieldLocation, NarrowingField},
    place::{get, get_mut, put, take, tidy},
    slots::MovedField,
    weights,
};
use crate::kinds::{KindInfo, Shape};

/// v1alpha1 has its fields beside `metadata`.
const FLAT: &[&str] = &["v1alpha1"];

const TARGET_SLOTS: &[MovedField] = &[
    MovedField {
        name: "destination",
        places: &["spec.destination", "destination"],
        second_at: FLAT,
        inside: None,
    },
    MovedField {
        name: "rules",
        places: &["spec.rules", "specs", "spec.specs", "rules"],
        second_at: FLAT,
        inside: None,
    },
    MovedField { name: "sources", places: &["spec.sources", "sources"], second_at: FLAT, inside: None },
    MovedField {
        name: "port",
        places: &["spec.destination.port", "port", "spec.port"],
        second_at: &[],
        inside: Some("spec.destination"),
    },
];

const HTTP_SLOTS: &[MovedField] = &[MovedField {
    name: "matches",
    places: &["spec.matches", "matches", "spec.routes"],
    second_at: &["v1alpha1", "v1alpha2"],
    inside: None,
}];

const PORTS_SLOTS: &[MovedField] = &[MovedField {
    name: "ports",
    places: &["spec.matches.ports", "spec.ports"],
    second_at: &[],
    inside: None,
}];

const TARGET_PIECES: &[NarrowingField] = &[
    NarrowingField {
        name: "port",
        hidden_at: &["v1alpha3"],
        whereabouts: FieldLocation::FieldOf("spec.destination", "spec.destination.port"),
    },
    NarrowingField {
        name: "destinationGroup",
        hidden_at: &["v1alpha1", "v1alpha2", "v1alpha3"],
        whereabouts: FieldLocation::FieldOf("spec.destination", "spec.destination.group"),
    },
    NarrowingField {
        name: "sourceGroups",
        hidden_at: &["v1alpha1", "v1alpha2", "v1alpha3"],
        whereabouts: FieldLocation::Elements { list: "spec.sources", key: "name", field: "group" },
    },
];

const HTTP_PIECES: &[NarrowingField] = &[NarrowingField {
    name: "headers",
    hidden_at: &["v1alpha1"],
    whereabouts: FieldLocation::Elements { list: "spec.matches", key: "name", field: "headers" },
}];

const BEFORE_PORTS: &[&str] = &["v1alpha1", "v1alpha2", "v1alpha3"];

// The fields inside of `matches` are first, so that each field is restored by itself.
const PORTS_PIECES: &[NarrowingField] = &[
    NarrowingField {
        name: "ports",
        hidden_at: BEFORE_PORTS,
        whereabouts: FieldLocation::Field("spec.matches.ports"),
    },
    NarrowingField {
        name: "name",
        hidden_at: BEFORE_PORTS,
        whereabouts: FieldLocation::Field("spec.matches.name"),
    },
    NarrowingField {
        name: "matches",
        hidden_at: BEFORE_PORTS,
        whereabouts: FieldLocation::Field("spec.matches"),
    },
];

/// Names of the pieces for the matches of a split and of its backends.
const MATCHES: &str = "matches";
const BACKEND_MATCHES: &str = "backendMatches";

const SPLIT_PIECES: &[NarrowingField] = &[
    NarrowingField {
        name: MATCHES,
        hidden_at: &["v1alpha1", "v1alpha2"],
        whereabouts: FieldLocation::Field("spec.matches"),
    },
    NarrowingField {
        name: BACKEND_MATCHES,
        hidden_at: &["v1alpha1", "v1alpha2"],
        whereabouts: FieldLocation::Elements { list: "spec.backends", key: "service", field: "matches" },
    },
];

/// Place of the matches of a split in v1alpha3 of sdk-go v0.3.0.
pub(crate) const OF_BACKENDS: &str = "spec.backends[].matches";

impl Shape {
    /// Returns the shape of a kind, if its versions differ.
    pub fn of(group: &str, kind: &str) -> Option<Self> {
        KindInfo::find(group, kind)?.shape
    }

    /// Returns the fields with several places, outer ones first.
    pub fn slots(self) -> &'static [MovedField] {
        match self {
            Self::Target => TARGET_SLOTS,
            Self::Http => HTTP_SLOTS,
            Self::Ports => PORTS_SLOTS,
            Self::Split => &[],
        }
    }

    /// Returns the fields that narrow and that not every version has, inner ones first.
    pub fn pieces(self) -> &'static [NarrowingField] {
        match self {
            Self::Target => TARGET_PIECES,
            Self::Http => HTTP_PIECES,
            Self::Ports => PORTS_PIECES,
            Self::Split => SPLIT_PIECES,
        }
    }

    /// Returns true if a piece would be read as another one that is hidden: matches that all backends have, as the
    /// matches of the split.
    pub fn is_ambiguous(self, piece: &NarrowingField, content: &Map, form: &OriginalForm) -> bool {
        self == Self::Split
            && piece.name == BACKEND_MATCHES
            && !form.shown.contains(MATCHES)
            && get(content, "spec.matches").is_some()
    }

    /// Turns the fields of a version into the hub's, and records in the form what was written differently.
    pub fn read(self, version: &str, content: &mut Map, form: &mut OriginalForm) {
        let matches = get(content, "spec.matches");
        let is_odd = matches.is_some_and(|matches| !matches.is_object() && !matches.is_null());
        if self == Self::Ports && is_odd {
            // Matches without a meaning are left unchanged, and so the ports beside them do not count.
            form.ignored.extend(take(content, "spec.ports").map(|_| "spec.ports".to_owned()));
        } else {
            self.slots().iter().for_each(|slot| slot.read(version, content, form));
        }
        if self == Self::Split {
            if let Some(backends) = get_mut(content, "spec.backends").filter(|list| list.is_list()) {
                weights::read(backends, form);
            }
            gather_matches(content, form);
        }
        self.settle(content);
    }

    /// Brings the hub's fields into the canonical form, which equal objects share.
    pub fn settle(self, content: &mut Map) {
        if self == Self::Ports {
            let is_every_port = |ports: &Value| ports.is_null() || ports.is_empty_list();
            if get(content, "spec.matches.ports").is_some_and(is_every_port) {
                take(content, "spec.matches.ports");
            }
            tidy(content, "spec.matches");
        }
        tidy(content, "spec");
    }

    /// Turns the hub's fields into those of a version, in the given form.
    pub fn print(self, version: &str, content: &mut Map, form: &OriginalForm) {
        match self {
            Self::Target | Self::Http => {}
            // An explicit list, as some published definitions require it.
            Self::Ports if version == "v1alpha4" => {
                let is_free = |place: &str| get(content, place).is_none_or(Value::is_object);
                if is_free("spec") && is_free("spec.matches") && get(content, "spec.matches.ports").is_none()
                {
                    put(content, "spec.matches.ports", Value::list("[".to_owned()));
                }
            }
            Self::Ports => tidy(content, "spec.matches"),
            Self::Split => {
                if let Some(backends) = get_mut(content, "spec.backends").filter(|list| list.is_list()) {
                    weights::print(backends, form);
                }
                spread_matches(content, form);
            }
        }
        self.slots().iter().rev().for_each(|slot| slot.print(version, content, form));
        if self == Self::Ports {
            tidy(content, "spec.matches");
        }
        tidy(content, "spec");
        if self == Self::Ports && version == "v1alpha3" && !content.contains_key("spec") {
            content.insert("spec", Value::Object(Map::default()));
        }
    }
}

/// Moves matches that every backend has to the split.
fn gather_matches(content: &mut Map, form: &mut OriginalForm) {
    if get(content, "spec.matches").is_some() {
        return;
    }
    let Some(backends) = get_mut(content, "spec.backends").filter(|list| list.is_list()) else { return };
    let (mut of_first, mut are_equal) = (None, true);
    elements(backends, |backend| {
        let matches = Map::of(backend).and_then(|backend| backend.get("matches").cloned());
        are_equal = are_equal && *of_first.get_or_insert_with(|| matches.clone()) == matches;
    });
    let Some(matches) = of_first.flatten().filter(|matches| are_equal && !matches.is_null()) else { return };
    *backends = mapped(backends, |backend| {
        let mut backend = Map::of(backend)?;
        backend.remove("matches");
        Some(element(&backend))
    });
    put(content, "spec.matches", matches);
    form.places.insert("matches".into(), OF_BACKENDS.into());
}

fn spread_matches(content: &mut Map, form: &OriginalForm) {
    if form.places.get("matches").map(String::as_str) != Some(OF_BACKENDS)
        || get(content, "spec.matches").is_none_or(Value::is_null)
    {
        return;
    }
    let (mut has_any, mut have_room) = (false, true);
    if let Some(backends) = get(content, "spec.backends") {
        elements(backends, |backend| {
            has_any = true;
            have_room &= Map::of(backend).is_some_and(|backend| !backend.contains_key("matches"));
        });
    }
    if !has_any || !have_room {
        return;
    }
    let Some(matches) = take(content, "spec.matches") else { return };
    let Some(backends) = get_mut(content, "spec.backends") else { return };
    *backends = mapped(backends, |backend| {
        let mut backend = Map::of(backend)?;
        backend.insert("matches", matches.clone());
        Some(element(&backend))
    });
}
