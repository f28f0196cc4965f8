//! What the manager knows of the cost of its rules.

use std::sync::Arc;

use watchfire::rules::view::{RuleCostView, RulesView};
use watchfire::storage::memory::MemoryStorage;

use super::harness::{Harness, SECOND};

const START: i64 = 1_700_000_000 * SECOND;

fn cost(h: &Harness, name: &str) -> RuleCostView {
    let groups = h.manager.costs();
    groups.into_iter().flat_map(|g| g.rules).find(|r| r.name == name).expect("a rule")
}

#[tokio::test]
async fn every_evaluation_is_counted_where_it_was_caused() {
    let mut h = Harness::new(Arc::new(MemoryStorage::new()), START);
    let rules = |cheap: &str| {
        format!(
            "
groups:
- name: g
  budget: 50%
  rules:
  - {{record: cheap, expr: \"{cheap}\"}}
  - {{record: wide, expr: x}}
  - {{record: sum, expr: \"sum(count_over_time(x[1m]))\"}}
  - {{alert: Broken, expr: x + on() x}}
  - {{record: constant, expr: '1'}}
"
        )
    };
    h.load(&rules("x{i='0'}")).await.unwrap();
    for i in 0..10 {
        for back in (0..4).rev() {
            h.put_at(&format!("x/i={i}"), START - back * SECOND, 1.0);
        }
    }
    assert_eq!(cost(&h, "wide").evaluations, 0);
    h.tick().await;
    let measures = |name: &str| {
        let cost = cost(&h, name);
        (cost.samples.last, cost.series.last)
    };
    assert_eq!(measures("cheap"), (1.0, 1.0));
    assert_eq!(measures("wide"), (10.0, 10.0));
    assert_eq!(measures("sum"), (40.0, 1.0));
    assert_eq!(measures("constant"), (0.0, 1.0));
    // A failed evaluation counts, though nobody knows what it read.
    assert_eq!((measures("Broken"), cost(&h, "Broken").evaluations), ((0.0, 0.0), 1));
    let (wide, cheap) = (cost(&h, "wide").bytes.last, cost(&h, "cheap").bytes.last);
    assert!(cheap > 16.0, "a sample and its series: {cheap}");
    assert_eq!(wide, 10.0 * cheap);
    // The API's list of rules has the last one.
    let last = h.rule("wide").cost.expect("a cost");
    assert_eq!((last.samples, last.series, last.bytes as f64), (10, 10, wide));
    let pace = h.manager.groups()[0].pace.expect("a pace");
    assert_eq!((pace.budget, pace.exceeded), (0.5, false));
    let label = "{rule_group=\"f.yml;g\"}";
    assert_eq!(h.metric(&format!("watchfire_rules_group_budget_ratio{label}")), "0.5");
    let forecast = format!("watchfire_rules_group_overrun_forecast_seconds{label}");
    assert_eq!(h.metric(&forecast).to_lowercase(), "inf");

    // Counting goes on over a reload, but for the rule that is another one now.
    h.tick().await;
    h.load(&rules("x{i='1'}")).await.unwrap();
    assert_eq!((cost(&h, "wide").evaluations, cost(&h, "cheap").evaluations), (2, 0));
    for _ in 0..130 {
        h.put("x/i=0", 1.0);
        h.tick().await;
    }
    let wide = cost(&h, "wide");
    // What returned ten series is out of the ring, and still in the total.
    assert_eq!((wide.evaluations, wide.series.last, wide.series.max), (132, 1.0, 1.0));
    assert!(wide.series.total > 132.0 && wide.series.total == wide.samples.total);
}
