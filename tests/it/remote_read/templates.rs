//! What templates ask is about the datasource of their rule, as its expression is.

use watchfire::storage::router::{Router, Table};

use super::*;
use crate::rules::harness::{Harness, SECOND, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_templates_ask_the_datasource_of_their_rule() {
    let start_ms = 1_000_000 * SECOND;
    let (local, far) = (MemoryStorage::new(), MemoryStorage::new());
    for (storage, value) in [(&local, 1.0), (&far, 42.0)] {
        for name in ["m", "q"] {
            let labels = Labels::from_pairs([("__name__", name), ("job", "x")]);
            for minute in 0..10 {
                let ts = start_ms + minute * 60 * SECOND;
                storage.append(&labels, ts, value, None).unwrap();
            }
        }
    }
    let router = Router::new(Arc::new(local));
    let far: Arc<dyn Source> = Arc::new(far);
    router.set(Table { beside: Vec::new(), named: [("far".to_owned(), far)].into() });
    let setup = Setup { source: Some(Arc::new(router)), ..Setup::default() };
    let mut harness = Harness::with(Arc::default(), start_ms, setup);
    let text = |query: &str| {
        format!("annotations: {{text: '{{{{ query \"{query}\" | first | value }}}}'}}")
    };
    let here = "q{__datasource__='local'}".replace('\'', "\\\"");
    let rules = format!(
        "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {{alert: Near, expr: m > 0, {}}}\n  - {{alert: Far, datasource: far, expr: m > 0, {}}}\n  - {{alert: Both, datasource: far, expr: m > 0, {}}}\n",
        text("q"),
        text("q"),
        text(&here)
    );
    harness.load(&rules).await.unwrap();
    harness.tick().await;
    for (alert, expected) in [("Near", "1"), ("Far", "42"), ("Both", "1")] {
        let view = harness.alerting(alert);
        assert_eq!(view.alerts[0].annotations.get("text"), Some(expected), "{alert}");
    }
}
