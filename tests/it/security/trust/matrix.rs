//! Every route with every credential, over every transport, in every spelling: made from the table of routes.

use std::collections::BTreeMap;

use onstage::protocol::{AccessRow, access_table};
use reqwest::{Client, Method, Response};

use super::scene::{Authority, Scene, flags, key};
use super::tokens::{AUDIENCE, ISSUER, Signer, claims, in_seconds, key_set, unsigned};
use crate::support::server::{Server, Starter};

/// What a server says about a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Whoever asks is not the matter.
    Passed,
    Stranger,
    Forbidden,
}

/// Something that a request brings.
struct Credential {
    name: &'static str,
    header: Option<(&'static str, String)>,
    /// Which client sends it: with which certificate.
    certificate: Option<&'static str>,
    /// Scope and pattern; `None` for a stranger.
    grants: Option<Vec<(&'static str, &'static str)>>,
}

impl Credential {
    fn new(name: &'static str, header: Option<(&'static str, String)>) -> Self {
        Self {
            name,
            header,
            certificate: None,
            grants: None,
        }
    }

    fn bearer(name: &'static str, secret: &str) -> Self {
        Self::new(name, Some(("authorization", format!("Bearer {secret}"))))
    }

    fn may(self, grants: &[(&'static str, &'static str)]) -> Self {
        let grants = Some(grants.to_vec());
        Self { grants, ..self }
    }

    fn shows(self, certificate: &'static str) -> Self {
        let certificate = Some(certificate);
        Self {
            certificate,
            ..self
        }
    }

    /// What a server has to say to it, by the words of the table.
    fn expected(&self, access: &str) -> Said {
        let mut words = access.split(' ');
        let (scope, on) = (words.next().unwrap(), words.next().unwrap_or_default());
        if scope == "public" {
            return Said::Passed;
        }
        let Some(grants) = &self.grants else {
            return Said::Stranger;
        };
        let fits = |(granted, pattern): &(&str, &str)| {
            *granted == scope
                && match on {
                    "server" => true,
                    "model" | "default" => matches!(*pattern, "iris" | "*"),
                    "every" => *pattern == "*",
                    other => panic!("the test does not know `{other}`"),
                }
        };
        if grants.iter().any(fits) {
            Said::Passed
        } else {
            Said::Forbidden
        }
    }
}

/// A directory with everybody in it.
struct World {
    scene: Scene,
    credentials: Vec<Credential>,
    clients: BTreeMap<&'static str, (String, String)>,
    flags: Vec<String>,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new();
        let (signer, stranger) = (Signer::new("a"), Signer::new("a"));
        scene.write("jwks.json", &key_set(&[&signer]));
        let mut lines = vec![
            r#"{"name":"batch","certificate":"uri:spiffe://test/batch","scopes":["predict"],"models":["iris"]}"#.to_owned(),
            r#"{"name":"people","claim":"groups=ml","scopes":["read"],"models":["*"]}"#.to_owned(),
        ];
        let mut known = |name, scope: &'static str, model: &'static str| {
            let (secret, line) = key(name, &[scope], &[model]);
            lines.push(line);
            (secret, [(scope, model)])
        };
        let (other, other_may) = known("other", "predict", "fraud-*");
        let (predict, predict_may) = known("predict", "predict", "iris");
        let (read, read_may) = known("read", "read", "*");
        let (narrow, narrow_may) = known("narrow", "read", "iris");
        let (admin, admin_may) = known("admin", "admin", "*");
        let expired = key("old", &["read", "predict", "admin"], &["*"]);
        lines.push(
            expired
                .1
                .replace('}', r#","expires":"2001-01-01T00:00:00Z"}"#),
        );
        scene.write("callers", &lines.join("\n"));
        let all = "onstage:read onstage:predict onstage:admin";
        let with = |name: &str, value: serde_json::Value| {
            let mut claims = claims(all);
            claims[name] = value;
            claims
        };
        let everything = [("read", "*"), ("predict", "*"), ("admin", "*")];
        let jwt = |name, claims| Credential::bearer(name, &signer.token(&claims));
        let credentials = vec![
            Credential::new("none", None),
            Credential::bearer("wrong bearer", "onstage_wrong"),
            Credential::bearer("empty bearer", ""),
            Credential::new("wrong key", Some(("x-api-key", "wrong".to_owned()))),
            Credential::new("basic", Some(("authorization", format!("Basic {predict}")))),
            Credential::bearer("expired key", &expired.0),
            Credential::bearer("other model", &other).may(&other_may),
            Credential::bearer("read", &read).may(&read_may),
            Credential::bearer("read one", &narrow).may(&narrow_may),
            Credential::bearer("predict", &predict).may(&predict_may),
            Credential::new("predict by key", Some(("x-api-key", predict))).may(&predict_may),
            Credential::bearer("admin", &admin).may(&admin_may),
            jwt("jwt", claims(all)).may(&everything),
            jwt("jwt one", claims("onstage:predict:iris")).may(&[("predict", "iris")]),
            jwt("jwt none", claims("profile")).may(&[]),
            jwt("jwt group", {
                let mut group = claims("");
                group["groups"] = "ml".into();
                group
            })
            .may(&[("read", "*")]),
            jwt("jwt expired", with("exp", in_seconds(-120).into())),
            jwt("jwt not yet", with("nbf", in_seconds(120).into())),
            jwt("jwt issuer", with("iss", format!("{ISSUER}/").into())),
            jwt("jwt audience", with("aud", format!("{AUDIENCE}2").into())),
            Credential::bearer("jwt forged", &stranger.token(&claims(all))),
            Credential::bearer("jwt unsigned", &unsigned(&claims(all))),
        ];
        let flags = [
            "--callers-file",
            &scene.path("callers"),
            "--jwt-jwks",
            &scene.path("jwks.json"),
            "--jwt-issuer",
            ISSUER,
            "--jwt-audience",
            AUDIENCE,
        ];
        let flags = flags.map(str::to_owned).into();
        Self {
            scene,
            credentials,
            clients: BTreeMap::new(),
            flags,
        }
    }

