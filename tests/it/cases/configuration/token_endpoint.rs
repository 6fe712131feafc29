//! To whom a grant is sent: the issuer's own host, or whom the configuration names.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::desk::Desk;

/// A server of our own that writes down the first line of each request, and answers all with the same body.
struct Host {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Host {
    async fn start(body: impl FnOnce(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let body = body(&url);
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&seen);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16 * 1024];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                noted.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Self { url, seen, _task: task }
    }

    fn has_seen(&self, line: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|seen| seen.starts_with(line))
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A desk whose issuer this is, and what `subscriptions list` does with it.
async fn list(issuer: &Host, named: Option<&str>) {
    let desk = Desk::new();
    let issuer = format!("maskinporten_issuer = {:?}", issuer.url);
    desk.edit("maskinporten_issuer = \"http://127.0.0.1:9/\"", &issuer);
    if let Some(named) = named {
        desk.edit("client_id", &format!("token_endpoint = {named:?}\nclient_id"));
    }
    let output = tokio::task::spawn_blocking(move || desk.command(&["subscriptions", "list"]));
    assert!(!output.await.unwrap().status.success(), "nobody gives a token here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_goes_to_the_issuers_own_host_unless_the_configuration_names_another() {
    let other = Host::start(|_| "{}".to_owned()).await;
    let elsewhere = format!("{}token", other.url);
    let metadata = |url: &str| {
        format!(
            "{{\"issuer\":{url:?},\"token_endpoint\":{elsewhere:?},\"access_token\":\"\",\"expires_in\":1}}"
        )
    };
    let issuer = Host::start(metadata).await;
    list(&issuer, None).await;
    assert!(issuer.has_seen("POST /token "), "{:?}", issuer.seen);
    assert_eq!(other.count(), 0, "a grant was sent to another host: {:?}", other.seen);
    let before = issuer.count();
    list(&issuer, Some(&elsewhere)).await;
    assert!(other.has_seen("POST /token "), "{:?}", other.seen);
    assert_eq!(issuer.count(), before, "nobody asks for what is configured");
}
