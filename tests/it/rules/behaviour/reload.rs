//! Edits of every field of a rule, a group and a file while an alert fires: which of them
//! keep its state and which do not, as Prometheus has it.

use super::rig::{Alertmanager, Rig};

pub const RULES: &str = "
groups:
- name: g
  rules:
  - alert: A
    expr: x > 0
    for: 20s
    labels: {team: one}
    annotations: {note: 'v {{ $value }}'}
  - record: r
    expr: x * 1
    labels: {l: one}
";

/// What an edit makes of the alert, which is active since 10 and fires since 30, and of the
/// recording. The reload is at 35, the last tick at 100.
pub struct Case {
    pub edit: &'static str,
    from: &'static str,
    pub to: &'static str,
    /// The value of x after the reload.
    x: f64,
    /// All that was posted since the reload.
    pub posted: &'static [&'static str],
    /// What the Alertmanager has at the end.
    held: &'static [&'static str],
    /// Samples of `ALERTS`, then those of recordings.
    alerts: &'static [&'static str],
    records: &'static [&'static str],
}

impl Case {
    /// The rules after the edit.
    pub fn changed(&self) -> String {
        let changed = RULES.replacen(self.from, self.to, usize::from(!self.from.is_empty()));
        assert_eq!(changed == RULES, self.from.is_empty(), "{}", self.edit);
        changed
    }

    /// The file they are in then.
    pub fn file(&self) -> &'static str {
        if self.edit == "the file's name" { "other.yml" } else { "f.yml" }
    }
}

const ONE: &str = r#"{alertname="A", team="one"} 30..340"#;

