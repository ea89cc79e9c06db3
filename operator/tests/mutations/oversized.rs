//! Inputs that are large, deep, or that grow when they are read: a quarter of a megabyte each, and the matches one
//! megabyte.

use std::fmt::Write as _;

use serde_json::json;

use super::mutate::{REGEXES, deep};

/// Size that is enough to show costs which grow faster than the text.
const SIZE: usize = 1 << 18;
const MEGABYTE: usize = 1 << 20;

fn group(matches: &str) -> String {
    format!(
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {{name: g, namespace: shop}}\nspec:\n  \
         matches:\n{matches}"
    )
}

fn target(spec: &str) -> String {
    format!(
        "---\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: t, namespace: \
         shop}}\nspec:\n  destination: {{kind: ServiceAccount, name: api}}\n{spec}"
    )
}

/// Repeats lines until they fill the size.
fn lines(size: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    let mut index = 0;
    while text.len() < size {
        text.push_str(&line(index));
        text.push('\n');
        index += 1;
    }
    text
}

const SOURCE: &str = "  sources: [{kind: ServiceAccount, name: web}]\n";
const WORLD: &str = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\nspec: {template: \
                     {metadata: {labels: {app: api}}, spec: {serviceAccountName: api, containers: [{name: c, ports: [{name: \
                     http, containerPort: 8080}]}]}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: \
                     shop}\nspec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";

/// The inputs by name.
pub fn oversized() -> Vec<(&'static str, String)> {
    [lists(), splits(), lists_of_one_thing(), names(), texts(), expressions()].concat()
}

fn lists() -> Vec<(&'static str, String)> {
    let a_match =
        |index: usize| format!("  - {{name: m{index}, pathRegex: /api/v{index}/.*, methods: [GET, POST]}}");
    let matches = group(&lines(MEGABYTE, a_match));
    let half = group(&lines(SIZE / 2, a_match));
    let count = half.matches("- {name").count();
    let each_name: Vec<String> = (0..count).map(|index| format!("m{index}")).collect();
    let by_name = target(&format!(
        "{SOURCE}  rules: [{{kind: HTTPRouteGroup, name: g, matches: [{}]}}]\n",
        each_name.join(", ")
    ));
    let by_names = |name: &dyn Fn(usize) -> String| {
        let names = lines(SIZE / 2, |index| format!("    - {}", name(index)));
        target(&format!("{SOURCE}  rules:\n  - kind: HTTPRouteGroup\n    name: g\n    matches:\n{names}"))
    };
    let one_name = group(&lines(SIZE / 2, |index| format!("  - {{name: m, pathRegex: /api/v{index}}}")));
    let rules = target(&format!(
        "{SOURCE}  rules:\n{}",
        lines(SIZE / 2, |_| "  - {kind: HTTPRouteGroup, name: g}".to_owned())
    ));
    let all = target(&format!("{SOURCE}  rules: [{{kind: HTTPRouteGroup, name: g}}]\n"));
    let sources = target(&format!(
        "  rules: [{{kind: TCPRoute, name: none}}]\n  sources:\n{}",
        lines(SIZE, |index| format!("  - {{kind: ServiceAccount, name: a{index}}}"))
    ));
    vec![
        ("a megabyte of matches", format!("{matches}{all}{WORLD}")),
        (
            "many targets of one group",
            format!(
                "{}{}{WORLD}",
                group(&lines(SIZE / 16, a_match)),
                lines(SIZE / 8, |index| {
                    let target = target(&format!("{SOURCE}  rules: [{{kind: HTTPRouteGroup, name: g}}]"));
                    target.replace("name: t,", &format!("name: t{index},"))
                })
            ),
        ),
        ("every match by its name", format!("{half}{by_name}{WORLD}")),
        ("a rule for all matches a thousand times", format!("{half}{rules}{WORLD}")),
        (
            "names that the group does not have",
            format!("{half}{}{WORLD}", by_names(&|index| format!("x{index}"))),
        ),
        ("one name a thousand times", format!("{one_name}{}{WORLD}", by_names(&|_| "m".to_owned()))),
        ("many sources", sources),
        (
            "many accounts as a destination",
            format!(
                "{half}{}---\napiVersion: access.smi-spec.io/v1alpha4\nkind: IdentityBinding\nmetadata: {{name: api, namespace: \
                 shop}}\nspec:\n  schemes:\n    spiffeIdentities:\n{}{WORLD}",
                all.replace("kind: ServiceAccount, name: api", "kind: IdentityBinding, name: api"),
                lines(SIZE, |index| format!("    - cluster.local/ns/shop/sa/a{index}"))
            ),
        ),
    ]
}

fn splits() -> Vec<(&'static str, String)> {
    let backends = |line: &dyn Fn(usize) -> String| {
        format!(
            "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: s, namespace: shop}}\nspec:\n  \
             service: api\n  backends:\n{}{WORLD}",
            lines(SIZE, line)
        )
    };
    vec![
        (
            "many backends that are there, at many ports",
            format!(
                "{}{}",
                backends(&|index| format!("  - {{service: b{index}, weight: 1}}")).replace(
                    "ports: [",
                    &format!(
                        "ports: [{}",
                        (1000..1020).fold(String::new(), |text, port| text + &format!("{{port: {port}}}, "))
                    )
                ),
                lines(SIZE, |index| format!(
                    "---\napiVersion: v1\nkind: Service\nmetadata: {{name: b{index}, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}"
                ))
            ),
        ),
        ("many backends", backends(&|index| format!("  - {{service: b{index}, weight: 1}}"))),
        ("one backend again and again", backends(&|_| "  - {service: api, weight: 1}".to_owned())),
    ]
}

fn lists_of_one_thing() -> Vec<(&'static str, String)> {
    vec![
        (
            "many ports",
            format!(
                "apiVersion: specs.smi-spec.io/v1alpha4\nkind: TCPRoute\nmetadata: {{name: r}}\nspec:\n  matches:\n    \
                 ports:\n{}",
                lines(SIZE, |index| format!("    - {index}"))
            ),
        ),
        (
            "a header a thousand times",
            group(&format!(
                "  - name: m\n    headers:\n{}",
                lines(SIZE, |index| format!("    - x{index}: a.*"))
            )),
        ),
        (
            "a method a thousand times",
            group(&format!("  - name: m\n    methods:\n{}", lines(SIZE, |index| format!("    - M{index}")))),
        ),
        (
            "a split on each of many Services of one name",
            lines(SIZE, |index| {
                format!(
                    "---\napiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {{name: s{index}}}\nspec: \
                     {{service: api, backends: [{{service: api, weight: 1}}]}}"
                )
            }),
        ),
    ]
}

fn names() -> Vec<(&'static str, String)> {
    let long = "n".repeat(SIZE);
    vec![
        ("a name without end", group("").replace("name: g,", &format!("name: {long},"))),
        ("a kind without end", group("").replace("HTTPRouteGroup", &long)),
        ("a version without end", group("").replace("v1alpha4", &long)),
        ("an expression without end", group(&format!("  - {{name: m, pathRegex: /{long}}}\n"))),
        ("a method without end", group(&format!("  - {{name: m, methods: [{long}]}}\n"))),
        ("a header name without end", group(&format!("  - {{name: m, headers: {{? {long} : a}}}}\n"))),
        (
            "a match name without end",
            group("  - {name: m}\n")
                + &target(&format!(
                    "{SOURCE}  rules: [{{kind: HTTPRouteGroup, name: g, matches: [{long}]}}]\n"
                )),
        ),
        ("a kind of rule without end", target(&format!("{SOURCE}  rules: [{{kind: {long}, name: g}}]\n"))),
        (
            "a source without end",
            target(&format!(
                "  sources: [{{kind: ServiceAccount, name: {long}, namespace: {long}}}]\n  rules: []\n"
            )),
        ),
        (
            "a weight of endless digits",
            format!(
                "apiVersion: split.smi-spec.io/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: s}}\nspec: {{service: a, backends: [{{service: b, weight: \"{}\"}}]}}\n",
                "9".repeat(SIZE)
            ),
        ),
    ]
}

fn texts() -> Vec<(&'static str, String)> {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..30 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 9].join(", ");
        let _ = writeln!(laughs, "a{level}: &a{level} [{aliases}]");
    }
    let anchored = format!(
        "apiVersion: v1\nkind: List\nitems: &all\n- {{apiVersion: v1, kind: Pod, metadata: &m {{name: x}}}}\n{}",
        lines(SIZE, |_| "- {apiVersion: v1, kind: Pod, metadata: *m}".to_owned())
    );
    let merged = format!("base: &b {{a: 1}}\n{}", lines(SIZE, |index| format!("k{index}: {{<<: *b}}")));
    let nested = |depth: usize| json!({"apiVersion": "v1", "kind": "Pod", "spec": deep(depth)}).to_string();
    let list = (0..60).fold("{apiVersion: v1, kind: Pod}".to_owned(), |inner, _| {
        format!("{{apiVersion: v1, kind: List, items: [{inner}]}}")
    });
    vec![
        ("billion laughs", laughs),
        ("an alias a thousand times", anchored),
        ("merge keys", merged),
        ("an alias to itself", "a: &a [*a]\nb: &b {<<: *b}\n".to_owned()),
        ("deep, as JSON", nested(100)),
        ("deeper than anybody nests", format!("{}{}", "[".repeat(SIZE / 2), "]".repeat(SIZE / 2))),
        ("deep maps", format!("{}1{}", "{a: ".repeat(SIZE / 8), "}".repeat(SIZE / 8))),
        (
            "deep by indentation",
            (0..1000).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n"),
        ),
        ("dashes", "- ".repeat(SIZE / 2)),
        ("lists of lists of lists", list),
        ("many documents", "---\n".repeat(SIZE / 4)),
        ("many documents that say something", "a: 1\n---\n".repeat(SIZE / 9)),
        ("many broken documents", "a: [\n---\n".repeat(SIZE / 40)),
        ("one line", "x".repeat(SIZE)),
        ("an open quote", format!("a: \"{}", "x\n".repeat(SIZE / 4))),
        ("a key twice", lines(SIZE, |_| "a: 1".to_owned())),
        ("blanks", " \t\n".repeat(SIZE / 3)),
        ("comments", "# a\n".repeat(SIZE / 4)),
        ("percent signs", "%YAML 1.2\n".repeat(SIZE / 10)),
        ("nothing", String::new()),
    ]
}

