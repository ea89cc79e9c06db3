//! Splits a text into documents and reads each as a value with a kind.
//!
//! Each document is parsed separately, so that broken YAML or template text in one affects only itself. `List`s are
//! unfolded. Does not know what the kinds mean.

use serde::de::DeserializeOwned;
use serde_json::Value;
use smidge_crds::type_error;

use super::{DEFAULT_NAMESPACE, Source, Unreadable, unversioned, yaml};

/// One object as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Name of its file.
    pub file: String,
    /// Number of the document in the file, counted from 1.
    pub number: usize,
    /// Path in the document: empty, or `items[0].` in a list.
    pub place: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The API version in the group.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The namespace of the object if it names none.
    pub default_namespace: String,
    /// The whole object.
    pub value: Value,
}

impl Document {
    /// Decodes the object as `K`, or reports the field at which it does not have that shape.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, Unreadable> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let path = error.path().to_string();
            self.unreadable(
                if path == "." { "" } else { &path },
                type_error::plain(&error.into_inner().to_string()),
            )
        })
    }

    /// Returns the report of a problem with `field` of this object.
    pub fn unreadable(&self, field: &str, message: impl Into<String>) -> Unreadable {
        let field = format!("{}{field}", self.place);
        let field = field.trim_end_matches('.');
        Unreadable {
            file: self.file.clone(),
            document: Some(self.number),
            field: (!field.is_empty()).then(|| field.to_owned()),
            message: message.into(),
        }
    }
}

/// Returns the objects of a text, and the parts of it that could not be read.
pub fn parse(source: &Source) -> (Vec<Document>, Vec<Unreadable>) {
    let mut documents = Vec::new();
    let mut unreadable = Vec::new();
    for (index, chunk) in chunks(&source.text).into_iter().enumerate() {
        let number = index + 1;
        match yaml::read(&chunk.text) {
            Ok(value) => {
                add(&source.name, number, String::new(), value, &mut documents, &mut unreadable);
            }
            Err(error) => {
                let options = serde_saphyr::render_options! { line_offset: chunk.lines_before };
                let why = in_plain_words(&error.render_with_options(options));
                let is_template = chunk.text.contains("{{");
                let hint = if is_template { "; hint: this is a template, to be rendered first" } else { "" };
                unreadable.push(Unreadable {
                    file: source.name.clone(),
                    document: Some(number),
                    field: None,
                    message: format!("is not YAML: {why}{hint}"),
                });
            }
        }
    }
    (documents, unreadable)
}

/// Shortens a message of the parser, which goes on with an excerpt of the text and advice for programmers.
fn in_plain_words(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = line.strip_suffix(", set DuplicateKeyPolicy in Options if acceptable").unwrap_or(line);
    line.replace("cannot deserialize null into string; use Option<String>", "null where text is expected")
}

/// Text of one document, and the number of lines before it in its file.
#[derive(Default)]
struct Chunk {
    lines_before: u64,
    text: String,
}

/// Returns the documents of a text that have content. `---` at the start of a line ends a document anywhere (YAML 1.2,
/// 9.1.2), so this needs no parser.
fn chunks(text: &str) -> Vec<Chunk> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    for (lines_before, line) in (0..).zip(text.lines()) {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if rest.is_some() || line == "..." {
            chunks.push(std::mem::replace(&mut chunk, Chunk { lines_before, text: String::new() }));
        }
        if let Some(rest) = rest {
            chunk.text.push_str(rest);
        } else if line != "..." && !line.starts_with('%') {
            chunk.text.push_str(line);
        }
        chunk.text.push('\n');
    }
    chunks.push(chunk);
    let has_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    chunks.retain(|chunk| chunk.text.lines().any(has_content));
    chunks
}

