//! Where credentials come from, and roles assumed at a stand-in for AWS' token service.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use reqwest::header::AUTHORIZATION;

use super::*;
use crate::telemetry::clock::ManualClock;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let pairs: HashMap<String, String> =
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Arc::new(move |name| pairs.get(name).cloned())
}

/// 2023-11-14T22:13:20Z.
const NOW_MS: TimestampMs = 1_700_000_000_000;

async fn signer(
    yaml: &str,
    environment: Environment,
    clock: &Arc<ManualClock>,
) -> Result<Signer, HttpError> {
    let config: SigV4Config = serde_yaml::from_str(yaml).unwrap();
    config.validate().unwrap();
    Signer::new(&config, "test/1", environment, clock.clone()).await
}

/// `KEY/DATE/REGION/SERVICE`, and the session token, of a signed request.
async fn signed(signer: &Signer) -> String {
    let url = Url::parse("https://aps.test/alertmanager/api/v2/alerts").unwrap();
    let mut request = Request::new(Method::POST, url);
    if let Err(error) = signer.sign(&mut request).await {
        return error.to_string();
    }
    let text = request.headers()[AUTHORIZATION].to_str().unwrap();
    let (_, rest) = text.split_once("Credential=").unwrap();
    let (scope, _) = rest.split_once("/aws4_request").unwrap();
    let token = request.headers().get("x-amz-security-token");
    token.map_or(scope.to_owned(), |token| format!("{scope} {}", token.to_str().unwrap()))
}

#[test]
fn contradictions_are_refused_in_the_words_of_prometheus() {
    let check = |yaml: &str, expected: &str| {
        let config: SigV4Config = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(config.validate().unwrap_err().to_string(), expected);
    };
    let half = "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in \
                the SigV4 config";
    check("{access_key: a}", half);
    check("{secret_key: a}", half);
    check("{external_id: a}", "external_id can only be used with role_arn");
    assert!(serde_yaml::from_str::<SigV4Config>("{regoin: a}").is_err());
}

#[tokio::test]
async fn credentials_and_region_are_found_where_aws_programs_find_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".aws")).unwrap();
    let credentials = dir.path().join(".aws/credentials");
    std::fs::write(
        &credentials,
        "# mine\n[default]\naws_access_key_id = KD\naws_secret_access_key=SD\n\n[ other ]\n\
         AWS_ACCESS_KEY_ID=KO\naws_secret_access_key=SO\naws_session_token=TO\n[half]\n\
         aws_access_key_id=K\n",
    )
    .unwrap();
    let config = dir.path().join(".aws/config");
    std::fs::write(&config, "[default]\nregion = rd\n[profile other]\nregion = ro\n").unwrap();
    let home = dir.path().to_str().unwrap();
    let keys = [("AWS_ACCESS_KEY_ID", "KE"), ("AWS_SECRET_ACCESS_KEY", "SE")];
    let with = |more: &[(&'static str, &'static str)]| [&[("HOME", home)], more].concat();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    for (yaml, variables, expected) in [
        ("{region: r, access_key: K, secret_key: S}", with(&keys), "K/20231114/r/aps"),
        ("{region: r, access_key: K, secret_key: S, service_name: es}", vec![], "K/20231114/r/es"),
        ("{region: r}", with(&keys), "KE/20231114/r/aps"),
        (
            "{}",
            with(&[keys[0], keys[1], ("AWS_SESSION_TOKEN", "TE"), ("AWS_REGION", "re")]),
            "KE/20231114/re/aps TE",
        ),
        ("{}", with(&[("AWS_DEFAULT_REGION", "re")]), "KD/20231114/re/aps"),
        ("{}", with(&[]), "KD/20231114/rd/aps"),
        // A profile that is named goes before the environment.
        ("{profile: other}", with(&keys), "KO/20231114/ro/aps TO"),
        ("{}", with(&[("AWS_PROFILE", "other")]), "KO/20231114/ro/aps TO"),
        (
            "{profile: half, region: r}",
            with(&keys),
            "could not get SigV4 credentials: profile half has no keys; ",
        ),
        (
            "{profile: none, region: r}",
            with(&keys),
            "could not get SigV4 credentials: there is no profile none; ",
        ),
        ("{region: r}", vec![], "could not get SigV4 credentials: there is no HOME directory; "),
        (
            "{profile: none}",
            with(&[]),
            "region not configured in sigv4 or in default credentials chain",
        ),
    ] {
        let got = match signer(yaml, environment(&variables), &clock).await {
            Ok(signer) => signed(&signer).await,
            Err(error) => error.to_string(),
        };
        assert!(got.starts_with(expected), "{yaml} {variables:?}: {got}");
        assert!(expected.ends_with("; ") || got == expected, "{yaml} {variables:?}: {got}");
    }
    // Files are read again: keys are replaced from time to time.
    let signer = signer("{}", environment(&[("HOME", home)]), &clock).await.unwrap();
    std::fs::write(&credentials, "[default]\naws_access_key_id=K2\naws_secret_access_key=S2\n")
        .unwrap();
    assert_eq!(signed(&signer).await, "K2/20231114/rd/aps");
}

