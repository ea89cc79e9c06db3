//! Turns the files of a node's CNI configuration into the changes that chain the plugin, or take it out again.
//!
//! Pure. The runtime uses the first file by name. A list gets the plugin as its last one; a file of a single plugin becomes
//! a list beside it, and is kept under a name that the runtime does not read. Settling again changes nothing. Writes no
//! file.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ANNOTATIONS, PLUGIN, protocol::VERSIONS};

/// Extension of a file that a list has replaced.
const SAVED: &str = ".smidge-saved";
/// Extension of lists, and those of files of a single plugin.
const LIST: &str = ".conflist";
const SINGLE: [&str; 2] = [".conf", ".json"];

/// Files of the configuration, by name.
pub type Files = BTreeMap<String, String>;

/// Change of the folder. Each is atomic, and the folder is usable after each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Replace a file, or create it.
    Write {
        /// Name of the file.
        name: String,
        /// Its content.
        text: String,
    },
    /// Rename a file, in place of another of the new name.
    Rename {
        /// Name of the file.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Remove a file.
    Remove {
        /// Name of the file.
        name: String,
    },
}

/// Reasons for which the plugin cannot be chained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConflistError {
    /// The file has another form than expected.
    #[error("CNI configuration {name}: {field} is {found}: expected {expected}")]
    Form {
        /// Name of the file.
        name: String,
        /// The field.
        field: &'static str,
        /// Its value, or a parser's message.
        found: String,
        /// Expected form.
        expected: String,
    },
    /// The list that is to replace a file exists.
    #[error(
        "CNI configuration {name} cannot become {list}, which exists and is not Smidge's; hint: remove the one that is not in use"
    )]
    Both {
        /// Name of the file.
        name: String,
        /// Name of the list.
        list: String,
    },
}

/// Returns true if the runtime reads a file of this name.
pub fn is_read(name: &str) -> bool {
    name.ends_with(LIST) || SINGLE.iter().any(|extension| name.ends_with(extension))
}

/// Returns true if this module reads a file of this name.
pub fn is_known(name: &str) -> bool {
    is_read(name) || name.ends_with(SAVED)
}

/// Returns the changes after which the plugin is the last one of the configuration in use; `None` if there is no
/// configuration yet.
pub fn chain(files: &Files, socket: &str) -> Result<Option<Vec<Edit>>, ConflistError> {
    let Some(first) = files.iter().find(|(name, _)| is_read(name)) else { return Ok(None) };
    // A file that this list replaced, and that its owner has written anew, is newer than the list.
    let stem = first.0.strip_suffix(LIST);
    let anew = stem.and_then(|stem| replaced(files, stem)).and_then(|single| files.get_key_value(&single));
    let (first, text) = anew.unwrap_or(first);
    let mut edits = Vec::new();
    let list = if first.ends_with(LIST) {
        first.clone()
    } else {
        let (list, made) = converted(files, first, text)?;
        edits.push(Edit::Write { name: list.clone(), text: chained(&list, made, socket)? });
        edits.push(Edit::Rename { from: first.clone(), to: format!("{first}{SAVED}") });
        list
    };
    if edits.is_empty() {
        let found = parsed(first, text)?;
        let wanted = chained(first, found.clone(), socket)?;
        if parsed(first, &wanted)? != found {
            edits.push(Edit::Write { name: first.clone(), text: wanted });
        }
    }
    // Another plugin may have put its file before the one in which this plugin was.
    edits.extend(taken_out(files, Some(&list)));
    Ok(Some(edits))
}

/// Returns the changes after which no configuration has the plugin.
pub fn unchain(files: &Files) -> Vec<Edit> {
    taken_out(files, None)
}

/// Returns true if the configuration in use has the plugin.
pub fn is_chained(files: &Files, socket: &str) -> bool {
    chain(files, socket).is_ok_and(|edits| edits.is_some_and(|edits| edits.is_empty()))
}

