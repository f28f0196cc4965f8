//! Every endpoint's answers and refusals, to the byte.

use super::{NOW_MS, TestServer, answer};

const NOW_S: i64 = NOW_MS / 1000;

/// Two series of a counter every 15 s over the last minute, and one text series.
async fn with_data() -> TestServer {
    let server = TestServer::start().await;
    let times: Vec<i64> = (0..5).map(|i| NOW_MS - 60_000 + i * 15_000).collect();
    for (job, slope) in [("api", 1.0), ("web", 2.5)] {
        let samples: Vec<_> =
            times.iter().enumerate().map(|(i, t)| (*t, i as f64 * slope * 15.0)).collect();
        server.store(&[("__name__", "req_total"), ("job", job)], &samples);
    }
    server.store(&[("__name__", "tiny"), ("v", "<&>")], &[(NOW_MS - 500, 1e-7)]);
    server
}

#[tokio::test]
async fn queries_answer_in_prometheus_json() {
    let server = with_data().await;
    for (path, expected) in [
        (
            "/api/v1/query?query=req_total",
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"__name__":"req_total","job":"api"}},"value":[{NOW_S},"60"]}},{{"metric":{{"__name__":"req_total","job":"web"}},"value":[{NOW_S},"150"]}}]}}}}"#
            ),
        ),
        (
            "/api/v1/query?query=tiny",
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"__name__":"tiny","v":"<&>"}},"value":[{NOW_S},"1e-07"]}}]}}}}"#
            ),
        ),
        (
            "/api/v1/query?query=1e-7&time=1435781451.781",
            r#"{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"0.0000001"]}}"#.to_owned(),
        ),
        (
            "/api/v1/query?query=%22a%22&time=2015-07-01T20:10:51.1Z",
            r#"{"status":"success","data":{"resultType":"string","result":[1435781451.100,"a"]}}"#.to_owned(),
        ),
        (
            "/api/v1/query?query=nothing",
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned(),
        ),
        (
            "/api/v1/query?query=req_total%7Bjob=%22api%22%7D%5B30s%5D",
            format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"__name__":"req_total","job":"api"}},"values":[[{},"45"],[{NOW_S},"60"]]}}]}}}}"#,
                NOW_S - 15
            ),
        ),
        (
            "/api/v1/query?query=req_total&limit=1",
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"__name__":"req_total","job":"api"}},"value":[{NOW_S},"60"]}}]}},"warnings":["results truncated due to limit"]}}"#
            ),
        ),
    ] {
        server.check(path, 200, &expected).await;
    }
    let path = format!(
        "/api/v1/query_range?query=sum(req_total)&start={}&end={NOW_S}&step=30s",
        NOW_S - 60
    );
    let expected = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[{},"0"],[{},"105"],[{NOW_S},"210"]]}}]}}}}"#,
        NOW_S - 60,
        NOW_S - 30
    );
    server.check(&path, 200, &expected).await;
}

