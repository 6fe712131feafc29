//! `brevdue simulator`: on any loopback address, and never over somebody's configuration.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    daemon::{BINARY, Daemon},
    eventually,
};

/// Ended when it is dropped.
struct Running(Child);

impl Running {
    fn start(dir: &Path, listen: SocketAddr, daemon: SocketAddr) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["simulator", "--dir"]).arg(dir);
        command.args(["--listen", &listen.to_string(), "--daemon", &daemon.to_string()]);
        let log = fs::File::options().create(true).append(true).open(dir.with_extension("log"));
        let log = log.unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    async fn listens(&self, at: SocketAddr) {
        eventually("a listening stand-in", async || {
            std::net::TcpStream::connect(at).is_ok().then_some(())
        })
        .await;
    }

    async fn stop(mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        eventually("its end", || std::future::ready(self.0.try_wait().unwrap())).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free(address: &str) -> SocketAddr {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_on_any_loopback_address_and_leaves_a_changed_configuration_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("sim");
    let (listen, hooks) = (free("127.0.0.77"), free("127.1.2.3"));
    let running = Running::start(&dir, listen, hooks);
    let config = dir.join("brevdue.toml");
    eventually("a configuration", async || config.exists().then_some(())).await;
    running.listens(listen).await;
    let daemon = Daemon::start(&config, &dir).await;
    eventually("a validated subscription", async || {
        let status = daemon.get("/v1/status").await;
        (status["subscriptions"][0]["state"] == "validated").then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
    running.stop().await;

    // Unchanged, it is written anew for other addresses; changed, it stays.
    let other = free("127.0.0.78");
    let before = fs::read_to_string(&config).unwrap();
    let running = Running::start(&dir, other, hooks);
    running.listens(other).await;
    eventually("the other address", async || {
        fs::read_to_string(&config).unwrap().contains(&other.to_string()).then_some(())
    })
    .await;
    running.stop().await;
    let mine = before.replace("[admin]", "# mine\n[admin]");
    fs::write(&config, &mine).unwrap();
    let key = fs::read_to_string(dir.join("maskinporten.pem")).unwrap();
    let running = Running::start(&dir, listen, hooks);
    running.listens(listen).await;
    eventually("new keys", async || {
        let now = fs::read_to_string(dir.join("maskinporten.pem")).unwrap();
        (now != key && !now.is_empty()).then_some(())
    })
    .await;
    let daemon = Daemon::start(&config, &dir).await;
    assert_eq!(fs::read_to_string(&config).unwrap(), mine);
    assert!(daemon.stop().await.success());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_a_folder_that_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for (file, text) in [
        ("brevdue.toml", "data_dir = \"/var/lib/brevdue\"\n"),
        ("maskinporten.pem", "a key that is needed"),
        ("tls/privkey.pem", "another"),
    ] {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let told = dir.join("told");
        let mut command = Command::new(BINARY);
        command.args(["simulator", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
        command.stdout(Stdio::null()).stderr(fs::File::create(&told).unwrap());
        // One that does not refuse runs until it is told to end.
        let mut running = Running(command.spawn().unwrap());
        let status =
            eventually("its end", || std::future::ready(running.0.try_wait().unwrap())).await;
        assert_eq!(status.code(), Some(1), "{file}");
        let why = fs::read_to_string(&told).unwrap();
        assert!(why.contains("choose another folder"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::remove_file(&path).unwrap();
    }
}
