//! Connections with TLS, by certificates that are read again when their files have changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use futures::stream;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

use super::config::Tls;
use super::log::tell;
use crate::error::{Error, Result};

/// How long a client may take to agree on a connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Connections that are agreed on and not served yet.
const READY: usize = 64;

/// Certificates, as they were read last.
#[derive(Debug)]
pub(super) struct Certificates {
    files: Tls,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    config: Arc<ServerConfig>,
    /// What the files were then.
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
}

/// What tells a file from another one at the same path: number, length, and when it was changed.
type Stamp = (u64, u64, i64, i64);

impl Certificates {
    /// Reads certificates.
    ///
    /// # Errors
    /// `Io` or `Invalid`, naming the file.
    pub(super) fn read(files: &Tls) -> Result<Self> {
        Ok(Self {
            read: Mutex::new(Read {
                stamps: stamps(files),
                config: config(files)?,
                looked: Instant::now(),
            }),
            files: files.clone(),
        })
    }

    /// What is agreed on with the next client. Files that cannot be used are told of, and change nothing.
    fn current(&self) -> Arc<ServerConfig> {
        let mut read = self.read.lock();
        if read.looked.elapsed() >= LOOK {
            read.looked = Instant::now();
            let now = stamps(&self.files);
            if now != read.stamps {
                read.stamps = now;
                match config(&self.files) {
                    Ok(config) => {
                        read.config = config;
                        tell("certificates were read again");
                    }
                    Err(error) => tell(&format!("certificates stay as they were: {error}")),
                }
            }
        }
        Arc::clone(&read.config)
    }
}

/// The connections of a listener, as soon as they are agreed on.
pub(super) fn accepted(
    listener: TcpListener,
    certificates: Certificates,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(READY);
    let accepting = tokio::spawn(async move {
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                // As when there are too many files open: some will be closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = connection.set_nodelay(true);
            let acceptor = TlsAcceptor::from(certificates.current());
            let sender = sender.clone();
            // Who is slow or wrong keeps nobody else waiting.
            tokio::spawn(async move {
                let agreed = tokio::time::timeout(HANDSHAKE, acceptor.accept(connection)).await;
                if let Ok(Ok(agreed)) = agreed {
                    let _ = sender.send(Ok(agreed)).await;
                }
            });
        }
    });
    let accepting = super::rows::Stop(accepting.abort_handle());
    stream::unfold((receiver, accepting), |(mut receiver, accepting)| async {
        let next = receiver.recv().await?;
        Some((next, (receiver, accepting)))
    })
}

fn stamps(files: &Tls) -> Vec<Option<Stamp>> {
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.clients.as_ref(),
    ];
    let stamp = |found: Metadata| (found.ino(), found.len(), found.mtime(), found.mtime_nsec());
    let paths = paths.into_iter().flatten();
    paths
        .map(|path| std::fs::metadata(path).ok().map(stamp))
        .collect()
}

fn config(files: &Tls) -> Result<Arc<ServerConfig>> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unread(&files.key, e))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        Error::Invalid(format!("{}: {error}", path.display()))
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.certificate, &error))?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| wrong(path, &error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, &error))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unread(path, error))?;
    let found: Vec<_> = found
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| unread(path, error))?;
    if found.is_empty() {
        let path = path.display();
        return Err(Error::Invalid(format!("{path} has no certificate in it")));
    }
    Ok(found)
}

fn unread(path: &Path, error: pem::Error) -> Error {
    match error {
        pem::Error::Io(error) => Error::io(format!("{} cannot be read", path.display()), error),
        error => Error::Invalid(format!("{}: {error}", path.display())),
    }
}