/// Nothing changes for anybody.
const SAME: Case = Case {
    edit: "",
    from: "",
    to: "",
    x: 5.0,
    posted: &[ONE],
    held: &[r#"{alertname="A", team="one"} 30..340 note="v 5""#],
    alerts: &[
        r#"{alertname="A", alertstate="firing", team="one"} 30=1 40 50 60 70 80 90 100"#,
        r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
    ],
    records: &[r#"{l="one"} 10=5 20 30 40 50 60 70 80 90 100"#],
};

/// The alert is another one from now on; the old one is left to end by itself.
const ANEW: Case = Case {
    posted: &[r#"{alertname="A", team="two"} 60..300"#],
    held: &[
        r#"{alertname="A", team="one"} 30..270 note="v 5""#,
        r#"{alertname="A", team="two"} 60..300 note="v 5""#,
    ],
    alerts: &[
        r#"{alertname="A", alertstate="firing", team="one"} 30=1 40=stale"#,
        r#"{alertname="A", alertstate="firing", team="two"} 60=1 70 80 90 100"#,
        r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
        r#"{alertname="A", alertstate="pending", team="two"} 40=1 50 60=stale"#,
    ],
    ..SAME
};

/// The alert ends at the first tick after the reload.
const ENDED: Case = Case {
    posted: &[r#"{alertname="A", team="one"} 30..40"#],
    held: &[],
    alerts: &[
        r#"{alertname="A", alertstate="firing", team="one"} 30=1 40=stale"#,
        r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
    ],
    ..SAME
};

/// The group is another one: its alert begins anew, and the Alertmanager takes it for the
/// one it has. The old group's markers come too late for series that the new one writes.
const MOVED: Case = Case {
    posted: &[r#"{alertname="A", team="one"} 60..300"#],
    held: &[r#"{alertname="A", team="one"} 30..300 note="v 5""#],
    alerts: &[
        r#"{alertname="A", alertstate="firing", team="one"} 30=1 35=stale 60=1 70 80 90 100"#,
        r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale 40=1 50 60=stale"#,
    ],
    ..SAME
};

pub const CASES: &[Case] = &[
    Case { edit: "nothing", ..SAME },
    Case { edit: "expr", from: "x > 0", to: "x > 1", ..SAME },
    Case { edit: "expr that is false", from: "x > 0", to: "x > 10", ..ENDED },
    Case { edit: "shorter for", from: "for: 20s", to: "for: 10s", ..SAME },
    // It has been active for less: pending again, and what was sent is left to end.
    Case {
        edit: "longer for",
        from: "for: 20s",
        to: "for: 70s",
        posted: &[r#"{alertname="A", team="one"} 80..320"#],
        held: &[r#"{alertname="A", team="one"} 30..320 note="v 5""#],
        alerts: &[
            r#"{alertname="A", alertstate="firing", team="one"} 30=1 40=stale 80=1 90 100"#,
            r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale 40=1 50 60 70 80=stale"#,
        ],
        ..SAME
    },
    Case {
        edit: "keep_firing_for",
        from: "for: 20s",
        to: "for: 20s\n    keep_firing_for: 50s",
        x: -1.0,
        posted: &[r#"{alertname="A", team="one"} 30..90"#],
        alerts: &[
            r#"{alertname="A", alertstate="firing", team="one"} 30=1 40 50 60 70 80 90=stale"#,
            r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
        ],
        records: &[r#"{l="one"} 10=5 20 30 40=-1 50 60 70 80 90 100"#],
        ..ENDED
    },
    Case { edit: "labels", from: "team: one", to: "team: two", ..ANEW },
    Case {
        edit: "annotations",
        from: "note: 'v",
        to: "text: 'w",
        held: &[r#"{alertname="A", team="one"} 30..340 text="w 5""#],
        ..SAME
    },
    Case {
        edit: "the alert's name",
        from: "alert: A",
        to: "alert: B",
        posted: &[r#"{alertname="B", team="one"} 60..300"#],
        held: &[
            r#"{alertname="A", team="one"} 30..270 note="v 5""#,
            r#"{alertname="B", team="one"} 60..300 note="v 5""#,
        ],
        alerts: &[
            r#"{alertname="A", alertstate="firing", team="one"} 30=1 40=stale"#,
            r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
            r#"{alertname="B", alertstate="firing", team="one"} 60=1 70 80 90 100"#,
            r#"{alertname="B", alertstate="pending", team="one"} 40=1 50 60=stale"#,
        ],
        ..SAME
    },
    Case {
        edit: "the recording's name",
        from: "record: r",
        to: "record: s",
        records: &[r#"{l="one"} 10=5 20 30 40=stale"#, r#"{l="one"} 40=5 50 60 70 80 90 100"#],
        ..SAME
    },
    Case {
        edit: "the recording's labels",
        from: "l: one",
        to: "l: two",
        records: &[r#"{l="one"} 10=5 20 30 40=stale"#, r#"{l="two"} 40=5 50 60 70 80 90 100"#],
        ..SAME
    },
    Case {
        edit: "the recording's expr",
        from: "x * 1",
        to: "x * 2",
        records: &[r#"{l="one"} 10=5 20 30 40=10 50 60 70 80 90 100"#],
        ..SAME
    },
    Case {
        edit: "another rule before",
        from: "rules:",
        to: "rules:\n  - {record: before, expr: x}",
        ..SAME
    },
    // A removed alert is resolved nowhere, its series ends.
    Case {
        edit: "the alert removed",
        from: "alert: A
    expr: x > 0
    for: 20s
    labels: {team: one}
    annotations: {note: 'v {{ $value }}'}",
        to: "record: other\n    expr: x",
        posted: &[],
        held: &[r#"{alertname="A", team="one"} 30..270 note="v 5""#],
        alerts: ENDED.alerts,
        ..SAME
    },
    Case {
        edit: "interval",
        from: "name: g",
        to: "name: g\n  interval: 20s",
        alerts: &[
            r#"{alertname="A", alertstate="firing", team="one"} 30=1 40 60 80 100"#,
            r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
        ],
        records: &[r#"{l="one"} 10=5 20 30 40 60 80 100"#],
        ..SAME
    },
    Case { edit: "limit that is kept", from: "name: g", to: "name: g\n  limit: 1", ..SAME },
    Case {
        edit: "query_offset",
        from: "name: g",
        to: "name: g\n  query_offset: 2s",
        alerts: &[
            r#"{alertname="A", alertstate="firing", team="one"} 30=1 38 48 58 68 78 88 98"#,
            r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
        ],
        records: &[r#"{l="one"} 10=5 20 30 38 48 58 68 78 88 98"#],
        ..SAME
    },
    // They are labels of every rule of the group.
    Case {
        edit: "the group's labels",
        from: "name: g",
        to: "name: g\n  labels: {g: '1'}",
        posted: &[r#"{alertname="A", g="1", team="one"} 60..300"#],
        held: &[
            r#"{alertname="A", g="1", team="one"} 60..300 note="v 5""#,
            r#"{alertname="A", team="one"} 30..270 note="v 5""#,
        ],
        alerts: &[
            r#"{alertname="A", alertstate="firing", g="1", team="one"} 60=1 70 80 90 100"#,
            r#"{alertname="A", alertstate="firing", team="one"} 30=1 40=stale"#,
            r#"{alertname="A", alertstate="pending", g="1", team="one"} 40=1 50 60=stale"#,
            r#"{alertname="A", alertstate="pending", team="one"} 10=1 20 30=stale"#,
        ],
        records: &[
            r#"{g="1", l="one"} 40=5 50 60 70 80 90 100"#,
            r#"{l="one"} 10=5 20 30 40=stale"#,
        ],
        ..SAME
    },
    Case { edit: "the group's name", from: "name: g", to: "name: h", ..MOVED },
    Case { edit: "the file's name", ..MOVED },
];

#[tokio::test]
async fn edits_keep_the_state_of_alerts_where_prometheus_does() {
    let Some(am) = Alertmanager::start().await else { return };
    for case in CASES {
        let mut rig = Rig::new(&am).await;
        rig.load(RULES).await;
        for at in [10, 20, 30, 35] {
            rig.put("x", 5.0);
            rig.advance(at).await;
        }
        rig.posted();
        rig.load_as(case.file(), &case.changed()).await;
        rig.put("x", case.x);
        for at in (40..=100).step_by(10) {
            rig.advance(at).await;
            rig.put("x", case.x);
        }
        assert_eq!(rig.posted(), case.posted, "posted: {}", case.edit);
        rig.held(case.edit, case.held).await;
        assert_eq!(rig.stored("ALERTS").await, case.alerts, "ALERTS: {}", case.edit);
        let records = [rig.stored("r").await, rig.stored("s").await].concat();
        assert_eq!(records, case.records, "recordings: {}", case.edit);
    }
}

#[tokio::test]
async fn a_limit_that_is_exceeded_wipes_the_state_and_resolves_nothing() {
    let Some(am) = Alertmanager::start().await else { return };
    let mut rig = Rig::new(&am).await;
    let rules = "groups: [{name: g, LIMIT rules: [{alert: A, expr: x > 0, for: 20s}]}]";
    rig.load(&rules.replace("LIMIT", "")).await;
    let put = |rig: &Rig| {
        rig.put("x/i=a", 1.0);
        rig.put("x/i=b", 1.0);
    };
    for at in [10, 20, 30] {
        put(&rig);
        rig.advance(at).await;
    }
    let both = [r#"{alertname="A", i="a"} 30..270"#, r#"{alertname="A", i="b"} 30..270"#];
    assert_eq!(rig.posted(), both);
    rig.load(&rules.replace("LIMIT", "limit: 1,")).await;
    put(&rig);
    rig.advance(40).await;
    assert_eq!(rig.h.rule("A").last_error, "exceeded limit of 1 with 2 alerts");
    assert!(rig.h.alerting("A").alerts.is_empty() && rig.posted().is_empty());
    rig.held("left to end by themselves", &both).await;
    // With room again they wait again, and the Alertmanager takes them for the ones it has.
    rig.load(&rules.replace("LIMIT", "limit: 2,")).await;
    for at in [50, 60, 70] {
        put(&rig);
        rig.advance(at).await;
    }
    rig.held("anew", &both.map(|line| line.replace("270", "310")).each_ref().map(|s| &**s)).await;
}
