//! MLflow's own scoring client, and the bodies that pandas writes.

use serde_json::Value;
use tempfile::TempDir;

use crate::mlflow_server::command;
use crate::server::{Server, project};

#[tokio::test]
async fn mlflows_client_and_every_form_of_a_frame_get_the_same_answer() {
    let server = Server::start(&["model-examples/diabetes", "--engine", "onnxruntime"]).await;
    let home = TempDir::new().unwrap();
    let output = command(home.path())
        .arg(project().join("tests/it/mlflow_scoring.py"))
        .arg(server.address().to_string())
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", server.stderr());
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut answers = answers.as_object().unwrap().clone();
    assert_eq!(answers.remove("version").unwrap(), "3.17.2");
    let expected = answers["client"].clone();
    assert_eq!(expected.as_array().unwrap().len(), 3);
    assert!(answers.len() > 10, "{answers:?}");
    for (form, answer) in answers {
        assert_eq!(answer, expected, "{form}");
    }
}
