//! Tokens of a stand-in for an endpoint, by a clock that is moved by hand.

use std::collections::VecDeque;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use parking_lot::Mutex;

use super::*;
use crate::telemetry::clock::ManualClock;

/// An endpoint that notes what it is asked and answers what it was told, and a target that
/// says who came.
#[derive(Clone, Default)]
struct Mock {
    /// `AUTHORIZATION FORM` of each request for a token.
    asked: Arc<Mutex<Vec<String>>>,
    /// With none left tokens `t1`, `t2`, ... for a minute.
    answers: Arc<Mutex<VecDeque<Scripted>>>,
}

/// Status, type and body.
type Scripted = (u16, &'static str, String);

impl Mock {
    /// Gives where it listens, too.
    async fn start() -> (Self, String) {
        let mock = Self::default();
        let app = axum::Router::new()
            .route("/token", axum::routing::post(Self::token))
            .route("/target", axum::routing::get(Self::target))
            .with_state(mock.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (mock, base)
    }

    async fn token(
        Shared(mock): Shared<Self>,
        headers: HeaderMap,
        body: String,
    ) -> impl IntoResponse {
        assert_eq!(headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
        let mut asked = mock.asked.lock();
        asked.push(format!("{} {body}", of(&headers)));
        let (status, kind, body) = mock.answers.lock().pop_front().unwrap_or_else(|| {
            let body = format!(r#"{{"access_token":"t{}","expires_in":60}}"#, asked.len());
            (200, "application/json", body)
        });
        (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, kind)], body)
    }

    /// Says who came, and refuses the token `revoked`.
    async fn target(headers: HeaderMap) -> (StatusCode, String) {
        let came = of(&headers);
        let refused = came == "Bearer revoked";
        (if refused { StatusCode::UNAUTHORIZED } else { StatusCode::OK }, came)
    }

    fn answer(&self, status: u16, kind: &'static str, body: &str) {
        self.answers.lock().push_back((status, kind, body.to_owned()));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }
}

fn of(headers: &HeaderMap) -> String {
    headers.get(AUTHORIZATION).map_or("-", |value| value.to_str().unwrap()).to_owned()
}

/// A client of the mock with these options beside `client_id: me` and the URL.
async fn client(base: &str, options: &str, clock: &Arc<ManualClock>) -> Client {
    let yaml = format!("{{oauth2: {{client_id: me, token_url: '{base}/token', {options}}}}}");
    let mut config: ClientConfig = serde_yaml::from_str(&yaml).unwrap();
    config.normalize().unwrap();
    Client::new(&config, "test/1", clock.clone()).await.unwrap()
}

/// What the target saw, or why it saw nothing.
async fn get(client: &Client, base: &str) -> String {
    let url = Url::parse(&format!("{base}/target")).unwrap();
    match client.execute(client.request(Method::GET, url)).await {
        Ok(response) => response.text().await.unwrap(),
        Err(error) => error.to_string(),
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000))
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_before_it_expires() {
    let (mock, base) = Mock::start().await;
    let clock = clock();
    let options = "client_secret: 's: ü', scopes: [a, 'b'], endpoint_params: {audience: x&y}";
    let client = client(&base, options, &clock).await;
    assert!(mock.asked().is_empty());
    let both = tokio::join!(get(&client, &base), get(&client, &base));
    assert_eq!(both, ("Bearer t1".to_owned(), "Bearer t1".to_owned()));
    // `me:s%3A+%C3%BC` in base64.
    let asked = "Basic bWU6cyUzQSslQzMlQkM= audience=x%26y&grant_type=client_credentials&scope=a+b";
    assert_eq!(*mock.asked.lock(), [asked]);
    clock.advance_ms(49_999);
    assert_eq!(get(&client, &base).await, "Bearer t1");
    clock.advance_ms(1);
    assert_eq!(get(&client, &base).await, "Bearer t2");
    assert_eq!(mock.asked(), [asked, asked]);
    // An endpoint that fails fails requests, until it answers again.
    clock.advance_ms(60_000);
    mock.answer(503, "text/html", "<b>later</b>");
    assert_eq!(
        get(&client, &base).await,
        "oauth2: cannot fetch token: 503 Service Unavailable\nResponse: <b>later</b>"
    );
    assert_eq!(get(&client, &base).await, "Bearer t2");
}

#[tokio::test]
async fn answers_are_read_as_endpoints_write_them() {
    let json = "application/json; charset=utf-8";
    let form = "application/x-www-form-urlencoded";
    let cases: &[(u16, &'static str, &str, &str)] = &[
        (200, json, r#"{"access_token":"x"}"#, "Bearer x"),
        (
            200,
            json,
            r#"{"access_token":"x","token_type":"BEARER","expires_in":"3600"}"#,
            "Bearer x",
        ),
        (201, json, r#"{"access_token":"x","token_type":"mac","expires_in":null}"#, "MAC x"),
        (200, json, r#"{"access_token":"x","token_type":"Own","more":[1]}"#, "Own x"),
        (200, form, "access_token=x%2By&token_type=bearer&expires_in=60", "Bearer x+y"),
        (200, "text/plain", "access_token=x", "Bearer x"),
        (200, json, "{}", "oauth2: server response missing access_token"),
        (
            401,
            json,
            r#"{"error":"invalid_client","error_description":"no \"me\"","error_uri":"http://e"}"#,
            r#"oauth2: "invalid_client" "no \"me\"" "http://e""#,
        ),
        // Some say so with a status of success.
        (200, json, r#"{"error":"invalid_scope"}"#, r#"oauth2: "invalid_scope""#),
        (400, form, "error=invalid_request", r#"oauth2: "invalid_request""#),
        (401, json, "{}", "oauth2: cannot fetch token: 401 Unauthorized\nResponse: {}"),
        (200, json, "<html>", "oauth2: cannot parse json: expected value at line 1 column 1"),
        (
            200,
            json,
            r#"{"access_token":"x","expires_in":"soon"}"#,
            "oauth2: cannot parse json: expires_in is no number at line 1 column 40",
        ),
        (
            200,
            json,
            r#"{"access_token":"x\ny"}"#,
            "oauth2: cannot fetch token: the oauth2 token cannot be sent as an HTTP header: it holds \
             a line break or control character",
        ),
    ];
    for (status, kind, body, expected) in cases {
        let (mock, base) = Mock::start().await;
        // Once for each place of the secret.
        mock.answer(*status, kind, body);
        mock.answer(*status, kind, body);
        let client = client(&base, "client_secret: s", &clock()).await;
        assert_eq!(get(&client, &base).await, *expected, "{body}");
    }
    let (mock, base) = Mock::start().await;
    mock.answer(200, json, &" ".repeat(ANSWER_MAX + 1));
    mock.answer(200, json, &" ".repeat(ANSWER_MAX + 1));
    let client = client(&base, "client_secret: s", &clock()).await;
    assert!(get(&client, &base).await.ends_with("longer than 1048576 bytes"));
}

#[tokio::test]
async fn an_endpoint_that_wants_the_secret_in_the_body_gets_it_there() {
    let (mock, base) = Mock::start().await;
    let clock = clock();
    let client = client(&base, "client_secret: s", &clock).await;
    mock.answer(401, "application/json", r#"{"error":"invalid_client"}"#);
    assert_eq!(get(&client, &base).await, "Bearer t2");
    let body = "- client_id=me&client_secret=s&grant_type=client_credentials";
    assert_eq!(mock.asked(), ["Basic bWU6cw== grant_type=client_credentials", body]);
    // That is remembered.
    clock.advance_ms(60_000);
    assert_eq!(get(&client, &base).await, "Bearer t1");
    assert_eq!(mock.asked(), [body]);
}

#[tokio::test]
async fn a_changed_secret_asks_anew_and_a_missing_one_is_named() {
    let (mock, base) = Mock::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\n").unwrap();
    let options = format!("client_secret_file: '{}'", file.path().display());
    let client = client(&base, &options, &clock()).await;
    for (secret, expected) in [("one\n", "Bearer t1"), ("one", "Bearer t1"), ("two", "Bearer t2")] {
        std::fs::write(file.path(), secret).unwrap();
        assert_eq!(get(&client, &base).await, expected);
    }
    assert_eq!(mock.asked().len(), 2);
    std::fs::remove_file(file.path()).unwrap();
    let error = get(&client, &base).await;
    assert!(error.starts_with("unable to read oauth2 client secret file "), "{error}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_but_not_at_every_refusal() {
    let (mock, base) = Mock::start().await;
    let clock = clock();
    let client = client(&base, "client_secret: s", &clock).await;
    // It says nothing of expiry.
    mock.answer(200, "application/json", r#"{"access_token":"revoked"}"#);
    for _ in 0..3 {
        assert_eq!(get(&client, &base).await, "Bearer revoked");
    }
    assert_eq!(mock.asked().len(), 1);
    clock.advance_ms(60_000);
    assert_eq!(get(&client, &base).await, "Bearer revoked");
    assert_eq!(get(&client, &base).await, "Bearer t1");
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    let (mock, base) = Mock::start().await;
    let clock = clock();
    let wrong = client(&base, "scopes: [a], endpoint_params: {scope: b}", &clock).await;
    assert_eq!(get(&wrong, &base).await, r#"oauth2: cannot overwrite parameter "scope""#);
    // Not all endpoints follow the standard.
    let odd = client(&base, "endpoint_params: {grant_type: own}", &clock).await;
    assert_eq!(get(&odd, &base).await, "Bearer t1");
    assert_eq!(mock.asked(), ["Basic bWU6 grant_type=own"]);
    // Nobody there: asked once.
    let dead = client("http://127.0.0.1:1", "client_secret: s", &clock).await;
    let error = get(&dead, &base).await;
    assert!(
        error.starts_with(
            "oauth2: cannot fetch token: request to http://127.0.0.1:1/token failed: "
        ),
        "{error}"
    );
    let mut config = ClientConfig::default();
    config.oauth2 = Some(Box::new(OAuth2 { token_url: "no url".into(), ..OAuth2::default() }));
    let Err(error) = Client::new(&config, "test/1", clock).await else { panic!("a bad URL") };
    assert_eq!(
        error.to_string(),
        "unable to use oauth2 token_url no url: relative URL without a base"
    );
}
