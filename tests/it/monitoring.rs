//! The alert rules and the dashboard of `ops/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use outbox::observe::{METRICS, Metric, MetricKind, MetricSource, MetricUnit};
use serde_json::{Value, json};

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(file)
}

#[test]
fn every_alert_fires_in_its_scene_and_in_no_other() {
    let tested = xtask::promtool()
        .unwrap()
        .args(["test", "rules"])
        .arg(ops("alerts_test.yml"))
        .output()
        .unwrap();
    let said = [tested.stdout, tested.stderr].concat();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&said));
    // Each is tested.
    let [rules, tests] =
        ["alerts.yml", "alerts_test.yml"].map(|file| std::fs::read_to_string(ops(file)).unwrap());
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:")), "{alert}");
    }
}

/// The words of a text that begin as the names of our metrics do.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("outbox_")).collect()
}

#[test]
fn the_alerts_name_only_metrics_that_exist() {
    let rules = std::fs::read_to_string(ops("alerts.yml")).unwrap();
    let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let named = named(&rules);
    assert!(named.len() >= 10, "{named:?}");
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
}

#[test]
fn the_dashboard_is_the_one_that_the_table_of_metrics_gives() {
    let path = ops("grafana.json");
    let generated = format!("{:#}\n", dashboard());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == generated, "{}: run this test with UPDATE_EXPECT=1", path.display());
}

/// Rows of the dashboard, with the metrics of which source they have.
const ROWS: [(&str, MetricSource); 6] = [
    ("Outboxes: what their tables say", MetricSource::Tables),
    ("Services", MetricSource::Service),
    ("Relays", MetricSource::Relay),
    ("Consumers", MetricSource::Consumer),
    ("Dead letters: what the brokers have", MetricSource::Brokers),
    ("Database, brokers and loops", MetricSource::Loop),
];

fn dashboard() -> Value {
    let mut panels = Vec::new();
    let mut y = 0;
    for (title, source) in ROWS {
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": title, "collapsed": false,
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": [],
        }));
        y += 1;
        let of_source: Vec<_> = METRICS.iter().filter(|metric| metric.source == source).collect();
        for (n, metric) in of_source.iter().enumerate() {
            let (x, down) = (n % 3 * 8, n / 3 * 8);
            panels.push(panel(metric, panels.len() + 1, [x, y + down]));
        }
        y += of_source.len().div_ceil(3) * 8;
    }
    let variable = |name: &str, of: &str| {
        json!({
            "name": name, "type": "query", "label": name, "multi": true, "includeAll": true,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "refresh": 2,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": {"query": format!("label_values({of}, {name})"), "refId": name},
        })
    };
    json!({
        "uid": "outbox", "title": "Outbox", "tags": ["outbox"], "schemaVersion": 39, "version": 1,
        "editable": true, "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "datasource"},
            variable("outbox", "outbox_oldest_pending_seconds"),
            variable("group", "outbox_handled_total"),
        ]},
        "panels": panels,
    })
}

fn panel(metric: &Metric, id: usize, [x, y]: [usize; 2]) -> Value {
    let (expr, by) = query(metric);
    let legend: Vec<_> = by.iter().map(|label| format!("{{{{{label}}}}}")).collect();
    let unit = match metric.unit {
        MetricUnit::Bytes => "bytes",
        MetricUnit::Seconds => "s",
        _ if metric.kind == MetricKind::Counter => "cps",
        _ => "short",
    };
    json!({
        "id": id, "type": "timeseries", "title": metric.name, "description": metric.help,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": expr, "legendFormat": legend.join(" ")}],
    })
}

/// What a panel asks Prometheus for, and the labels by which it tells series apart.
fn query(metric: &Metric) -> (String, Vec<&'static str>) {
    let Metric { name, kind, labels, .. } = metric;
    let chosen: Vec<_> = ["outbox", "group"]
        .into_iter()
        .filter(|label| labels.contains(label))
        .map(|label| format!("{label}=~\"${label}\""))
        .collect();
    let series = |suffix: &str| format!("{name}{suffix}{{{}}}", chosen.join(", "));
    let by = labels.join(", ");
    let expr = match (kind, metric.source) {
        (MetricKind::Counter, _) => {
            format!("sum by ({by}) (rate({}[$__rate_interval]))", series(""))
        }
        (MetricKind::Histogram, _) => format!(
            "histogram_quantile(0.99, sum by ({by}, le) (rate({}[$__rate_interval])))",
            series("_bucket")
        ),
        _ if *name == "outbox_last_turn_timestamp_seconds" => {
            format!("time() - min by ({by}) ({})", series(""))
        }
        // All report the same.
        (_, MetricSource::Tables | MetricSource::Brokers) => {
            format!("max by ({by}) ({})", series(""))
        }
        // The worst.
        _ if metric.unit == MetricUnit::Truth => format!("min by ({by}) ({})", series("")),
        _ if metric.unit == MetricUnit::Seconds => format!("max by ({by}) ({})", series("")),
        _ => format!("sum by ({by}) ({})", series("")),
    };
    (expr, labels.to_vec())
}

#[test]
fn the_dashboard_has_every_metric_and_names_no_other() {
    let written = std::fs::read_to_string(ops("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&written).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels.iter().filter_map(|panel| panel["targets"][0]["expr"].as_str());
    let mut found = BTreeSet::new();
    for expr in asked {
        let of_panel = named(expr);
        found.extend(of_panel.iter().map(|name| name.trim_end_matches("_bucket")));
    }
    let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(found, known);
}