#[tokio::test]
async fn bad_queries_are_refused_with_type_and_text() {
    let server = with_data().await;
    for (path, status, kind, text) in [
        (
            "query?query=",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:1: parse error: no expression found in input"#,
        ),
        (
            "query?query=sum(",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"#,
        ),
        (
            "query?query=1&time=x",
            400,
            "bad_data",
            r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp"#,
        ),
        (
            "query?query=1&timeout=x",
            400,
            "bad_data",
            r#"invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"#,
        ),
        (
            "query?query=1&limit=-1",
            400,
            "bad_data",
            r#"invalid parameter \"limit\": limit must be non-negative"#,
        ),
        (
            "query?query=1&lookback_delta=x",
            400,
            "bad_data",
            r#"error parsing lookback delta duration: cannot parse \"x\" to a valid duration"#,
        ),
        ("query?query=req_total+%2B+on()+req_total", 422, "execution", ""),
        (
            "query_range?query=1",
            400,
            "bad_data",
            r#"invalid parameter \"start\": cannot parse \"\" to a valid timestamp"#,
        ),
        (
            "query_range?query=1&start=1&end=x&step=1",
            400,
            "bad_data",
            r#"invalid parameter \"end\": cannot parse \"x\" to a valid timestamp"#,
        ),
        (
            "query_range?query=1&start=2&end=1&step=1",
            400,
            "bad_data",
            r#"invalid parameter \"end\": end timestamp must not be before start time"#,
        ),
        (
            "query_range?query=1&start=1&end=2&step=0",
            400,
            "bad_data",
            r#"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            "query_range?query=1&start=1&end=2&step=y",
            400,
            "bad_data",
            r#"invalid parameter \"step\": cannot parse \"y\" to a valid duration"#,
        ),
        (
            "query_range?query=1&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "query_range?query=up%5B5m%5D&start=1&end=2&step=1",
            400,
            "bad_data",
            r#"invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"#,
        ),
        (
            "format_query?query=sum(",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"#,
        ),
        (
            "parse_query?query=sum(",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"#,
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]=%7B%7D",
            400,
            "bad_data",
            r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#,
        ),
        (
            "labels?match[]=%7Bx=~%22.*%22%7D",
            400,
            "bad_data",
            "match[] must contain at least one non-empty matcher",
        ),
        (
            "labels?start=x",
            400,
            "bad_data",
            r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
        ),
        (
            "rules?type=x",
            400,
            "bad_data",
            r#"invalid parameter \"type\": not supported value \"x\""#,
        ),
        (
            "rules?exclude_alerts=x",
            400,
            "bad_data",
            r#"invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"x\": invalid syntax"#,
        ),
        (
            "rules?group_next_token=x",
            400,
            "bad_data",
            r#"invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups"#,
        ),
        (
            "rules?group_limit=0",
            400,
            "bad_data",
            r#"invalid parameter \"group_limit\": group_limit needs to be greater than 0"#,
        ),
        (
            "rules?group_limit=1&group_next_token=x",
            400,
            "bad_data",
            r#"invalid parameter \"group_next_token\": invalid group_next_token 'x'. were rule groups changed?"#,
        ),
        ("metadata?limit=x", 400, "bad_data", "limit must be a number"),
        ("targets/metadata?match_target=%7B", 400, "bad_data", ""),
        ("status/tsdb", 500, "unavailable", "this server has no embedded store (TSDB)"),
    ] {
        let got = server.get(&format!("/api/v1/{path}")).await;
        let start = format!(r#"{{"status":"error","errorType":"{kind}","error":"{text}"#);
        assert_eq!(got.status, status, "{path}: {}", got.body);
        assert!(got.body.starts_with(&start), "{path}: {}\nexpected {start}", got.body);
        assert!(text.is_empty() || got.body == format!("{start}\"}}"), "{path}: {}", got.body);
        assert_eq!(got.header("content-type"), "application/json");
    }
    // 11,000 intervals, hence 11,001 points, are still allowed.
    let path = "/api/v1/query_range?query=vector(1)&start=0&end=11000&step=1";
    assert_eq!(server.get(path).await.status, 200);
}

