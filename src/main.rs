//! interim
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let targets: Vec<String> = std::env::args()
        .skip(2)
        .take_while(|a| !a.starts_with("--"))
        .collect();
    let args: Vec<String> = std::env::args().collect();
    let port = args
        .iter()
        .position(|a| a == "--port")
        .map_or("8080".to_string(), |i| args[i + 1].clone());
    let mut settings = onstage::config::Settings::default();
    settings.server.port = port.parse()?;
    settings.server.grpc_port = Some(0);
    onstage::app::serve(onstage::app::ServeRequest {
        settings,
        targets,
        name: None,
    })
    .await
}
