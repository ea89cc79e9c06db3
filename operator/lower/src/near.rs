//! Finds known names that are similar to an unknown name.
//!
//! A typing error is found by edit distance; a name in another namespace by the part after the namespace. Knows nothing
//! of objects.

/// Maximum number of names shown.
const SHOWN: usize = 5;

/// Returns the names near to one that does not exist, the nearest first; if none is near, the first known ones, those of
/// its namespace before others. A name with a port is that name, and the port an option.
pub(crate) fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let with_port = name.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let (name, port) = with_port.map_or((name, None), |(name, port)| (name, Some(port)));
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    if let Some(port) = port.filter(|_| known.contains(&name)) {
        return vec![format!("{name} (with --port {port})")];
    }
    let reach = 2.max(name.chars().count() / 4);
    let parts = |name: &str| {
        name.rsplit_once('/').map_or_else(Default::default, |(of, name)| (of.to_owned(), name.to_owned()))
    };
    let (namespace, asked) = parts(name);
    let mut ranked: Vec<(usize, &str)> = known
        .iter()
        .filter_map(|candidate| {
            let distance = if parts(candidate).1 == asked { 1 } else { distance(name, candidate) };
            (distance <= reach).then_some((distance, *candidate))
        })
        .collect();
    ranked.sort_unstable();
    known.sort_by_key(|candidate| parts(candidate).0 != namespace);
    let found: Vec<&str> =
        if ranked.is_empty() { known } else { ranked.into_iter().map(|it| it.1).collect() };
    found.into_iter().take(SHOWN).map(str::to_owned).collect()
}

/// Returns the nearest name, if any is near at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = 2.max(name.chars().count() / 4);
    let ranked = known.into_iter().map(|candidate| (distance(name, candidate), candidate));
    ranked.filter(|(distance, candidate)| *distance <= reach.min(candidate.len() / 2)).min().map(|it| it.1)
}

/// Returns the number of insertions, removals and replacements from one to the other (Levenshtein), computed by rows.
fn distance(one: &str, other: &str) -> usize {
    /// Maximum length of a name, in characters; the rest of a longer name is ignored.
    const LONGEST: usize = 600;
    let other: Vec<char> = other.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, c) in one.chars().take(LONGEST).enumerate() {
        let mut next = vec![index + 1];
        let mut left = index + 1;
        for ((candidate, above_left), above) in other.iter().zip(&row).zip(row.iter().skip(1)) {
            let replaced = above_left + usize::from(*candidate != c);
            left = replaced.min(left + 1).min(above + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_book() {
        for (one, other, expected) in [("kitten", "sitting", 3), ("", "ab", 2), ("ab", "", 2), ("a", "a", 0)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn near_names_come_first_and_else_all() {
        let known = ["shop/store", "shop/stone", "other/stor", "shop/buyer"];
        assert_eq!(near("shop/stor", known), ["other/stor", "shop/store", "shop/stone"]);
        assert_eq!(near("x/y", known).len(), 4);
    }

    #[test]
    fn nothing_is_nearest_to_what_is_far_away() {
        let known = ["destination", "rules", "port", "sources"];
        assert_eq!(nearest("destinations", known), Some("destination"));
        assert_eq!(nearest("source", known), Some("sources"));
        assert_eq!(nearest("selector", known), None);
        assert_eq!(nearest("foo", known), None);
    }
}