#[tokio::test]
async fn labels_and_series_are_looked_up() {
    let server = with_data().await;
    let outside = "start=1&end=2";
    for (path, data) in [
        ("labels".to_owned(), r#"["__name__","job","v"]"#),
        ("labels?match[]=tiny".to_owned(), r#"["__name__","v"]"#),
        (format!("labels?{outside}"), "[]"),
        ("label/job/values".to_owned(), r#"["api","web"]"#),
        ("label/v/values".to_owned(), r#"["\u003c\u0026\u003e"]"#),
        ("label/U__job/values".to_owned(), r#"["api","web"]"#),
        ("label/none/values".to_owned(), "[]"),
        (
            "series?match[]=req_total&match[]=%7Bjob=%22api%22%7D".to_owned(),
            r#"[{"__name__":"req_total","job":"api"},{"__name__":"req_total","job":"web"}]"#,
        ),
        (format!("series?match[]=req_total&{outside}"), "[]"),
    ] {
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        server.check(&format!("/api/v1/{path}"), 200, &expected).await;
    }
    for (path, data) in [
        ("labels?limit=2", r#"["__name__","job"]"#),
        ("label/job/values?limit=1", r#"["api"]"#),
        ("series?match[]=req_total&limit=1", r#"[{"__name__":"req_total","job":"api"}]"#),
    ] {
        let expected = format!(
            r#"{{"status":"success","data":{data},"warnings":["results truncated due to limit"]}}"#
        );
        server.check(&format!("/api/v1/{path}"), 200, &expected).await;
    }
}

#[tokio::test]
async fn a_form_body_and_the_url_are_merged() {
    let server = with_data().await;
    let merged = server.post_form("/api/v1/series?match[]=tiny", "match[]=req_total&limit=0").await;
    assert_eq!(merged.status, 200);
    assert_eq!(merged.body.matches("__name__").count(), 3, "{}", merged.body);
    // The body comes first.
    let answer = server.post_form("/api/v1/query?query=2", "query=1&time=1").await;
    assert!(answer.body.contains(r#"[1,"1"]"#), "{}", answer.body);
    let range = format!("query=sum(req_total)&start={}&end={NOW_S}&step=60", NOW_S - 60);
    assert_eq!(server.post_form("/api/v1/query_range", &range).await.status, 200);
    assert_eq!(server.post_form("/api/v1/label/job/values", "").await.status, 405);
}

#[tokio::test]
async fn expressions_are_formatted_and_parsed() {
    let server = TestServer::start().await;
    server
        .check(
            "/api/v1/format_query?query=foo%2Fbar",
            200,
            r#"{"status":"success","data":"foo / bar"}"#,
        )
        .await;
    let check = async |query: &str, expected: &str| {
        let path = format!("/api/v1/parse_query?query={query}");
        server.check(&path, 200, &format!(r#"{{"status":"success","data":{expected}}}"#)).await;
    };
    let foo = |range: &str| {
        format!(
            r#"{{"anchored":false,"matchers":[{{"name":"__name__","type":"=","value":"foo"}}],"name":"foo","offset":0,"offsetExpr":null,{range}"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"#
        )
    };
    check("1.50", r#"{"type":"numberLiteral","val":"1.5"}"#).await;
    check(
        "-rate(foo%5B5m%5D)",
        &format!(
            r#"{{"expr":{{"args":[{}"matrixSelector"}}],"func":{{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0}},"type":"call"}},"op":"-","type":"unaryExpr"}}"#,
            foo(r#""range":300000,"rangeExpr":null,"#)
        ),
    )
    .await;
    check(
        "foo+*+on(a)+group_left(b)+foo",
        &format!(
            r#"{{"bool":false,"lhs":{0}"vectorSelector"}},"matching":{{"card":"many-to-one","fillValues":{{"lhs":null,"rhs":null}},"include":["b"],"labels":["a"],"on":true}},"op":"*","rhs":{0}"vectorSelector"}},"type":"binaryExpr"}}"#,
            foo("")
        ),
    )
    .await;
    check(
        "topk+by+(a)+(3,+(foo))",
        &format!(
            r#"{{"expr":{{"expr":{}"vectorSelector"}},"type":"parenExpr"}},"grouping":["a"],"op":"topk","param":{{"type":"numberLiteral","val":"3"}},"type":"aggregation","without":false}}"#,
            foo("")
        ),
    )
    .await;
}

#[tokio::test]
async fn the_rules_that_cost_most_come_first() {
    let server = TestServer::start().await;
    let rest = |file: &str, group: &str, name: &str, kind: &str, interval: u32| {
        format!(
            r#"{{"file":"{file}","group":"{group}","name":"{name}","type":"{kind}","labels":{{"team":"{name}"}},"query":"up","interval":{interval},"evaluations":7,"lastEvaluation":"2023-11-14T22:13:19.5Z","#
        )
    };
    let summary = |avg: &str| format!(r#"{{"last":1,"avg":{avg},"p99":3,"max":4,"total":5}}"#);
    let costs = |seconds: &str, samples: &str, bytes: &str| {
        format!(
            r#""duration":{},"samples":{},"series":{},"bytes":{}}}"#,
            summary(seconds),
            summary(samples),
            summary("0"),
            summary(bytes)
        )
    };
    let down = rest("a.yml", "first", "Down", "alerting", 10);
    let slow = rest("b.yml", "second", "rec:slow", "recording", 60);
    let groups = concat!(
        r#"[{"file":"b.yml","name":"second","interval":60,"rules":1,"used":0.75,"budget":0.5,"exceeded":true,"overrunForecast":3600},"#,
        r#"{"file":"a.yml","name":"first","interval":10,"rules":2,"used":0.25,"budget":0.5,"exceeded":false,"overrunForecast":null}]"#
    );
    // What counts is the cost per time that passes: 1 s of 10 is more than 3 s of 60. A rule
    // that never ran is not shown.
    let by_duration = format!(
        r#"{{"status":"success","data":{{"by":"duration","rules":[{down}"intervalShare":0.1,"share":{},{},{slow}"intervalShare":0.05,"share":{},{}],"groups":{groups}}}}}"#,
        0.1 / (0.1 + 0.05),
        costs("1", "100", "1600"),
        0.05 / (0.1 + 0.05),
        costs("3", "1200", "19200"),
    );
    for query in ["", "?by=duration", "?by=duration&limit=2"] {
        server.check(&format!("/api/v1/rules/top{query}"), 200, &by_duration).await;
    }
    for (by, expected) in [("samples", "rec:slow"), ("bytes", "rec:slow"), ("series", "Down")] {
        let path = format!("/api/v1/rules/top?by={by}&limit=1");
        let answer: serde_json::Value =
            serde_json::from_str(&server.get(&path).await.body).unwrap();
        let data = &answer["data"];
        assert_eq!((&data["by"], &data["rules"][0]["name"]), (&by.into(), &expected.into()));
        let counts =
            (data["rules"].as_array().unwrap().len(), data["groups"].as_array().unwrap().len());
        assert_eq!(counts, (1, 1));
    }
    for (query, why) in [
        (
            "by=x",
            r#"invalid parameter \"by\": not supported value \"x\", want duration, samples, series or bytes"#,
        ),
        ("limit=0", r#"invalid parameter \"limit\": \"0\" is no whole number from 1 to 10000"#),
        ("limit=-1", r#"invalid parameter \"limit\": \"-1\" is no whole number from 1 to 10000"#),
        (
            "limit=10001",
            r#"invalid parameter \"limit\": \"10001\" is no whole number from 1 to 10000"#,
        ),
    ] {
        let expected = format!(r#"{{"status":"error","errorType":"bad_data","error":"{why}"}}"#);
        server.check(&format!("/api/v1/rules/top?{query}"), 400, &expected).await;
    }
}

#[tokio::test]
async fn rules_can_be_filtered_and_paged() {
    let server = TestServer::start().await;
    let alert = r#"{"labels":{"alertname":"Down","job":"node"},"annotations":{"summary":"node \u003cdown\u003e"},"state":"firing","activeAt":"2023-11-14T22:08:20Z","value":"1e+00"}"#;
    let outcome = |kind: &str| {
        format!(
            r#""health":"ok","evaluationTime":0.001,"lastEvaluation":"2023-11-14T22:13:19.5Z","type":"{kind}"}}"#
        )
    };
    let down = |alerts: &str| {
        format!(
            r#"{{"state":"firing","name":"Down","query":"up == 0 \u003c 1","duration":300,"keepFiringFor":0,"labels":{{"team":"Down"}},"annotations":{{"summary":"{{{{ $labels.job }}}} \u003cdown\u003e"}},"alerts":{alerts},{}"#,
            outcome("alerting")
        )
    };
    let recorded = format!(
        r#"{{"name":"rec:up","query":"sum(up)","labels":{{"team":"rec:up"}},{}"#,
        outcome("recording")
    );
    let first = |rules: &str| {
        format!(
            r#"{{"name":"first","file":"a.yml","rules":[{rules}],"interval":15,"limit":0,"evaluationTime":0.002,"lastEvaluation":"2023-11-14T22:13:19.5Z"}}"#
        )
    };
    let second = concat!(
        r#"{"name":"second","file":"b.yml","rules":[{"name":"rec:broken","query":"rate(x[5m])","health":"err","#,
        r#""lastError":"query timed out in query execution","evaluationTime":0.001,"lastEvaluation":"0001-01-01T00:00:00Z","type":"recording"}],"#,
        r#""interval":15,"limit":0,"evaluationTime":0.002,"lastEvaluation":"2023-11-14T22:13:19.5Z"}"#
    );
    let all_alerts = format!("[{alert}]");
    let both = format!("{},{recorded}", down(&all_alerts));
    let groups = |list: &str| format!(r#"{{"status":"success","data":{{"groups":[{list}]}}}}"#);
    for (query, expected) in [
        ("", groups(&format!("{},{second}", first(&both)))),
        ("?type=alert", groups(&first(&down(&all_alerts)))),
        ("?type=record", groups(&format!("{},{second}", first(&recorded)))),
        ("?exclude_alerts=true&type=alert", groups(&first(&down("null")))),
        ("?rule_name[]=rec:up", groups(&first(&recorded))),
        ("?rule_group[]=second", groups(second)),
        ("?file[]=b.yml", groups(second)),
        ("?file[]=b.yml&rule_group[]=first", groups("")),
        ("?match[]=%7Bteam=%22rec:up%22%7D", groups(&first(&recorded))),
    ] {
        server.check(&format!("/api/v1/rules{query}"), 200, &expected).await;
    }
    let page: serde_json::Value =
        serde_json::from_str(&server.get("/api/v1/rules?group_limit=1").await.body).unwrap();
    assert_eq!(page["data"]["groups"][0]["name"], "first");
    let token = page["data"]["groupNextToken"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    let next = format!("/api/v1/rules?group_limit=1&group_next_token={token}");
    server.check(&next, 200, &groups(second)).await;
    let alerts = format!(r#"{{"status":"success","data":{{"alerts":[{alert}]}}}}"#);
    server.check("/api/v1/alerts", 200, &alerts).await;
}

#[tokio::test]
async fn targets_metadata_and_alertmanagers_are_listed() {
    let server = TestServer::start().await;
    let active = concat!(
        r#"{"discoveredLabels":{"__address__":"a:1","job":"node"},"labels":{"instance":"a:1","job":"node"},"scrapePool":"node","#,
        r#""scrapeUrl":"http://a:1/metrics","globalUrl":"http://a:1/metrics","lastError":"","lastScrape":"2023-11-14T22:13:18.75Z","#,
        r#""lastScrapeDuration":0.004,"health":"up","scrapeInterval":"1m30s","scrapeTimeout":"10s"}"#
    );
    let dropped = r#"{"discoveredLabels":{"__address__":"b:1"},"scrapePool":"node"}"#;
    let targets = |active: &str, dropped: &str, counts: &str| {
        format!(
            r#"{{"activeTargets":[{active}],"droppedTargets":[{dropped}],"droppedTargetCounts":{counts}}}"#
        )
    };
    let target = r#""target":{"instance":"a:1","job":"node"},"#;
    for (path, data) in [
        ("targets", targets(active, dropped, r#"{"node":1}"#)),
        ("targets?state=active", targets(active, "", "null")),
        ("targets?state=dropped", targets("", dropped, r#"{"node":1}"#)),
        ("targets?scrapePool=other", targets("", "", r#"{"node":1}"#)),
        ("scrape_pools", r#"{"scrapePools":["node"]}"#.to_owned()),
        (
            "alertmanagers",
            r#"{"activeAlertmanagers":[{"url":"http://am:9093/api/v2/alerts"}],"droppedAlertmanagers":[]}"#.to_owned(),
        ),
        (
            "metadata",
            concat!(
                r#"{"req_total":[{"type":"counter","help":"Requests","unit":""},{"type":"counter","help":"Requests, otherwise","unit":"requests"}],"#,
                r#""up":[{"type":"gauge","help":"Is it \u003cup\u003e?","unit":""}]}"#
            )
            .to_owned(),
        ),
        ("metadata?metric=none", "{}".to_owned()),
        ("targets/metadata?metric=none", "[]".to_owned()),
        ("metadata?limit=0", "{}".to_owned()),
        (
            "metadata?limit=1&limit_per_metric=1",
            r#"{"req_total":[{"type":"counter","help":"Requests","unit":""}]}"#.to_owned(),
        ),
        (
            "targets/metadata?metric=up",
            format!(r#"[{{{target}"type":"gauge","help":"Is it \u003cup\u003e?","unit":""}}]"#),
        ),
        (
            "targets/metadata?limit=1&match_target=%7Bjob=%22node%22%7D",
            format!(
                r#"[{{{target}"metric":"up","type":"gauge","help":"Is it \u003cup\u003e?","unit":""}}]"#
            ),
        ),
    ] {
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        server.check(&format!("/api/v1/{path}"), 200, &expected).await;
    }
}

#[tokio::test]
async fn status_tells_what_runs() {
    let server = TestServer::start_with(
        std::sync::Arc::new(watchfire::telemetry::clock::ManualClock::new(NOW_MS)),
        |state| {
            state.options.flags = vec![
                ("web.enable-lifecycle".to_owned(), "false".to_owned()),
                ("config.file".to_owned(), "a.yml".to_owned()),
            ];
        },
    )
    .await;
    for (path, data) in [
        ("config", r#"{"yaml":"global:\n  scrape_interval: 15s\n"}"#),
        ("flags", r#"{"config.file":"a.yml","web.enable-lifecycle":"false"}"#),
        ("walreplay", r#"{"min":0,"max":0,"current":0}"#),
    ] {
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        server.check(&format!("/api/v1/status/{path}"), 200, &expected).await;
    }
    let build = server.get("/api/v1/status/buildinfo").await.body;
    assert!(build.starts_with(r#"{"status":"success","data":{"version":"3.14.0","#), "{build}");
    let runtime = server.get("/api/v1/status/runtimeinfo").await.body;
    for part in [
        r#""startTime":"2023-11-14T22:12:20Z""#,
        r#""CWD":"/data""#,
        r#""serverTime":"2023-11-14T22:13:20Z""#,
        r#""reloadConfigSuccess":true"#,
        r#""lastConfigTime":"2023-11-14T22:12:20.5Z""#,
        r#""storageRetention":"15d""#,
    ] {
        assert!(runtime.contains(part), "{part} is missing from {runtime}");
    }
}

#[tokio::test]
async fn federation_exposes_latest_samples() {
    let server = with_data().await;
    server.store(
        &[("__name__", "gone")],
        &[(NOW_MS - 30_000, 1.0), (NOW_MS - 15_000, watchfire::model::value::stale_nan())],
    );
    server.store(&[("__name__", "old")], &[(NOW_MS - 400_000, 1.0)]);
    server.check("/federate", 200, "").await;
    server
        .check(
            "/federate?match[]=%7B__name__=~%22req_total%7Ctiny%7Cgone%7Cold%22%7D&match[]=tiny",
            200,
            &format!(
                concat!(
                    "# TYPE req_total untyped\n",
                    "req_total{{job=\"api\",replica=\"a\",instance=\"\"}} 60 {now}\n",
                    "req_total{{job=\"web\",replica=\"a\",instance=\"\"}} 150 {now}\n",
                    "# TYPE tiny untyped\n",
                    "tiny{{v=\"<&>\",replica=\"a\",instance=\"\"}} 1e-07 {tiny}\n",
                ),
                now = NOW_MS,
                tiny = NOW_MS - 500
            ),
        )
        .await;
    assert_eq!(server.get("/federate?match[]=%7B").await.status, 400);
}

#[tokio::test]
async fn remote_write_stores_whole_requests_or_nothing() {
    use watchfire::remote_write::{self, proto};
    let start = |enabled| {
        TestServer::start_with(
            std::sync::Arc::new(watchfire::telemetry::clock::ManualClock::new(NOW_MS)),
            move |state| state.options.enable_remote_write_receiver = enabled,
        )
    };
    let disabled = start(false).await;
    let got = disabled.post_form("/api/v1/write", "").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (
            404,
            "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n"
        )
    );

    let server = start(true).await;
    let body = |value: f64, ts: i64| {
        let label =
            |name: &str, value: &str| proto::Label { name: name.into(), value: value.into() };
        remote_write::encode(&proto::WriteRequest {
            timeseries: vec![proto::TimeSeries {
                labels: vec![label("__name__", "sent"), label("job", "x")],
                samples: vec![proto::Sample { value, timestamp: ts }],
                ..proto::TimeSeries::default()
            }],
            metadata: vec![],
        })
        .unwrap()
    };
    let send = async |body: Vec<u8>, kind: &str, encoding: &str| {
        let request = server
            .request("POST", "/api/v1/write")
            .header("Content-Type", kind)
            .header("Content-Encoding", encoding)
            .body(body);
        let got = answer(request).await;
        (got.status, got.body)
    };
    let proto1 = "application/x-protobuf";
    assert_eq!(send(body(3.0, NOW_MS - 1000), proto1, "snappy").await, (204, String::new()));
    server
        .check(
            "/api/v1/query?query=sent",
            200,
            &format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"__name__":"sent","job":"x"}},"value":[{NOW_S},"3"]}}]}}}}"#
            ),
        )
        .await;
    let refused = send(body(3.0, NOW_MS - 2000), proto1, "snappy").await;
    assert_eq!((refused.0, refused.1.contains("out of order sample")), (400, true), "{refused:?}");
    let broken = send(b"no snappy".to_vec(), proto1, "snappy").await;
    assert_eq!(
        (broken.0, broken.1.starts_with("snappy: corrupt input")),
        (400, true),
        "{broken:?}"
    );
}

#[tokio::test]
async fn remote_write_2_0_stores_what_is_sound_and_says_how_much() {
    use watchfire::remote_write::{self, proto2};
    let server = TestServer::start_with(
        std::sync::Arc::new(watchfire::telemetry::clock::ManualClock::new(NOW_MS)),
        |state| state.options.enable_remote_write_receiver = true,
    )
    .await;
    let send = async |series: &[(&[&str], i64)]| {
        let mut symbols = proto2::Symbols::default();
        let timeseries = series.iter().map(|(texts, timestamp)| proto2::TimeSeries {
            labels_refs: texts.iter().map(|text| symbols.place(text)).collect(),
            samples: vec![proto2::Sample { value: 3.0, timestamp: *timestamp, start_timestamp: 0 }],
            ..proto2::TimeSeries::default()
        });
        let timeseries = timeseries.collect();
        let request = proto2::Request { symbols: symbols.into_symbols(), timeseries };
        let request = server
            .request("POST", "/api/v1/write")
            .header("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "2.0.0")
            .body(remote_write::encode(&request).unwrap());
        let got = answer(request).await;
        let count = |kind: &str| {
            let name = format!("x-prometheus-remote-write-{kind}-written");
            got.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
        };
        let counts = ["samples", "histograms", "exemplars"].map(|kind| count(kind).unwrap());
        (got.status, got.body, counts.join(" "))
    };
    let sent: (&[&str], i64) = (&["__name__", "sent"], NOW_MS - 1000);
    assert_eq!(send(&[sent]).await, (204, String::new(), "1 0 0".to_owned()));
    let again: (&[&str], i64) = (&["__name__", "sent"], NOW_MS - 2000);
    let other: (&[&str], i64) = (&["__name__", "other"], NOW_MS - 2000);
    assert_eq!(
        send(&[again, other]).await,
        (
            400,
            "out of order sample for series {__name__=\"sent\"}\n".to_owned(),
            "1 0 0".to_owned()
        )
    );
    server
        .check(
            "/api/v1/query?query=count({__name__=~%22sent|other%22})",
            200,
            &format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[{NOW_S},"2"]}}]}}}}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn relabelling_is_shown_step_by_step() {
    let server = TestServer::start().await;
    let path = |labels: &str| {
        let labels: String = url::form_urlencoded::byte_serialize(labels.as_bytes()).collect();
        format!("/api/v1/targets/relabel_steps?scrapePool=node&labels={labels}")
    };
    let rules = [
        r#"{"sourceLabels":["__address__"],"separator":";","regex":"(.*):.*","targetLabel":"host","replacement":"$1","action":"replace"}"#,
        r#"{"sourceLabels":["host","job"],"separator":";","regex":"a;node","replacement":"$1","action":"keep"}"#,
        r#"{"separator":";","regex":"host","replacement":"$1","action":"labeldrop"}"#,
        // As Go has it: an empty regular expression is there, other empty values are not.
        r#"{"separator":";","regex":"","targetLabel":"none","replacement":"$1","action":"replace"}"#,
    ];
    let steps = |outputs: [(&str, bool); 4]| {
        let steps = rules.iter().zip(outputs).map(|(rule, (output, keep))| {
            format!(r#"{{"rule":{rule},"output":{output},"keep":{keep}}}"#)
        });
        let steps = steps.collect::<Vec<_>>().join(",");
        format!(r#"{{"status":"success","data":{{"steps":[{steps}]}}}}"#)
    };
    let kept = r#"{"__address__":"a:1","host":"a","job":"node"}"#;
    let last = r#"{"__address__":"a:1","job":"node"}"#;
    let dropped = r#"{"__address__":"b:1","host":"b","job":"node"}"#;
    for (labels, outputs) in [
        (last, [(kept, true), (kept, true), (last, true), (last, true)]),
        (
            r#"{"__address__":"b:1","job":"node"}"#,
            [(dropped, true), ("{}", false), ("{}", false), ("{}", false)],
        ),
    ] {
        server.check(&path(labels), 200, &steps(outputs)).await;
    }
    let bad =
        |error: &str| format!(r#"{{"status":"error","errorType":"bad_data","error":{error:?}}}"#);
    for (path, error) in [
        ("/api/v1/targets/relabel_steps", "no scrapePool parameter provided"),
        ("/api/v1/targets/relabel_steps?scrapePool=node", "no labels parameter provided"),
        ("/api/v1/scrape_pools/config", "no scrapePool parameter provided"),
        (
            "/api/v1/scrape_pools/config?scrapePool=x",
            "error retrieving scrape config: scrape pool \"x\" not found",
        ),
    ] {
        server.check(path, 400, &bad(error)).await;
    }
}

#[tokio::test]
async fn features_are_named_as_by_prometheus() {
    let server = TestServer::start().await;
    let answer = server.get("/api/v1/features").await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    let groups = body["data"].as_object().expect("groups");
    let names: Vec<&str> = groups.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "api",
            "otlp_receiver",
            "prometheus",
            "promql",
            "promql_functions",
            "promql_operators",
            "rules",
            "scrape",
            "service_discovery_providers",
            "templating_functions",
            "tsdb",
            "ui"
        ]
    );
    for (group, feature, expected) in [
        ("promql_functions", "rate", true),
        ("promql_functions", "info", false),
        ("promql_operators", "limitk", false),
        ("promql_operators", "unless", true),
        ("promql", "fill", false),
        ("api", "lifecycle", false),
        ("rules", "concurrent_rule_eval", false),
        ("templating_functions", "humanizePercentage", true),
    ] {
        assert_eq!(groups[group][feature], expected, "{group}.{feature}");
    }
    assert_eq!(groups["promql_functions"].as_object().map(serde_json::Map::len), Some(90));
}