fn expressions() -> Vec<(&'static str, String)> {
    let many = lines(SIZE, |index| {
        let regex = REGEXES[index % REGEXES.len()];
        format!("  - {{name: m{index}, pathRegex: '{regex}', headers: {{x-a: '{regex}'}}}}")
    });
    let worst = [
        "[a-z]{24}",
        "(a|b|c){300}",
        "([ -~]{1,9}){90}",
        ".{400}",
        r"[^a]{180}",
        "(?i)(abc){400}",
        "(a?){800}",
    ];
    let large = lines(SIZE / 4, |index| {
        format!("  - {{name: m{index}, pathRegex: '{}'}}", worst[index % worst.len()])
    });
    let parentheses =
        group(&format!("  - {{name: m, pathRegex: '{}a{}'}}\n", "(".repeat(500), ")".repeat(500)));
    let all = target(&format!("{SOURCE}  rules: [{{kind: HTTPRouteGroup, name: g}}]\n"));
    vec![
        ("expressions that explode", format!("{}{all}{WORLD}", group(&many))),
        ("expressions that are just accepted", format!("{}{all}{WORLD}", group(&large))),
        ("parentheses", parentheses),
        ("alternatives", group(&format!("  - {{name: m, pathRegex: '{}'}}\n", "a|".repeat(500)))),
        (
            "a large class",
            group(&format!("  - {{name: m, pathRegex: '[{}]{{1000}}'}}\n", "a-z0-9".repeat(160))),
        ),
    ]
}