/// A security token service: `AUTHORIZED ACTION ROLE MORE` of each request.
#[derive(Clone, Default)]
struct Sts {
    asked: Arc<Mutex<Vec<String>>>,
    refuses: Arc<Mutex<bool>>,
}

impl Sts {
    async fn start() -> (Self, String) {
        let sts = Self::default();
        let app =
            axum::Router::new().fallback(axum::routing::post(Self::take)).with_state(sts.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (sts, base)
    }

    async fn take(
        State(sts): State<Self>,
        headers: HeaderMap,
        body: String,
    ) -> (StatusCode, String) {
        let signed = headers.get(AUTHORIZATION).map_or("-", |v| v.to_str().unwrap());
        let signed = signed.split_once("Credential=").map_or(signed, |(_, rest)| rest);
        let signed = signed.split(',').next().unwrap_or_default();
        let mut asked = sts.asked.lock();
        asked.push(format!("{signed} {body}"));
        if *sts.refuses.lock() {
            let error = "<ErrorResponse><Error><Code>AccessDenied</Code>\
                         <Message>not you</Message></Error></ErrorResponse>";
            return (StatusCode::FORBIDDEN, error.to_owned());
        }
        let n = asked.len();
        let answer = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
             <AccessKeyId>A{n}</AccessKeyId><SecretAccessKey>S{n}</SecretAccessKey>\
             <SessionToken>T{n}</SessionToken><Expiration>2023-11-14T22:{:02}:20Z</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>",
            13 + 15 * n
        );
        (StatusCode::OK, answer)
    }
}

#[tokio::test]
async fn a_role_is_assumed_and_again_before_its_credentials_expire() {
    let (sts, base) = Sts::start().await;
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let role = "{region: r, access_key: K, secret_key: S, role_arn: 'arn:role', external_id: e}";
    let signer = signer(role, environment(&[("AWS_ENDPOINT_URL_STS", &base)]), &clock).await;
    let signer = signer.unwrap();
    assert!(sts.asked.lock().is_empty(), "nobody is asked at load");
    assert_eq!(signed(&signer).await, "A1/20231114/r/aps T1");
    let asked = "K/20231114/r/sts/aws4_request Action=AssumeRole&RoleArn=arn%3Arole&\
                 RoleSessionName=watchfire&ExternalId=e&Version=2011-06-15";
    assert_eq!(*sts.asked.lock(), [asked]);
    clock.advance_ms(15 * 60_000 - 30_001);
    assert_eq!(signed(&signer).await, "A1/20231114/r/aps T1");
    clock.advance_ms(1);
    assert_eq!(signed(&signer).await, "A2/20231114/r/aps T2");
    clock.advance_ms(15 * 60_000);
    *sts.refuses.lock() = true;
    assert_eq!(
        signed(&signer).await,
        format!(
            "could not get SigV4 credentials: AssumeRole at {base}: 403 Forbidden AccessDenied not you"
        )
    );
}

#[tokio::test]
async fn a_web_identity_becomes_a_role() {
    let (sts, base) = Sts::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "jwt\n").unwrap();
    let variables = environment(&[
        ("AWS_ENDPOINT_URL", &base),
        ("AWS_REGION", "r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:pod"),
        ("AWS_ROLE_SESSION_NAME", "pod"),
    ]);
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let plain = signer("{}", variables.clone(), &clock).await.unwrap();
    assert_eq!(signed(&plain).await, "A1/20231114/r/aps T1");
    let pod = "- Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Apod&RoleSessionName=pod&\
               WebIdentityToken=jwt&Version=2011-06-15";
    assert_eq!(std::mem::take(&mut *sts.asked.lock()), [pod]);
    // With its credentials another role is assumed.
    let other = signer("{role_arn: 'arn:other'}", variables, &clock).await.unwrap();
    assert_eq!(signed(&other).await, "A2/20231114/r/aps T2");
    let asked = std::mem::take(&mut *sts.asked.lock());
    assert_eq!(asked[0], pod);
    assert!(asked[1].starts_with("A1/20231114/r/sts/aws4_request Action=AssumeRole&"), "{asked:?}");
}
