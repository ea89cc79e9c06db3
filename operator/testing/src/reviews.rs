//! Reviews as API servers send them, small and costly ones.

use hyper::body::Bytes;

/// An HTTPRouteGroup with `count` matches.
pub fn matches(count: usize) -> String {
    let start = r#"{"apiVersion":"specs.smi-spec.io/v1alpha4","kind":"HTTPRouteGroup","metadata":{"name":"g","namespace":"a"}"#;
    let matches: Vec<String> =
        (0..count).map(|index| format!(r#"{{"name":"m{index}","headers":{{"a":"b"}}}}"#)).collect();
    format!(r#"{start},"spec":{{"matches":[{}]}}}}"#, matches.join(","))
}

/// A conversion of such a group.
pub fn conversion(matches: usize) -> Bytes {
    let start = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"u","desiredAPIVersion":"specs.smi-spec.io/v1alpha1","objects":["#;
    format!("{start}{}]}}}}", self::matches(matches)).into()
}

/// A review of an object, which is both the new and the old one.
pub fn admission(kind: &str, operation: &str, object: &str) -> Bytes {
    let start = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"a","name":"g""#;
    format!(r#"{start},"operation":"{operation}","kind":{kind},"object":{object},"oldObject":{object}}}}}"#)
        .into()
}

/// A review of the creation of a small pod.
pub fn pod() -> Bytes {
    let pod = r#"{"metadata":{"name":"web"},"spec":{"containers":[{"name":"app","image":"web:1"}]}}"#;
    admission(r#"{"group":"","kind":"Pod"}"#, "CREATE", pod)
}

/// A conversion of four objects that have the desired version already: the answer has 7.6 MB for hardly any work.
pub fn echo() -> Bytes {
    let start = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"u","desiredAPIVersion":"specs.smi-spec.io/v1alpha4","objects":["#;
    let object = format!(
        r#"{{"apiVersion":"specs.smi-spec.io/v1alpha4","kind":"HTTPRouteGroup","metadata":{{"name":"g","namespace":"a"}},"spec":{{"matches":[{{"name":"{}"}}]}}}}"#,
        "m".repeat(1_900_000)
    );
    format!("{start}{}]}}}}", vec![object; 4].join(",")).into()
}
