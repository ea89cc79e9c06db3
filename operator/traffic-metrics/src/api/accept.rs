//! Chooses the form of an answer from the `Accept` header, as API servers do.
//!
//! Pure. Used by the server for figures; `answer` writes the forms. The other documents are JSON whatever is accepted.

use super::status::Status;

/// Maximum number of media types that are read.
const MAX_TYPES: usize = 32;

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The objects.
    Object,
    /// A table of this version of `meta.k8s.io`.
    Table(Meta),
    /// The metadata of the objects, of this version of `meta.k8s.io`.
    Metadata(Meta),
}

/// Version of `meta.k8s.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// `v1`.
    V1,
    /// `v1beta1`, for older clients.
    V1Beta1,
}

impl Meta {
    /// Returns the value of `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// Chooses the form that the client prefers. `is_list` for lists, which a watch is not.
pub fn choose(accept: &str, is_list: bool) -> Result<Form, Status> {
    if accept.trim().is_empty() {
        return Ok(Form::Object);
    }
    let mut types: Vec<(u32, &str)> = accept
        .split(',')
        .take(MAX_TYPES)
        .map(|media| (quality(media), media))
        .filter(|(it, _)| *it > 0)
        .collect();
    // Stable: of the same quality, the first one is preferred.
    types.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    types.into_iter().find_map(|(_, media)| form(media, is_list)).ok_or_else(Status::not_acceptable)
}

/// Returns the form of a media type, if the server has it.
fn form(media: &str, is_list: bool) -> Option<Form> {
    let mut parts = media.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let [mut shape, mut group, mut version] = [""; 3];
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "as" => shape = value,
            "g" => group = value,
            "v" => version = value,
            _ => {}
        }
    }
    if shape.is_empty() {
        return Some(Form::Object);
    }
    let meta = match (group, version) {
        ("meta.k8s.io", "v1") => Meta::V1,
        ("meta.k8s.io", "v1beta1") => Meta::V1Beta1,
        _ => return None,
    };
    match (shape, is_list) {
        ("Table", _) => Some(Form::Table(meta)),
        ("PartialObjectMetadataList", true) | ("PartialObjectMetadata", false) => Some(Form::Metadata(meta)),
        _ => None,
    }
}

/// Returns the quality of a media type in thousandths: 1000 without one.
fn quality(media: &str) -> u32 {
    let value = media.split(';').find_map(|part| part.trim().strip_prefix("q="));
    let Some(value) = value else { return 1000 };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.parse::<u32>().is_ok_and(|whole| whole > 0) {
        return 1000;
    }
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    fraction.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_the_server_has_is_chosen() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(choose(kubectl, true), Ok(Form::Table(Meta::V1)));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(choose(metadata, true), Ok(Form::Metadata(Meta::V1)));
        assert_eq!(choose(metadata, false), Ok(Form::Object), "one object is no list");
        for accept in ["", "*/*", "application/*", "application/json", "application/json;stream=watch"] {
            assert_eq!(choose(accept, true), Ok(Form::Object), "{accept}");
        }
        let quality = "application/json;q=0.5, application/json;as=Table;g=meta.k8s.io;v=v1;q=0.9";
        assert_eq!(choose(quality, true), Ok(Form::Table(Meta::V1)));
        let refused = "application/yaml, application/vnd.kubernetes.protobuf, application/json;q=0, \
                       application/json;as=Table;v=v2;g=meta.k8s.io, application/json;as=Chart;v=v1;g=meta.k8s.io";
        assert_eq!(choose(refused, true).unwrap_err().code, 406);
    }

    #[test]
    fn input_is_bounded() {
        let many = "text/html,".repeat(MAX_TYPES) + "application/json";
        assert_eq!(choose(&many, true).unwrap_err().code, 406);
    }
}
