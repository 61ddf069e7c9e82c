//! A registry of one image, `app:1`, that asks for a login (OCI distribution, pulls alone).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

struct Content {
    login: String,
    /// The manifest's digest.
    image: String,
    blobs: BTreeMap<String, Vec<u8>>,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Serves an image of `layer`, a tar, to whoever shows `login`, `USER:PASSWORD`.
pub(crate) async fn start(layer: Vec<u8>, login: &str) -> SocketAddr {
    let layers = json!({ "type": "layers", "diff_ids": [digest(&layer)] });
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["x"] }, "rootfs": layers,
        "history": [{ "created_by": "a test" }],
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| {
        let (size, digest) = (bytes.len(), digest(bytes));
        json!({ "mediaType": kind, "size": size, "digest": digest })
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": part(CONFIG, &config),
        "layers": [part(LAYER, &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let image = digest(&manifest);
    let blobs = [config, layer, manifest].map(|bytes| (digest(&bytes), bytes)).into();
    let login = format!("Basic {}", STANDARD.encode(login));
    let content = Arc::new(Content { login, image, blobs });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let content = Arc::clone(&content);
            let answer = service_fn(move |request| {
                let answer = answer(&content, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // An engine tries TLS first.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    address
}

fn answer(content: &Content, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = Response::builder().header("Docker-Distribution-Api-Version", "registry/2.0");
    let shown = request.headers().get("Authorization").and_then(|shown| shown.to_str().ok());
    if shown != Some(content.login.as_str()) {
        let asks = "Basic realm=\"test\"";
        return answer.status(401).header("WWW-Authenticate", asks).body(Full::default()).unwrap();
    }
    let path = request.uri().path();
    if path == "/v2/" {
        return answer.body(Full::default()).unwrap();
    }
    let name = match path.strip_prefix("/v2/app/manifests/") {
        Some("1") => Some(content.image.as_str()),
        Some(digest) => Some(digest),
        None => path.strip_prefix("/v2/app/blobs/"),
    };
    let found = name.and_then(|name| content.blobs.get_key_value(name));
    let Some((name, bytes)) = found else {
        return answer.status(404).body(Full::default()).unwrap();
    };
    let kind = if *name == content.image { MANIFEST } else { "application/octet-stream" };
    let answer = answer.header("Content-Type", kind).header("Docker-Content-Digest", name);
    answer.body(bytes.clone().into()).unwrap()
}
