use std::sync::atomic::{AtomicUsize, Ordering};

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

use super::*;
use crate::middleware::auth::{On, Scope};

const ISSUER: &str = "https://issuer.example";
const NOW: i64 = 1_800_000_000;

/// Made with a key that nobody has any more; they expire in 2100.
const RSA_KEY: &str = r#"{"kty": "RSA", "kid": "rsa", "use": "sig", "n": "rjS8trvKeI9qMDQG8ktN25fmE3UOMqx3_LmnSR3oD-Sk9y3PwqoKDIvha8L-UQ82vh6gL-CWg7zjWQAIG50geH9tAVq1sxJf_fOTQhPteEwZk9uWIVJEIWWp8QVGp2IStFeh4NLlwVCI7dSxwBH6eOTboaGFVE7i8KPitioZLmFR2hN5O7Iri5cTBiDBFPEyOfhdvkclqJFt1rrGUrSDiTMz1HKoAMMjh-sGILXRiZlyGIRb0zOL692p2tM61FprrXKV3YVU3P4jC_K1GskC9PK-wJGydDWKSJF1sF4wxF8YApGnBDp82dE-rfy4Jk32va6gIRlVSkSHOfDHE7kSPQ", "e": "AQAB"}"#;
const RS256: &str = "eyJhbGciOiAiUlMyNTYiLCAidHlwIjogIkpXVCIsICJraWQiOiAicnNhIn0.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZSIsICJhdWQiOiAib25zdGFnZSIsICJzdWIiOiAicm9ib3QiLCAiZXhwIjogNDEwMjQ0NDgwMCwgInNjb3BlIjogIm9uc3RhZ2U6cHJlZGljdCJ9.UNLjTJFZvsgzaVzHJ_kxuzlIvyZlmEmhks4RdmeVNIpxXUAGQ5Ps6VW8or6pF65-TCHC-xIXGFbdHUXjVWQQMkHllTTVRJ26IHV9b6f5LukHeFG5WEmpIWAKC9UPZxd4eyBrMUbP6R5FU-pM8m7CTlsxKbYgWtVXi_fbOHOijolNuedAndyOiSbtMKgG5JaP_ZfvVmDrIHamRbhrXWsdB2r08DlGKjfK67Jdn2-CUp8SoXokz-QKYqngO3bGxHmdlypBPVN5sSX89iIxz3R2If_xncNiO106Wx0_nHweed4Rxjy_Q7pi0DsWaZbU6tvkJOVziXz0-S28Vs1COcUjUA";
const PS256: &str = "eyJhbGciOiAiUFMyNTYiLCAidHlwIjogIkpXVCIsICJraWQiOiAicnNhIn0.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZSIsICJhdWQiOiAib25zdGFnZSIsICJzdWIiOiAicm9ib3QiLCAiZXhwIjogNDEwMjQ0NDgwMCwgInNjb3BlIjogIm9uc3RhZ2U6cHJlZGljdCJ9.nsIqp0lY4pEIaA4Yey5q0cRov5x4UHYkfwWkFPIxqqZzXJeFTal6eEjl3d9DocbzF_HkT5eaYJWIhhYBeaVSTqr6CYzhiPYkaRl8Nw-Kt8uUXvmkDdiMwCVVd_XZPAUqz586T-CIEa14-WewqXO8TPXrRMbLFPlV5J9AIMxYXVBa3cR7OkAQbGii_FfjLxKp_GxjXefhuxMjTdc4jg8n29wWJz6HCieodHPY44MtWh7yC_N1hdw7yZ_YL3BEE07VEuvGml91ZINThKuPV6KMdicgHkYtBKckBu_gxs1yHruTiBCcF94Cog6BcW2rR1Bviwkq4qn_vazyvzuZthj4ag";

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Makes tokens.
enum Signer {
    Ecdsa(Box<EcdsaKeyPair>, &'static str),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, name: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self::Ecdsa(Box::new(pair), name)
    }

    fn es256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256")
    }

    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Box::new(
            Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(),
        ))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa(_, name) => name,
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Ecdsa(pair, name) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if *name == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "kid": id, "x": encoded(x), "y": encoded(y)})
            }
            Self::Ed25519(pair) => {
                let x = encoded(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| encoded(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = match self {
            Self::Ecdsa(pair, _) => {
                let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
                encoded(signature.as_ref())
            }
            Self::Ed25519(pair) => encoded(pair.sign(signed.as_bytes()).as_ref()),
        };
        format!("{signed}.{signature}")
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "kid": id}), claims)
    }
}

