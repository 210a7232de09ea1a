//! `hyperslab serve`: answers over Arrow Flight SQL until it is told to stop.

use std::io::Write;

use hyperslab::error::Result;
use hyperslab::server::{Config, Server};

use super::args::Serve;
use super::{Outcome, complain};

/// Serves until a signal comes.
pub(crate) async fn run(serve: Serve) -> Outcome {
    match answer(serve).await {
        Ok(()) => Outcome::Done,
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

async fn answer(serve: Serve) -> Result<()> {
    let mut config = match &serve.file {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(listen) = serve.listen {
        config.listen = listen;
    }
    config.insecure |= serve.insecure;
    for root in serve.roots {
        let root_config = hyperslab::server::config::Root {
            location: root.value,
            writable: serve.writable,
        };
        config.roots.insert(root.key, root_config);
    }
    if !serve.reducer.is_empty() {
        let reducer = config.reducer.get_or_insert_default();
        reducer.stores.extend(serve.reducer);
    }
    if serve.check {
        config.check()?;
        // Roots and certificates are looked at, too.
        config.listen = "127.0.0.1:0".to_owned();
        Server::bind(config).await?;
        tell("the configuration is right");
        return Ok(());
    }
    let scheme = if config.tls.is_some() {
        "grpc+tls"
    } else {
        "grpc"
    };
    let server = Server::bind(config).await?;
    tell(&format!("listening on {scheme}://{}", server.address()));
    server.serve(stop()).await?;
    tell("stopped");
    Ok(())
}

/// Waits for the signal to end.
async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = interrupt.await;
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
    tell("stopping: statements that are running end, others are refused");
}

/// Tells a person. A standard error that is closed is nobody to tell.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
