//! The served version follows a registry of files.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::scene::{Files, Load, answering, candidate_failures, loaded, metrics, until};

#[tokio::test]
async fn a_version_that_gives_nan_is_taken_back_and_stays_off_stage() {
    let files = Files::of(&[1.0, f32::NAN, 3.0]).await;
    let server = files.serve("", &[]).await;
    files.promote(2).await;
    until("version 2 never came", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    let mut requests = 0;
    until("version 2 was never taken back", &server, async || {
        requests += 1;
        answering(&server, "/invocations").await == Some(1)
    })
    .await;
    assert!(requests >= 19, "it had its 20 requests: {requests}");
    let text = metrics(&server).await;
    for line in [
        r#"onstage_candidate_failures_total{model="scale",reason="probation"} 1"#,
        r#"onstage_swaps_total{model="scale",outcome="rolled_back"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        answering(&server, "/invocations").await,
        Some(1),
        "not tried again by itself"
    );
    files.promote(3).await;
    until("version 3 never came", &server, async || {
        answering(&server, "/invocations").await == Some(3)
    })
    .await;
    server.terminate().await;
}

#[tokio::test]
async fn previous_versions_are_kept_as_long_as_they_should_be() {
    let files = Files::of(&[1.0, 2.0, 3.0]).await;
    let server = files
        .serve("keep_previous = 0\nprobation = '1s'", &[])
        .await;
    files.promote(2).await;
    until("version 2 never came", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    assert_eq!(
        loaded(&server).await,
        [1, 2],
        "the way back stays open through probation"
    );
    until("version 1 never left", &server, async || {
        loaded(&server).await == [2]
    })
    .await;
    server.terminate().await;

    let files = Files::of(&[1.0, 2.0, 3.0]).await;
    let server = files
        .serve("keep_previous = 1\nprobation = '0s'", &[])
        .await;
    for version in [2, 3] {
        files.promote(version).await;
        until("it never came", &server, async || {
            answering(&server, "/invocations").await == Some(version)
        })
        .await;
    }
    until("version 1 never left", &server, async || {
        loaded(&server).await == [2, 3]
    })
    .await;
    assert_eq!(
        answering(&server, "/models/scale/versions/2/invocations").await,
        Some(2)
    );
    server.terminate().await;
}

#[tokio::test]
async fn break_before_make_has_one_version_at_a_time() {
    let files = Files::of(&[1.0, 2.0]).await;
    let server = files.serve("swap = 'break-before-make'", &[]).await;
    files.promote(2).await;
    until("version 2 never came", &server, async || {
        answering(&server, "/invocations").await == Some(2)
    })
    .await;
    assert_eq!(loaded(&server).await, [2]);
    server.terminate().await;
}

#[tokio::test]
async fn what_does_not_fit_the_memory_budget_is_refused_with_figures() {
    let files = Files::of(&[1.0, 2.0]).await;
    let server = files.serve("", &["--memory-budget", "1KiB"]).await;
    let reason = r#"onstage_candidate_failures_total{model="scale",reason="memory"} 1"#;
    until(reason, &server, async || {
        metrics(&server).await.contains(reason)
    })
    .await;
    let (_, index) = server.post_json("/v2/repository/index", "{}").await;
    let told = index[0]["reason"].as_str().unwrap();
    assert!(
        told.contains("of the budget of 1.0 KiB (`engine.memory_budget`)"),
        "{told}"
    );
    assert_eq!(
        server.get("/v2/health/ready").await.status(),
        503,
        "nothing else serves"
    );
    server.terminate().await;
}

/// Four versions of which each really has to be loaded, moved to and fro under load. `benches/` has the figures.
#[tokio::test]
async fn a_storm_of_swaps_drops_no_request_and_mixes_no_answer() {
    let files = Files::of(&[1.0, 2.0, 3.0, 4.0]).await;
    let server = files.serve("", &[]).await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let load = Load::with(&server, "/invocations", 8, &body);
    for swap in 1..=24u64 {
        let version = swap % 4 + 1;
        files.promote(version).await;
        let serves = async || answering(&server, "/invocations").await == Some(version);
        until("the version never came on stage", &server, serves).await;
        // Once it was seen, no later request gets another one.
        for _ in 0..5 {
            assert!(serves().await, "{}", server.stderr());
        }
    }
    let (sent, failures) = load.end().await;
    assert!(sent > 500 && failures.is_empty(), "{sent}: {failures:?}");
    let text = metrics(&server).await;
    assert!(
        text.contains(r#"onstage_swaps_total{model="scale",outcome="published"} 25"#),
        "{text}"
    );
    assert_eq!(candidate_failures(&server).await, 0, "{text}");
    server.terminate().await;
}
