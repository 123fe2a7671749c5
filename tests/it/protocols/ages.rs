//! Connections that have had their time: clients move on to a replica that came later, and no request fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rstest::rstest;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::lifecycle::swap::scene::{counter, until};
use crate::protocols::grpc;
use crate::protocols::grpc::Client;
use crate::support::frames::Frames;
use crate::support::server::{Server, Starter};

const AGE: Duration = Duration::from_secs(2);

/// Clients of each kind.
const CLIENTS: usize = 6;

async fn replica(age: &str) -> Server {
    let serve = [
        "model-examples/iris",
        "--engine",
        "tract",
        "--max-connection-age",
        age,
    ];
    Starter::serve(&serve).start().await
}

/// Passes connections on to the replicas in turn, as a Service of Kubernetes does.
struct Balancer {
    address: SocketAddr,
    replicas: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    async fn start(first: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replicas = Arc::new(Mutex::new(vec![first]));
        let known = Arc::clone(&replicas);
        tokio::spawn(async move {
            let next = AtomicUsize::new(0);
            while let Ok((mut client, _)) = listener.accept().await {
                let to = {
                    let known = known.lock();
                    known[next.fetch_add(1, Ordering::Relaxed) % known.len()]
                };
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    // Whoever closes first has said all that there is to say.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, replicas }
    }
}

/// What the clients of a test have seen.
#[derive(Clone, Default)]
struct Seen {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, failure: Option<String>) {
        match failure {
            None => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
            Some(failure) => self.failed.lock().push(failure),
        }
    }
}

/// Posts without pause on one connection at a time.
async fn ask_http(client: reqwest::Client, url: String, seen: Seen) {
    let body = json!({ "inputs": [[5.1, 3.5, 1.4, 0.2]] });
    while seen.goes_on() {
        let answer = client.post(&url).json(&body).send().await;
        let failure = match answer {
            Ok(answer) if answer.status() == 200 => {
                answer.bytes().await.err().map(|error| format!("{error:?}"))
            }
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(format!("{error:?}")),
        };
        seen.note(failure);
    }
}

/// Three calls at a time on one connection.
async fn ask_grpc(client: Client, seen: Seen) {
    let call = |mut client: Client, seen: Seen| async move {
        while seen.goes_on() {
            let answer = client.model_infer(grpc::flowers()).await;
            match answer {
                // tonic gives up what it has not sent yet when it hears GOAWAY; other clients send it on another connection.
                Err(status) if was_not_sent(&status) => {}
                answer => seen.note(answer.err().map(|status| format!("{status:?}"))),
            }
        }
    };
    let one = || call(client.clone(), seen.clone());
    tokio::join!(one(), one(), one());
}

fn was_not_sent(status: &Status) -> bool {
    status.code() == Code::Cancelled && format!("{status:?}").contains("hyper::Error(Canceled")
}

/// Whether at least a third of the clients' connections is on the second replica.
async fn is_spread(replicas: [&Server; 2]) -> bool {
    let [first, second] = replicas;
    let on = async |server: &Server| counter(server, "onstage_connections").await;
    let (first, second) = (on(first).await, on(second).await);
    second * 2 >= first
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Http1,
    Http2,
    Grpc,
}

impl Kind {
    fn address(self, server: &Server) -> SocketAddr {
        match self {
            Self::Http1 | Self::Http2 => server.address(),
            Self::Grpc => server.grpc_address(),
        }
    }

    async fn client(self, at: SocketAddr, seen: Seen) {
        let url = format!("http://{at}/invocations");
        let http2 = reqwest::Client::builder().http2_prior_knowledge();
        match self {
            Self::Http1 => ask_http(reqwest::Client::new(), url, seen).await,
            Self::Http2 => ask_http(http2.build().unwrap(), url, seen).await,
            Self::Grpc => {
                ask_grpc(grpc::client_at(at).await, seen).await;
            }
        }
    }
}

#[rstest]
#[case(Kind::Http1)]
#[case(Kind::Http2)]
#[case(Kind::Grpc)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_move_on_to_a_new_replica_without_a_failed_request(#[case] kind: Kind) {
    let (first, second) = (replica("2s").await, replica("2s").await);
    let balancer = Balancer::start(kind.address(&first)).await;
    let seen = Seen::default();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(kind.client(balancer.address, seen.clone()));
    }
    until_connected(&first).await;
    assert!(
        !is_spread([&first, &second]).await,
        "all are where they came"
    );
    balancer.replicas.lock().push(kind.address(&second));
    sleep(AGE * 2).await;
    assert!(
        is_spread([&first, &second]).await,
        "not within twice the age"
    );
    seen.stop.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let answered = seen.answered.load(Ordering::Relaxed);
    let failed = seen.failed.lock().clone();
    assert!(
        answered > 500 && failed.is_empty(),
        "{answered}: {failed:?}"
    );
}

async fn until_connected(server: &Server) {
    until("not all clients are there", server, async || {
        counter(server, "onstage_connections").await >= CLIENTS as u64
    })
    .await;
}

/// What an old connection begins is answered, and a client that does not leave is sent away.
#[tokio::test]
async fn a_client_that_stays_is_served_and_leaves_in_the_end() {
    let server = replica("300ms").await;
    let mut frames = Frames::open(server.address()).await;
    sleep(Duration::from_millis(400)).await;
    let body = br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;
    let mut farewells = 0;
    for stream in [1, 3, 5] {
        frames.0.write_all(&Frames::begun(stream)).await.unwrap();
        frames
            .0
            .write_all(&Frames::frame(0, 1, stream, body))
            .await
            .unwrap();
        if stream == 1 {
            let (on, goaway) = frames.next(GOAWAY).await.unwrap();
            assert_eq!(
                (on, &goaway[..]),
                (0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0][..])
            );
            farewells += 1;
        }
        let (answered, _) = frames.next(HEADERS).await.unwrap();
        assert_eq!(answered, stream);
    }
    assert_eq!(farewells, 1);
    let ended = timeout(Duration::from_secs(20), frames.next(0xff)).await;
    assert!(ended.unwrap().is_none(), "it never ends");
}

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