    /// The same with TLS, and with clients that have certificates.
    fn with_tls(mut self) -> Self {
        let authority = Authority::new("authority of clients");
        self.scene.write("clients.pem", &authority.pem);
        self.flags.extend(self.scene.tls());
        let more = [
            "--tls-client-auth",
            "optional",
            "--tls-client-ca-file",
            &self.scene.path("clients.pem"),
        ];
        self.flags.extend(more.map(str::to_owned));
        for (name, uri) in [
            ("known", "spiffe://test/batch"),
            ("unknown", "spiffe://test/batch2"),
        ] {
            self.clients.insert(name, authority.client(uri));
        }
        let known = Credential::new("certificate", None).shows("known");
        self.credentials.push(known.may(&[("predict", "iris")]));
        self.credentials
            .push(Credential::new("other certificate", None).shows("unknown"));
        // Whoever says who it is, is taken at its word.
        let wrong = Credential::bearer("certificate and wrong key", "wrong").shows("known");
        self.credentials.push(wrong);
        self
    }

    fn flags(&self, more: &[&'static str]) -> Vec<&str> {
        [flags(&self.flags), more.to_vec()].concat()
    }

    fn client(&self, credential: &Credential) -> reqwest::ClientBuilder {
        match credential.certificate {
            Some(name) => self.scene.client_as(&self.clients[name]),
            None => self.scene.client(),
        }
    }
}

/// The path with names in place of the braces.
fn filled(path: &str) -> String {
    let fill = |part: &str| match part {
        "{model}" | "{name}" => "iris".to_owned(),
        "{version}" => "1".to_owned(),
        "{stage}" => "Production".to_owned(),
        part if part.starts_with('{') => "x".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// The bytes of a message that names iris wherever a request has a name.
fn message(path: &str) -> Vec<u8> {
    let field = match path.rsplit('/').next().unwrap() {
        "RepositoryModelLoad" | "RepositoryModelUnload" | "TraceSetting" => 2,
        "RepositoryIndex" | "LogSettings" => return vec![0; 5],
        _ => 1,
    };
    let name = b"iris";
    let mut message = vec![0, 0, 0, 0, 6, field << 3 | 2, 4];
    message.extend_from_slice(name);
    message
}

async fn said(response: Response) -> Said {
    const NO_SCOPE: [&str; 2] = ["has no scope", "has%20no%20scope"];
    let status = response.status().as_u16();
    let challenged = response.headers().contains_key("www-authenticate");
    let header = |name| {
        let value = response.headers().get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let (grpc_status, grpc_message) = (header("grpc-status"), header("grpc-message"));
    let is_streamed = response.url().path().contains("Watch");
    let has_scope = |text: &str| !NO_SCOPE.iter().any(|words| text.contains(words));
    if status == 401 || grpc_status == "16" {
        assert!(challenged || grpc_status == "16");
        return Said::Stranger;
    }
    if status == 403 && challenged || !has_scope(&grpc_message) {
        return Said::Forbidden;
    }
    assert!(!challenged);
    if is_streamed {
        return Said::Passed;
    }
    let body = response.bytes().await.unwrap();
    match has_scope(&String::from_utf8_lossy(&body)) {
        true => Said::Passed,
        false => Said::Forbidden,
    }
}

async fn ask(client: &Client, url: &str, row: &AccessRow, credential: &Credential) -> Response {
    let method: Method = row.method.parse().unwrap();
    let mut request = client.request(method, url);
    if let Some((name, value)) = &credential.header {
        request = request.header(*name, value);
    }
    let request = if row.is_grpc {
        let request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        request.body(message(&row.path))
    } else if row.method == "POST" {
        request
            .header("content-type", "application/json")
            .body("{}")
    } else {
        request
    };
    request.send().await.unwrap()
}

/// Asks for every row with every credential; gives how many questions there were.
async fn check(world: &World, base: &str, grpc: &str, rows: &[AccessRow]) -> usize {
    let mut asked = 0;
    for credential in &world.credentials {
        let client = world.client(credential).build().unwrap();
        let grpc_client = world
            .client(credential)
            .http2_prior_knowledge()
            .build()
            .unwrap();
        for row in rows {
            let (client, base) = if row.is_grpc {
                (&grpc_client, grpc)
            } else {
                (&client, base)
            };
            let url = format!("{base}{}", filled(&row.path));
            let answer = said(ask(client, &url, row, credential).await).await;
            let expected = credential.expected(&row.access);
            assert_eq!(
                answer, expected,
                "{}: {} {url} ({})",
                credential.name, row.method, row.access
            );
            asked += 1;
        }
    }
    asked
}

fn addresses(server: &Server, scheme: &str) -> (String, String) {
    let base = format!("{scheme}://{}", server.address());
    (base, format!("{scheme}://{}", server.grpc_address()))
}

#[tokio::test]
async fn every_route_asks_who_calls_over_http() {
    let world = World::new();
    let server = world
        .scene
        .serve(&world.flags(&["--default-model", "iris"]))
        .await;
    let (base, grpc) = addresses(&server, "http");
    let rows = access_table(false);
    assert_eq!(
        check(&world, &base, &grpc, &rows).await,
        rows.len() * world.credentials.len()
    );
}

#[tokio::test]
async fn every_route_asks_who_calls_over_tls_below_a_base_path_and_on_one_port() {
    let world = World::new().with_tls();
    let flags = world.flags(&["--base-path", "/ml/v1", "--grpc-on-http"]);
    let server = world.scene.serve(&flags).await;
    let (address, _) = addresses(&server, "https");
    let rows = access_table(false);
    let asked = check(&world, &format!("{address}/ml/v1"), &address, &rows).await;
    assert_eq!(asked, rows.len() * world.credentials.len());
}

#[tokio::test]
async fn routes_by_which_models_come_and_go_ask_who_calls() {
    let world = World::new();
    let models = tempfile::tempdir().unwrap();
    let more = ["--model-dir", models.path().to_str().unwrap()];
    let starter = Starter::serve(&[&flags(&world.flags)[..], &more].concat());
    let server = starter.env("SAGEMAKER_MULTI_MODEL", "true").start().await;
    let (base, grpc) = addresses(&server, "http");
    let known = access_table(false);
    let rows: Vec<_> = access_table(true)
        .into_iter()
        .filter(|row| !known.contains(row))
        .collect();
    assert_eq!(rows.len(), 5);
    check(&world, &base, &grpc, &rows).await;
}

/// Other spellings of a path: the first ones mean the same, the others mean nothing.
fn spellings(path: &str) -> (Vec<String>, Vec<String>) {
    let name = path
        .contains("/iris")
        .then(|| path.replacen("/iris", "/%69ris", 1));
    let last = path.rfind('/').unwrap_or(0) + 1;
    let encode = |at: usize| match path.as_bytes().get(at) {
        Some(byte) => format!("{}%{byte:02X}{}", &path[..at], &path[at + 1..]),
        None => path.to_owned(),
    };
    let other = vec![
        format!("/{path}"),
        path.replace('/', "//"),
        format!("{path}/"),
        format!("{path}//"),
        format!("{path}/."),
        format!("{path};x"),
        format!("{path}%00"),
        format!("{path}%20"),
        format!("/x/..{path}"),
        format!("/health/..%2f{}", &path[1..]),
        format!("/%2e%2e{path}"),
        path.to_uppercase(),
        encode(1),
        encode(last),
        path.replacen('/', "/%2F", 1),
        path.replacen('/', "/\\", 1),
    ];
    (name.into_iter().collect(), other)
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_a_stranger_further() {
    let world = World::new();
    let server = world.scene.serve(&world.flags(&[])).await;
    let (base, grpc) = addresses(&server, "http");
    let client = world.scene.client().build().unwrap();
    let grpc_client = world
        .scene
        .client()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let weak = ["none", "other model", "jwt unsigned", "jwt none"];
    let weak = world
        .credentials
        .iter()
        .filter(|one| weak.contains(&one.name));
    let weak: Vec<_> = weak.collect();
    assert_eq!(weak.len(), 4);
    for row in access_table(false)
        .iter()
        .filter(|row| row.access != "public")
    {
        let (same, other) = spellings(&filled(&row.path));
        let (client, base) = if row.is_grpc {
            (&grpc_client, &grpc)
        } else {
            (&client, &base)
        };
        for credential in &weak {
            let expected = credential.expected(&row.access);
            for path in &same {
                let url = format!("{base}{path}");
                let answer = said(ask(client, &url, row, credential).await).await;
                assert_eq!(
                    answer, expected,
                    "{}: {} {url}",
                    credential.name, row.method
                );
            }
            for path in other.iter().filter(|_| expected != Said::Passed) {
                let url = format!("{base}{path}");
                let response = ask(client, &url, row, credential).await;
                let status = response.headers().get("grpc-status");
                let status = status.map(|status| status.to_str().unwrap().to_owned());
                let is_success = match (row.is_grpc, status) {
                    (true, Some(status)) => status == "0",
                    (true, None) => said(response).await == Said::Passed,
                    (false, _) => response.status().is_success() && !is_probe(&response),
                };
                assert!(!is_success, "{}: {} {url}", credential.name, row.method);
            }
        }
    }
}

/// Clients take `/x/..` out of a path themselves, and may arrive at a probe.
fn is_probe(response: &Response) -> bool {
    ["/", "/health", "/ping", "/version"].contains(&response.url().path())
}

#[tokio::test]
async fn a_model_that_is_not_there_is_refused_like_one_that_is() {
    let world = World::new();
    let server = world.scene.serve(&world.flags(&[])).await;
    let (base, _) = addresses(&server, "http");
    let client = world.scene.client().build().unwrap();
    let find = |name| {
        world
            .credentials
            .iter()
            .find(|one| one.name == name)
            .unwrap()
    };
    let other = find("other model");
    for (method, path) in [
        ("POST", "/v2/models/NAME/infer"),
        ("POST", "/models/NAME/invocations"),
        ("POST", "/v1/models/NAME:predict"),
        ("GET", "/v2/models/NAME"),
        ("GET", "/v1/models/NAME"),
    ] {
        let mut answers = Vec::new();
        for name in ["iris", "nothing"] {
            let url = format!("{base}{}", path.replace("NAME", name));
            let row = AccessRow {
                is_grpc: false,
                method: method.to_owned(),
                path: path.to_owned(),
                access: String::new(),
            };
            let response = ask(&client, &url, &row, other).await;
            let status = response.status().as_u16();
            answers.push((status, response.text().await.unwrap().replace(name, "NAME")));
        }
        assert_eq!(answers[0].0, 403, "{path}");
        assert_eq!(answers[0], answers[1], "{path}");
    }
    // Whoever may ask for a name that nobody has is not told of others.
    let url = format!("{base}/v2/models/fraud-x/infer");
    let infer = |row: &AccessRow| row.path == "/v2/models/{model}/infer";
    let row = access_table(false).into_iter().find(infer).unwrap();
    let response = ask(&client, &url, &row, other).await;
    assert_eq!(response.status(), 404);
    let text = response.text().await.unwrap();
    assert!(text.contains("fraud-x") && !text.contains("iris"), "{text}");
}

#[tokio::test]
async fn refusals_have_the_form_of_their_surface_and_are_in_the_audit_log_and_metrics() {
    let world = World::new();
    let server = world.scene.serve(&world.flags(&["--public-metrics"])).await;
    let (base, _) = addresses(&server, "http");
    let client = world.scene.client().build().unwrap();
    let post = async |path: &str| {
        let request = client
            .post(format!("{base}{path}"))
            .header("x-request-id", "my-id");
        let response = request.body("{}").send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(
            response.headers()["www-authenticate"],
            "Bearer realm=\"onstage\""
        );
        assert_eq!(response.headers()["x-request-id"], "my-id");
        let body: serde_json::Value = response.json().await.unwrap();
        body
    };
    let mlflow = post("/invocations").await;
    assert_eq!(mlflow["error_code"], "UNAUTHENTICATED");
    assert!(mlflow["message"].as_str().unwrap().contains("X-API-Key"));
    for path in ["/v2/models/iris/infer", "/v1/models/iris:predict"] {
        assert!(
            post(path).await["error"]
                .as_str()
                .unwrap()
                .contains("X-API-Key")
        );
    }
    for credential in &world.credentials {
        let row = AccessRow {
            is_grpc: false,
            method: "GET".to_owned(),
            path: "/nothing".to_owned(),
            access: String::new(),
        };
        ask(&client, &format!("{base}/v2"), &row, credential).await;
    }
    let metrics = client.get(format!("{base}/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("onstage_auth_refusals_total{reason=\"missing\"} 6"),
        "{metrics}"
    );
    let audit = server.logged(&["onstage::audit", "my-id"]).await;
    for credential in &world.credentials {
        if let Some((_, value)) = &credential.header {
            let secret = value.split(' ').next_back().unwrap();
            let is_told = secret.len() > 8 && audit.contains(secret);
            assert!(!is_told, "{}", credential.name);
        }
    }
}

#[tokio::test]
async fn the_management_api_takes_its_token_and_callers_with_the_scope() {
    let world = World::new();
    world.scene.write("token", "operator's secret\n");
    let token = world.scene.path("token");
    let flags = [
        &world.flags(&["--admin-port", "0"])[..],
        &["--admin-token-file", &token],
    ]
    .concat();
    let server = world.scene.serve(&flags).await;
    let admin = server.admin_url();
    let client = world.scene.client().build().unwrap();
    let mut credentials: Vec<&Credential> = world.credentials.iter().collect();
    let operator = Credential::bearer("operator", "operator's secret");
    let operator = operator.may(&[("admin", "*")]);
    credentials.push(&operator);
    for (method, path, access) in [
        ("GET", "/admin/models", "admin every"),
        ("GET", "/admin/history", "admin every"),
        ("GET", "/admin/models/iris", "admin model"),
        ("GET", "/admin/models/iris/drift", "admin model"),
        ("POST", "/admin/models/iris/hold", "admin model"),
        ("POST", "/admin/models/iris/resume", "admin model"),
        ("POST", "/v2/repository/index", "admin every"),
        ("POST", "/v2/repository/models/iris/load", "admin model"),
        ("GET", "/nothing", "admin every"),
        ("GET", "//admin/models", "admin every"),
        ("DELETE", "/admin/models/iris", "admin model"),
    ] {
        let row = AccessRow {
            is_grpc: false,
            method: method.to_owned(),
            path: path.to_owned(),
            access: access.to_owned(),
        };
        for credential in &credentials {
            let url = format!("{admin}{path}");
            let answer = said(ask(&client, &url, &row, credential).await).await;
            let expected = credential.expected(access);
            assert_eq!(answer, expected, "{}: {method} {path}", credential.name);
        }
    }
    let audit = server.logged(&["operator", "hold"]).await;
    assert!(!audit.contains("operator's secret"));
    // On the main port the token is nobody's.
    let (base, _) = addresses(&server, "http");
    let bearer = "Bearer operator's secret";
    let request = client
        .get(format!("{base}/v2"))
        .header("authorization", bearer);
    assert_eq!(request.send().await.unwrap().status(), 401);
}
