//! The form of Grafana's dashboards: places panels on the grid, and writes the JSON of Grafana 10 and later.
//!
//! Pure. Panels are of Grafana's core alone. Knows no metric.

use serde_json::{Value, json};

/// Version of the form: that of Grafana 11.0. Later ones convert it when they load it.
const SCHEMA: u32 = 39;
/// Columns of the grid.
const COLUMNS: u32 = 24;

/// Content of a dashboard.
pub(super) struct Content {
    pub title: &'static str,
    pub description: &'static str,
    /// Variables besides that of the data source, in the order in which they depend on each other.
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

/// A variable, whose values are those of a label.
pub(super) struct Variable {
    pub name: &'static str,
    pub label: &'static str,
    pub description: &'static str,
    /// Query of its values, `label_values(...)`.
    pub query: String,
    pub choice: Choice,
}

/// Number of values that a variable may have at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    One,
    /// Several, or all of those that exist.
    Several,
    /// Several, or all: also series without the label.
    SeveralOrNone,
}

/// Panels below a heading.
pub(super) struct Row {
    pub title: &'static str,
    pub panels: Vec<Panel>,
}

/// A panel.
pub(super) struct Panel {
    pub title: &'static str,
    pub description: &'static str,
    pub form: Form,
    pub unit: Unit,
    pub queries: Vec<Query>,
}

/// Form of a panel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The latest value.
    Stat,
    /// Values over time.
    Lines,
    /// Values over time, on top of each other.
    Stack,
    /// Values of the whole time range, as bars.
    Bars,
}

impl Form {
    /// Returns its type in Grafana.
    fn kind(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::Lines | Self::Stack => "timeseries",
            Self::Bars => "bargauge",
        }
    }

    /// Returns its width and height on the grid.
    fn size(self) -> (u32, u32) {
        match self {
            Self::Stat => (4, 4),
            Self::Lines | Self::Stack | Self::Bars => (8, 8),
        }
    }
}

/// Unit of the values of a panel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A number of things.
    Count,
    /// Requests per second.
    Requests,
    /// Other things per second.
    PerSecond,
    /// A ratio from 0 to 1.
    Ratio,
    Milliseconds,
    Seconds,
    Bytes,
}

impl Unit {
    fn id(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::Requests => "reqps",
            Self::PerSecond => "ops",
            Self::Ratio => "percentunit",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
        }
    }
}

/// A query of a panel.
pub(super) struct Query {
    pub expr: String,
    /// Name of each series, with labels in double braces.
    pub legend: &'static str,
}

/// Returns a query.
pub(super) fn query(expr: impl Into<String>, legend: &'static str) -> Query {
    Query { expr: expr.into(), legend }
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

impl Content {
    /// Returns the dashboard. `name` makes its permanent ID.
    pub(super) fn json(&self, name: &str) -> Value {
        let mut variables = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "current": {}, "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1, "regex": "",
        })];
        variables.extend(self.variables.iter().map(Variable::json));
        json!({
            "annotations": {"list": []},
            "description": self.description,
            "editable": true,
            "graphTooltip": 1,
            "id": null,
            "links": [{
                "title": "Smidge", "type": "dashboards", "tags": ["smidge"], "asDropdown": true, "includeVars": false,
                "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
            }],
            "panels": self.panels(),
            "refresh": "30s",
            "schemaVersion": SCHEMA,
            "tags": ["smidge", "service-mesh"],
            "templating": {"list": variables},
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": format!("Smidge / {}", self.title),
            "uid": format!("smidge-{name}"),
            "version": 1,
        })
    }

    fn panels(&self) -> Vec<Value> {
        let mut placed = Vec::new();
        let mut top = 0;
        for row in &self.rows {
            let place = Place { x: 0, y: top, width: COLUMNS, height: 1 };
            placed.push(json!({
                "id": placed.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": place.json(),
            }));
            top += 1;
            let (mut left, mut line) = (0, 0);
            for panel in &row.panels {
                let (width, height) = panel.form.size();
                if left + width > COLUMNS {
                    top += line;
                    (left, line) = (0, 0);
                }
                let place = Place { x: left, y: top, width, height };
                placed.push(panel.json(placed.len() + 1, place));
                left += width;
                line = line.max(height);
            }
            top += line;
        }
        placed
    }
}

/// Place on the grid.
#[derive(Clone, Copy)]
struct Place {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Place {
    fn json(self) -> Value {
        json!({"x": self.x, "y": self.y, "w": self.width, "h": self.height})
    }
}

impl Variable {
    fn json(&self) -> Value {
        let is_many = self.choice != Choice::One;
        let mut variable = json!({
            "name": self.name, "label": self.label, "description": self.description, "type": "query",
            "datasource": source(), "definition": self.query,
            "query": {"query": self.query, "qryType": 5, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "current": {}, "hide": 0, "includeAll": is_many, "multi": is_many, "options": [],
            // When the time range changes: series come and go.
            "refresh": 2, "regex": "", "sort": 1, "skipUrlSync": false,
        });
        if let Some(fields) = variable.as_object_mut() {
            if is_many {
                fields.insert(
                    "current".to_owned(),
                    json!({"selected": true, "text": ["All"], "value": ["$__all"]}),
                );
            }
            if self.choice == Choice::SeveralOrNone {
                fields.insert("allValue".to_owned(), json!(".*"));
            }
        }
        variable
    }
}

impl Panel {
    fn json(&self, id: usize, place: Place) -> Value {
        let is_instant = self.form == Form::Bars;
        let targets = self.queries.iter().zip('A'..='Z').map(|(query, name)| {
            json!({
                "datasource": source(), "editorMode": "code", "expr": query.expr, "legendFormat": query.legend,
                "instant": is_instant, "range": !is_instant, "refId": name.to_string(),
            })
        });
        json!({
            "id": id,
            "type": self.form.kind(),
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": place.json(),
            "targets": targets.collect::<Vec<_>>(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "options": self.options(),
        })
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({"unit": self.unit.id(), "min": 0});
        let custom = match self.form {
            Form::Lines => {
                json!({"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"})
            }
            Form::Stack => json!({
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": 30, "showPoints": "never",
                "stacking": {"group": "A", "mode": "normal"},
            }),
            Form::Stat | Form::Bars => json!({}),
        };
        if let Some(fields) = defaults.as_object_mut() {
            fields.insert("custom".to_owned(), custom);
            if self.unit == Unit::Ratio {
                fields.insert("max".to_owned(), json!(1));
            }
        }
        defaults
    }

    fn options(&self) -> Value {
        let latest = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.form {
            Form::Stat => json!({
                "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
                "reduceOptions": latest, "textMode": "auto",
            }),
            Form::Bars => json!({
                "displayMode": "gradient", "orientation": "horizontal", "reduceOptions": latest, "showUnfilled": true,
            }),
            Form::Lines | Form::Stack => json!({
                "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
        }
    }
}