fn add(
    file: &str,
    number: usize,
    place: String,
    value: Value,
    documents: &mut Vec<Document>,
    unreadable: &mut Vec<Unreadable>,
) {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let document = Document {
        file: file.to_owned(),
        number,
        place,
        group: group.to_owned(),
        version: version.to_owned(),
        kind,
        default_namespace: DEFAULT_NAMESPACE.to_owned(),
        value: Value::Null,
    };
    match value {
        // An empty document is read as null.
        Value::Null => {}
        Value::Object(mut object) if document.kind.ends_with("List") && object.contains_key("items") => {
            let Some(Value::Array(items)) = object.remove("items") else { return };
            for (index, mut item) in items.into_iter().enumerate() {
                set_kind(&mut item, &api_version, &document.kind);
                let place = format!("{}items[{index}].", document.place);
                add(file, number, place, item, documents, unreadable);
            }
        }
        // Neither a Kubernetes object nor meant as one: values of a chart, settings of a tool.
        Value::Object(_) if document.kind.is_empty() && api_version.is_empty() => {}
        Value::Object(_) if document.kind.is_empty() => {
            unreadable.push(document.unreadable("kind", "is missing: expected the object's kind"));
        }
        Value::Object(object) if api_version.is_empty() => {
            let kind = &document.kind;
            let hint = unversioned::hint(kind, &object).map(|hint| format!("; hint: {hint}"));
            let message = format!(
                "is missing: expected the API group and version of {kind}{}",
                hint.unwrap_or_default()
            );
            unreadable.push(document.unreadable("apiVersion", message));
        }
        Value::Object(object) => documents.push(Document { value: Value::Object(object), ..document }),
        other => {
            let found = match other {
                Value::Array(_) => "a list",
                Value::String(_) => "text",
                _ => "a bare value",
            };
            unreadable.push(document.unreadable("", format!("is {found}: expected an object")));
        }
    }
}

/// Adds kind and version to an item: the API server writes them once where a list is of one kind.
fn set_kind(item: &mut Value, api_version: &str, list: &str) {
    let kind = list.strip_suffix("List").unwrap_or_default();
    let Value::Object(item) = item else { return };
    if !kind.is_empty() && !item.contains_key("kind") && !item.contains_key("apiVersion") {
        item.insert("kind".to_owned(), kind.into());
        item.insert("apiVersion".to_owned(), api_version.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<Document>, Vec<Unreadable>) {
        parse(&Source { name: "a.yaml".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn documents_are_cut_at_their_marks_and_numbered() {
        let (documents, unreadable) = parsed(
            "# only a comment\n---\nkind: A\napiVersion: v1\ntext: |\n  ---\n  inside\n---\n---\r\nkind: B\r\napiVersion: g/v2\r\n",
        );
        assert_eq!(unreadable, []);
        let read: Vec<_> = documents.iter().map(|d| (d.number, &*d.kind, &*d.group, &*d.version)).collect();
        assert_eq!(read, [(1, "A", "", "v1"), (2, "B", "g", "v2")]);
    }

    #[test]
    fn broken_text_costs_only_its_own_document_and_is_named_by_line() {
        let (documents, unreadable) = parsed(
            "kind: A\napiVersion: v1\n---\nkind: {{ .Values.kind }}\n---\nkind: B\napiVersion: v1\n---\nprose\n",
        );
        assert_eq!(documents.iter().map(|d| &*d.kind).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(unreadable.len(), 2);
        assert_eq!(unreadable[0].document, Some(2));
        assert!(unreadable[0].message.contains("line 4"), "{}", unreadable[0]);
        assert_eq!(unreadable[1].to_string(), "a.yaml, document 4: is text: expected an object");
    }

    #[test]
    fn lists_are_unfolded_and_keep_their_place() {
        let (documents, unreadable) = parsed(
            r#"{"kind":"List","apiVersion":"v1","items":[{"kind":"A","apiVersion":"v1"},{"kind":"B"}]}"#,
        );
        assert_eq!(documents.len(), 1);
        assert_eq!(unreadable[0].field.as_deref(), Some("items[1].apiVersion"));
        let (documents, unreadable) =
            parsed(r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{}}]}"#);
        assert_eq!((&*documents[0].kind, &*documents[0].version, unreadable.len()), ("Pod", "v1", 0));
    }

    #[test]
    fn templates_are_distinguished_from_other_broken_text() {
        let (_, unreadable) = parsed("kind: {{ .Values.kind }}\n---\na: [\n");
        assert!(
            unreadable[0].message.ends_with("hint: this is a template, to be rendered first"),
            "{unreadable:?}"
        );
        assert!(unreadable[1].message.starts_with("is not YAML: line 3"), "{unreadable:?}");
    }
}