fn good() -> Value {
    json!({"iss": ISSUER, "aud": ["other", "onstage"], "sub": "robot", "exp": NOW + 60,
           "scope": "openid onstage:predict:fraud-*"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

/// A provider whose keys a test changes.
#[derive(Clone, Default)]
struct Provider(Arc<(Mutex<Option<String>>, AtomicUsize)>);

impl Provider {
    fn set(&self, keys: &[Value]) {
        *self.0.0.lock() = Some(json!({ "keys": keys }).to_string());
    }

    fn looks(&self) -> usize {
        self.0.1.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl KeySource for Provider {
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceError> {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        let text = self.0.0.lock().clone();
        text.map(String::into_bytes).ok_or(KeySourceError::Timeout)
    }
}

fn tokens(provider: &Provider) -> Tokens {
    let options = TokenOptions {
        issuer: ISSUER.to_owned(),
        audience: vec!["onstage".to_owned()],
        algorithms: ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
            .map(|name| name.parse().unwrap())
            .into(),
        leeway: Duration::from_secs(30),
    };
    Tokens::new(options, Box::new(provider.clone()))
}

async fn ask(tokens: &Tokens, token: &str) -> Result<Arc<Identity>, Unknown> {
    let callers = Arc::new(Callers::default());
    tokens.identify(token.as_bytes(), &callers, now()).await
}

#[tokio::test]
async fn every_algorithm_is_proved_by_its_key_and_by_no_other() {
    let es384 = Signer::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384");
    for signer in [Signer::es256(), es384, Signer::ed25519()] {
        let provider = Provider::default();
        provider.set(&[signer.jwk("a")]);
        let tokens = tokens(&provider);
        tokens.refresh().await.unwrap();
        let who = ask(&tokens, &signer.token("a", &good())).await.unwrap();
        assert_eq!(who.name, "robot");
        assert!(who.may(Scope::Predict, On::Model("fraud-eu")));
        assert!(!who.may(Scope::Predict, On::Model("iris")));
        assert!(!who.may(Scope::Read, On::Server));
        let stranger = match signer.algorithm() {
            "EdDSA" => Signer::ed25519(),
            "ES256" => Signer::es256(),
            _ => Signer::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384"),
        };
        let forged = stranger.token("a", &good());
        assert!(matches!(
            ask(&tokens, &forged).await,
            Err(Unknown::Token(_))
        ));
    }
}

#[tokio::test]
async fn tokens_of_rsa_keys_are_proved() {
    let provider = Provider::default();
    provider.set(&[serde_json::from_str(RSA_KEY).unwrap()]);
    let tokens = tokens(&provider);
    tokens.refresh().await.unwrap();
    for token in [RS256, PS256] {
        assert_eq!(ask(&tokens, token).await.unwrap().name, "robot");
        let (signed, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", encoded(&[7; 256]));
        assert!(ask(&tokens, &forged).await.is_err());
    }
    // The signature of one algorithm is none of the other.
    let (signed, _) = RS256.rsplit_once('.').unwrap();
    let (_, signature) = PS256.rsplit_once('.').unwrap();
    assert!(
        ask(&tokens, &format!("{signed}.{signature}"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn tokens_of_others_for_others_and_of_other_times_are_refused() {
    let (signer, provider) = (Signer::es256(), Provider::default());
    provider.set(&[signer.jwk("a")]);
    let tokens = tokens(&provider);
    tokens.refresh().await.unwrap();
    let mut no_expiry = good();
    no_expiry.as_object_mut().unwrap().remove("exp");
    for (claims, expected) in [
        (good(), "good"),
        (with("aud", json!("onstage")), "good"),
        (with("exp", json!(NOW - 29)), "good"),
        (with("nbf", json!(NOW + 29)), "good"),
        (with("exp", json!(NOW - 31)), "expired"),
        (with("exp", json!("tomorrow")), "token"),
        (with("exp", json!(null)), "token"),
        (no_expiry, "token"),
        (with("nbf", json!(NOW + 31)), "token"),
        (with("nbf", json!([])), "token"),
        (with("iss", json!("https://evil.example")), "token"),
        (with("iss", json!([ISSUER, "x"])), "token"),
        (with("iss", json!(null)), "token"),
        (with("aud", json!("onstage2")), "token"),
        (with("aud", json!([])), "token"),
        (with("aud", json!(null)), "token"),
        (json!([]), "token"),
        (json!({}), "token"),
    ] {
        let answer = ask(&tokens, &signer.token("a", &claims)).await;
        let described = match answer {
            Ok(_) => "good",
            Err(Unknown::Expired) => "expired",
            Err(_) => "token",
        };
        assert_eq!(described, expected, "{claims}");
    }
}

#[tokio::test]
async fn headers_that_would_weaken_a_token_are_refused() {
    let (signer, provider) = (Signer::es256(), Provider::default());
    provider.set(&[signer.jwk("a")]);
    let tokens = tokens(&provider);
    tokens.refresh().await.unwrap();
    let unsigned = |algorithm: &str| {
        let header = encoded(json!({"alg": algorithm, "kid": "a"}).to_string().as_bytes());
        format!("{header}.{}.", encoded(good().to_string().as_bytes()))
    };
    let mut refused: Vec<String> = ["none", "None", "NONE", "", "HS256", "ES256"]
        .map(unsigned)
        .into();
    for header in [
        json!({"alg": "HS256", "kid": "a"}),
        json!({"alg": "ES384", "kid": "a"}),
        json!({"alg": "ES256", "kid": "a", "crit": ["exp"]}),
        json!({"alg": ["ES256"], "kid": "a"}),
        json!({"kid": "a"}),
        json!([]),
    ] {
        refused.push(signer.sign(&header, &good()));
    }
    let token = signer.token("a", &good());
    refused.extend(["", ".", "..", "...", "a.b.c"].map(str::to_owned));
    refused.push(format!("{token}."));
    refused.push(format!("{token}="));
    refused.push(token[..token.len() - 2].to_owned());
    for token in refused {
        assert!(ask(&tokens, &token).await.is_err(), "{token}");
    }
    assert!(ask(&tokens, &token).await.is_ok());
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once_and_the_last_good_keys_stay() {
    let (old, new, provider) = (Signer::es256(), Signer::es256(), Provider::default());
    let tokens = tokens(&provider);
    assert!(tokens.refresh().await.is_err());
    provider.set(&[old.jwk("old")]);
    tokens.refresh().await.unwrap();
    assert_eq!(provider.looks(), 2);
    provider.set(&[old.jwk("old"), new.jwk("new")]);
    let token = new.token("new", &good());
    let asked = (0..50).map(|_| ask(&tokens, &token));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(provider.looks(), 3);
    for number in 0..50 {
        let made_up = new.token(&format!("x{number}"), &good());
        assert!(ask(&tokens, &made_up).await.is_err());
    }
    assert_eq!(provider.looks(), 3);
    *provider.0.0.lock() = Some("{}".to_owned());
    assert!(tokens.refresh().await.is_err());
    *provider.0.0.lock() = None;
    assert!(tokens.refresh().await.is_err());
    assert!(ask(&tokens, &old.token("old", &good())).await.is_ok());
    provider.set(&[new.jwk("new")]);
    tokens.refresh().await.unwrap();
    // Also one that was good before.
    assert!(ask(&tokens, &old.token("old", &good())).await.is_err());
    assert!(ask(&tokens, &token).await.is_ok());
}

#[tokio::test]
async fn a_remembered_token_expires_and_follows_the_file_of_callers() {
    let (signer, provider) = (Signer::es256(), Provider::default());
    provider.set(&[signer.jwk("a")]);
    let tokens = tokens(&provider);
    tokens.refresh().await.unwrap();
    let token = signer.token("a", &with("groups", json!(["ml", "x"])));
    let ask = async |text: &str, second: i64| {
        let callers = Arc::new(Callers::parse(text).unwrap());
        let at = Timestamp::from_second(second).unwrap();
        tokens.identify(token.as_bytes(), &callers, at).await
    };
    let line = r#"{"name":"ml","claim":"groups=ml","scopes":["admin"],"models":["*"]}"#;
    let may = |who: Arc<Identity>| who.may(Scope::Admin, On::Server);
    assert!(!may(ask("", NOW).await.unwrap()));
    assert!(may(ask(line, NOW).await.unwrap()));
    assert!(!may(ask("", NOW).await.unwrap()));
    assert_eq!(ask("", NOW + 91).await.err(), Some(Unknown::Expired));
}

#[test]
fn keys_for_other_ends_are_passed_over() {
    let signer = Signer::es256();
    let parse = |keys: &[Value]| {
        let text = json!({ "keys": keys }).to_string();
        KeySet::parse(text.as_bytes()).map(|set| set.count())
    };
    let with = |name: &str, value: Value| {
        let mut key = signer.jwk("a");
        key[name] = value;
        key
    };
    assert_eq!(parse(&[signer.jwk("a")]), Ok(1));
    assert_eq!(
        parse(&[with("alg", json!("ES256")), json!({"kty": "new"})]),
        Ok(1)
    );
    for wrong in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("RS256")),
        with("x", json!("AAAA")),
        with("x", json!("!")),
        json!({"kty": "oct", "k": "c2VjcmV0"}),
    ] {
        assert_eq!(
            parse(std::slice::from_ref(&wrong)),
            Err(KeySetError::NoKey),
            "{wrong}"
        );
    }
    assert_eq!(KeySet::parse(b"[]").err(), Some(KeySetError::Form));
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(KeySet::parse(&long).err(), Some(KeySetError::TooLarge));
}