/// Takes the plugin out of every list but `kept`.
fn taken_out(files: &Files, kept: Option<&str>) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(LIST) && Some(name.as_str()) != kept) {
        // What cannot be read does not have the plugin.
        let Ok(mut list) = parsed(name, text) else { continue };
        let Some(plugins) = list.get_mut("plugins").and_then(Value::as_array_mut) else { continue };
        let before = plugins.len();
        plugins.retain(|plugin| !is_own(plugin));
        if plugins.len() == before {
            continue;
        }
        let stem = name.trim_end_matches(LIST);
        match replaced(files, stem) {
            // Its owner has written it anew.
            Some(single) if files.contains_key(&single) => {
                edits.push(Edit::Remove { name: format!("{single}{SAVED}") });
                edits.push(Edit::Remove { name: name.clone() });
            }
            Some(single) => {
                edits.push(Edit::Rename { from: format!("{single}{SAVED}"), to: single });
                edits.push(Edit::Remove { name: name.clone() });
            }
            None if plugins.is_empty() => edits.push(Edit::Remove { name: name.clone() }),
            None => edits.push(Edit::Write { name: name.clone(), text: written(&list) }),
        }
    }
    edits
}

/// Returns the name that a file had before a list replaced it; `None` if the list replaced none.
fn replaced(files: &Files, stem: &str) -> Option<String> {
    let mut single = SINGLE.iter().map(|extension| format!("{stem}{extension}"));
    single.find(|single| files.contains_key(&format!("{single}{SAVED}")))
}

/// Returns the list of a file with a single plugin, and its name.
fn converted(files: &Files, name: &str, text: &str) -> Result<(String, Map<String, Value>), ConflistError> {
    let mut plugin = parsed(name, text)?;
    if !plugin.get("type").is_some_and(Value::is_string) {
        return Err(form(name, "type", plugin.get("type"), "the name of a plugin"));
    }
    let stem = SINGLE.iter().find_map(|extension| name.strip_suffix(extension)).unwrap_or(name);
    let list = format!("{stem}{LIST}");
    let is_ours = |text: &String| {
        parsed(&list, text).is_ok_and(|list| {
            list.get("plugins").and_then(Value::as_array).is_some_and(|plugins| plugins.iter().any(is_own))
        })
    };
    if files.get(&list).is_some_and(|text| !is_ours(text)) {
        return Err(ConflistError::Both { name: name.to_owned(), list });
    }
    let mut made = Map::new();
    for field in ["cniVersion", "name"] {
        if let Some(value) = plugin.remove(field) {
            made.insert(field.to_owned(), value);
        }
    }
    made.insert("plugins".to_owned(), json!([plugin]));
    Ok((list, made))
}

/// Returns a list with the plugin as its last one.
fn chained(name: &str, mut list: Map<String, Value>, socket: &str) -> Result<String, ConflistError> {
    let version = list.get("cniVersion");
    let several = list.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    if !several.chain(version).filter_map(Value::as_str).any(|version| VERSIONS.contains(&version)) {
        let expected = format!("one of {}, in which plugins can be chained", VERSIONS.join(", "));
        return Err(form(name, "cniVersion", version, &expected));
    }
    let Some(plugins) = list.get_mut("plugins").and_then(Value::as_array_mut) else {
        return Err(form(name, "plugins", list.get("plugins"), "a list of plugins"));
    };
    plugins.retain(|plugin| !is_own(plugin));
    if plugins.is_empty() {
        return Err(form(name, "plugins", None, "the plugin of the cluster's network"));
    }
    plugins.push(json!({"type": PLUGIN, "capabilities": {ANNOTATIONS: true}, "socket": socket}));
    Ok(written(&list))
}

fn is_own(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(PLUGIN)
}

fn parsed(name: &str, text: &str) -> Result<Map<String, Value>, ConflistError> {
    serde_json::from_str(text).map_err(|error| ConflistError::Form {
        name: name.to_owned(),
        field: "the file",
        found: error.to_string(),
        expected: "a JSON object".to_owned(),
    })
}

fn form(name: &str, field: &'static str, found: Option<&Value>, expected: &str) -> ConflistError {
    let found = found.map_or("missing".to_owned(), |value| value.to_string().chars().take(80).collect());
    ConflistError::Form { name: name.to_owned(), field, found, expected: expected.to_owned() }
}

fn written(list: &Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(list.clone()))
}
