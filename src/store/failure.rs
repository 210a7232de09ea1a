//! What stores say when they fail, in sentences of ours and without secrets.

use super::Store;
use crate::error::Error;

/// Where machines of clouds ask who they are.
const METADATA_SERVICES: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
];

/// Most characters of what a store says.
const SAID: usize = 300;

impl Store {
    /// The error for who wants to know what is in a directory of a web server.
    pub(super) fn not_listed(&self, key: &str) -> Error {
        Error::Unsupported(format!(
            "{}: web servers give no lists of what they have, so that only datasets whose metadata is in one document \
             (consolidated) can be read there",
            self.place(key)
        ))
    }

    /// The error for who reads an object.
    pub(super) fn remote_failed(&self, key: &str, error: &object_store::Error) -> Error {
        use object_store::Error as Failure;
        let place = self.place(key);
        let said = chain(error);
        if METADATA_SERVICES
            .iter()
            .any(|service| said.contains(service))
        {
            return Error::Forbidden(format!(
                "{place} cannot be read without credentials, of which neither the environment nor the options say anything"
            ));
        }
        match error {
            Failure::NotFound { .. } => self.not_found(key),
            Failure::Precondition { .. } => self.replaced(key),
            Failure::Unauthenticated { .. } | Failure::PermissionDenied { .. } => {
                let code = code(&said).map(|code| format!(" ({code})"));
                Error::Forbidden(format!(
                    "{place} must not be read: the store refuses the credentials, or wants some{}",
                    code.unwrap_or_default()
                ))
            }
            _ if said.contains("non-partial response")
                || said.contains("Range request not supported") =>
            {
                Error::Unsupported(format!(
                    "{place} cannot be read in parts: the server does not answer requests for ranges"
                ))
            }
            _ if said.contains("redirected to another host")
                || said.contains("is redirected more") =>
            {
                let reason = said.split("it is redirected").nth(1).unwrap_or_default();
                let reason = reason.split(['"', ')', '\n']).next().unwrap_or_default();
                Error::Forbidden(format!("{place} is not read: it is redirected{reason}"))
            }
            _ => Error::io(format!("{place} cannot be read"), plain(&said)),
        }
    }
}

/// What an error says, and what those say that it came of, as far as they say more.
fn chain(error: &object_store::Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        source = error.source();
    }
    said
}

/// The code by which stores that speak XML name an error.
fn code(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_name = code.chars().all(|c| c.is_ascii_alphanumeric());
    (is_name && !code.is_empty() && code.len() < 64).then_some(code)
}

/// What is said without what stands behind the question mark of URLs, where signatures are, and without documents.
fn plain(said: &str) -> String {
    let document = said.find(['<', '{']).unwrap_or(said.len());
    let (text, document) = said.split_at(document);
    let words = text
        .split_whitespace()
        .map(|word| match word.split_once('?') {
            Some((url, _)) if url.contains("://") => url,
            _ => word,
        });
    let mut text = words.collect::<Vec<_>>().join(" ");
    if let Some(code) = code(document) {
        text = format!("{} {code}", text.trim_end_matches(':'));
    }
    text.chars().take(SAID).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use object_store::Error as Failure;

    use super::*;

    fn said(
        text: &str,
        wrap: impl Fn(Box<dyn std::error::Error + Send + Sync>) -> Failure,
    ) -> Error {
        let store = Store::open("s3://bucket/a.nc").unwrap();
        store.remote_failed("", &wrap(text.into()))
    }

    #[test]
    fn nothing_secret_is_said() {
        let generic = |source| Failure::Generic {
            store: "S3",
            source,
        };
        let denied = |source| Failure::PermissionDenied {
            path: "a.nc".into(),
            source,
        };
        let signed = "Error performing GET https://host/a.nc?sig=hush&x=1 in 2ms - Server returned non-2xx status code: 500 \
                      Internal: <Error><Code>InternalError</Code><StringToSign>hush</StringToSign></Error>";
        let error = said(signed, generic);
        assert!(matches!(error, Error::Io { .. }));
        let Error::Io { source, .. } = &error else {
            return;
        };
        let text = format!("{error} {source}");
        assert!(
            text.contains("500") && text.contains("InternalError"),
            "{text}"
        );
        assert!(!text.contains("hush"), "{text}");
        let error = said(signed, denied);
        assert!(matches!(error, Error::Forbidden(_)));
        assert!(!error.to_string().contains("hush"), "{error}");
        let error = said("GET http://169.254.169.254/latest failed", generic);
        assert!(error.to_string().contains("without credentials"), "{error}");
        let redirected = "error following redirect for url (http://a/): it is redirected to another host, 10.0.0.1";
        let error = said(redirected, generic).to_string();
        assert_eq!(
            error,
            "s3://bucket/a.nc is not read: it is redirected to another host, 10.0.0.1"
        );
    }
}
